"""Vector registers inside kernels, and the functions of mathematics on them."""
