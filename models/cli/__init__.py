"""The command line, one command a file.

A file of this folder that has a function ``run`` is a command, named like the file (see `parser.Command`). It does its
imports in ``run``, so that ``--help`` and a mistyped option answer at once.
"""
