"""Metrics, BLEU and chrF, the report of a run, plots, and a comparison of runs."""
