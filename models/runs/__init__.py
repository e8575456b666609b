"""The settings of a run (a TOML file), and its folder: checkpoints, log, results."""
