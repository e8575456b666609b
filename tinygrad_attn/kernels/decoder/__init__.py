"""A decoder's step for some rows: a program of kernels, run in one launch."""
