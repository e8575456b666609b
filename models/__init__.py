"""The attention models, and what feeds, trains and serves them.

Built on ``tinygrad_attn``, which knows nothing of them.
"""
