"""Vector registers: the instructions, vectors inside kernels, and the functions of mathematics on them."""
