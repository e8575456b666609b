"""Training: epochs of batches, checkpoints, and the messages and pictures of a run."""
