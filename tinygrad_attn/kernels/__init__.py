"""Numba on plain arrays. README.md beside this file says in which order to read it."""
