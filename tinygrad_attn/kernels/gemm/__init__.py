"""The matrix product: packed, register-blocked, spread over threads; and products with matrices kept packed."""
