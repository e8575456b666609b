"""The settings of a run, and its folder."""
