"""How kernels are compiled, called by address, and spread over threads."""
