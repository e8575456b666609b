"""Experiments, one file for each claim about attention: measure, judge, and draw.

Every file of this folder is an experiment, ``python -m models lab NAME``, and has an ``EXPERIMENT``: see
`models.lab.form.experiment`.
"""
