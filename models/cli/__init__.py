"""The command line: one command a file, their parser, and the options they share.

A file of this folder that has a function ``run`` is a command with the file's name (see `parser.Command`). It imports
other modules inside ``run``, so that ``--help`` and the message about a mistyped option appear at once.
"""
