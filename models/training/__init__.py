"""The training loop, the optimiser, checkpoints, messages and plots."""
