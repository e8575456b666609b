"""Numba on plain arrays. Read `runtime` first, then `simd`, `gemm`, and the pointwise kernels beside them."""
