"""Scores, softmax and weighted sums without a matrix of all weights."""
