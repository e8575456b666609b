"""Optimisers, and clipping of the gradient's norm.

optimizer = Adam(model.parameters(), lr=1e-3)
for batch in batches:
    optimizer.zero_grad()
    loss(batch).backward()
    optimizer.step(clip_norm=1.0)
"""

from tinygrad_attn.nn.utils import clip_grad_norm_
from tinygrad_attn.optim import lr_scheduler
from tinygrad_attn.optim.adam import Adam, AdamW
from tinygrad_attn.optim.optimizer import Optimizer
from tinygrad_attn.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "clip_grad_norm_", "lr_scheduler"]
