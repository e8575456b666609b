"""One file for each claim: each trains what it needs, and prints and draws what came out.

A file of this folder that has a function ``run(folder, seed)``, which returns the exit code, is an experiment, named
like the file: ``python -m models lab NAME``.
"""
