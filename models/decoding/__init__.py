"""Decoding: greedy and beam search, batches of sentences, and the attention weights of a translation."""
