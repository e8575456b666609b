"""Training: the loop over epochs, the optimiser, checkpoints, messages and plots."""
