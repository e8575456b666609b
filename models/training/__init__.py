"""Epochs of batches, and what a run tells its reader while they pass."""
