"""Lessons, to be read in order: each is a program that builds one idea from nothing and holds it to the real thing.

A lesson is a file ``NN_name.py`` of this folder, plain Python in the percent format: ``# %% [markdown]`` begins a text,
``# %%`` a piece of code, so that VS Code, PyCharm and Jupyter (with jupytext) open it as a notebook. Below a text in
English stands the same in Korean, marked ``lang="ko"``; the code has one home, between them. Every claim is executed.
"""
