"""Gradients of a step: of the mean loss over the target tokens of all its batches, on one process or on several.

A step's batches are as one large batch: each has its share of all tokens as its weight. On several processes each
computes shards of every batch, likewise, and the gradients are summed (see `models.parallel`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import tinygrad_attn as ta
from tinygrad_attn import Tensor, random

from ..data import Batch
from ..evaluation.metrics import correct_tokens, mean_loss
from ..interface import LanguageModel
from ..parallel.fixed_order import FixedOrderSum
from ..parallel.overlapped import OverlappedSum
from ..parallel.ranks import Ranks
from ..parallel.shares import seed_for, shard_of
from ..runs.training import TrainingConfig
from .sampling import sampled_logits

__all__ = ["Gradients"]


class Gradients:
    """Computes the gradients of a model.

    Args:
        model: in training mode.
        settings: of training.
        ranks: the processes that share the work.
    """

    def __init__(self, model: LanguageModel, settings: TrainingConfig, ranks: Ranks) -> None:
        self.model = model
        self.settings = settings
        self.ranks = ranks
        self.shards = settings.shards or ranks.size
        self.whole = self.shards == 1 and settings.gradient_accumulation_steps == 1
        self.captured = ta.capture(self._loss if self.whole else self._share_of_loss)
        self._fixed_order, self._overlapped = None, None
        parameters = list(model.parameters())
        if settings.shards > 1:
            self._fixed_order = FixedOrderSum(parameters, ranks, self.shards)
        elif ranks.size > 1:
            self._overlapped = OverlappedSum(parameters, ranks)

    def __call__(self, batches: Sequence[Batch], step: int) -> tuple[float, int]:
        """Leave the gradients in the parameters' ``.grad``, which is None before.

        Args:
            batches: at least one.
            step: its number, of which with the seed and the shard is a function what is drawn by chance.

        Returns:
            The mean loss, and how many target tokens had the highest probability.
        """
        tokens = sum(batch.target_tokens for batch in batches)
        if self.shards == 1:
            return self._of_parts([(batch, batch.target_tokens / tokens) for batch in batches])
        found: dict[int, tuple[float, int]] = {}

        def work(shard: int) -> None:
            seed_for(self.settings.seed, step, shard)
            parts = [shard_of(batch, shard, self.shards) for batch in batches]
            found[shard] = self._of_parts([(part, part.target_tokens / tokens) for part in parts if len(part)])

        if self._fixed_order is not None:
            self._fixed_order(work)
        else:
            assert self._overlapped is not None
            work(self.ranks.rank)
            self._overlapped.finish()
        seed_for(self.settings.seed, step, self.shards)  # as every rank goes on, whatever its shards have drawn
        of_shards = {shard: one for each in self.ranks.gathered(found) for shard, one in each.items()}
        losses, correct = zip(*[of_shards[shard] for shard in range(self.shards)], strict=True)
        return float(sum(losses)), int(sum(correct))

    def _of_parts(self, parts: Sequence[tuple[Batch, float]]) -> tuple[float, int]:
        """The loss and the right tokens of batches with their shares of the step's tokens; gradients accumulate."""
        value, right = 0.0, 0
        for number, (batch, share) in enumerate(parts, 1):
            if self._overlapped is not None and number == len(parts):
                self._overlapped.expect()
            logits, loss = self._of_batch(batch, share)
            value += loss
            right += correct_tokens(logits, batch)
        return value, right

    def _of_batch(self, batch: Batch, share: float) -> tuple[Tensor, float]:
        """Add the gradients of a batch with this share of the step's tokens; returns the logits (B, T, V) and its share
        of the loss."""
        settings = self.settings
        tensors = [Tensor(array) for array in (*batch.given, batch.target_in, batch.target_out)]
        weight = [] if self.whole else [Tensor(np.array(share, next(self.model.parameters()).dtype))]
        if settings.capture and settings.teacher_forcing == 1.0:
            loss, logits = self.captured(*weight, *tensors)
        else:
            if settings.teacher_forcing < 1.0:
                logits = sampled_logits(self.model, batch, settings.teacher_forcing, random.generator())
            else:
                logits = self.model(*tensors[:-1])
            loss = mean_loss(logits, tensors[-1], settings.label_smoothing)
            loss = loss * weight[0] if weight else loss
            loss.backward()
        return logits, float(loss.item())

    def _loss(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, given the reference prefix, and the logits; the last tensor is what is to be said."""
        logits = self.model(*tensors[:-1])
        return mean_loss(logits, tensors[-1], self.settings.label_smoothing), logits

    def _share_of_loss(self, share: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """`_loss`, the loss times a batch's share of all tokens: their sum is the loss of all, and so are gradients."""
        loss, logits = self._loss(*tensors)
        return loss * share, logits
