"""Greedy and beam search, translation in batches, and the attention weights of a translation."""
