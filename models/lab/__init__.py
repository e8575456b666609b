"""Experiments, one file for each claim about attention: train, measure, print and draw.

A file of this folder that has a function ``run(folder, seed)``, which returns the exit code, is an experiment with
the file's name: ``python -m models lab NAME``.
"""
