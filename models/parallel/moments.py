"""DividedAdam: Adam whose moments are divided among ranks, so that each remembers one part of them alone.

All parameters, one behind the other, are cut into as many parts of the same size as there are ranks. Each rank updates
its part, and sends it to the others. Clipping and the update of an element are Adam's, and so are the bits.
(Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models", 2020, section 5: stage 1.)
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from tinygrad_attn import optim
from tinygrad_attn.kernels.adam import AdamSettings, AdamUpdate

from .ranks import Ranks

__all__ = ["DividedAdam"]

Array = np.ndarray[Any, Any]


class DividedAdam(optim.AdamW):
    """Adam, with a decay AdamW, on several ranks; ``state`` has this rank's part of each quantity.

    Args:
        params: as of `optim.AdamW`: leaf tensors, or groups of them.
        ranks: that hold the same parameters, and give the same gradients.
        options: those of `optim.AdamW`; without ``weight_decay`` there is none.
    """

    def __init__(self, params: Any, ranks: Ranks, **options: Any) -> None:
        self._ranks = ranks
        self._ends: list[int] = []  # of the parameters, one behind the other
        super().__init__(params, **{"weight_decay": 0.0, **options})

    def _part(self, position: int, rank: int) -> slice:
        """Which elements of a parameter, flattened, a rank updates."""
        if len(self._ends) != len(self.params):
            self._ends = list(itertools.accumulate(parameter.numel() for parameter in self.params))
        size = self.params[position].numel()
        before = self._ends[position] - size
        first, last = (self._ends[-1] * r // self._ranks.size - before for r in (rank, rank + 1))
        return slice(min(max(first, 0), size), min(max(last, 0), size))

    def _make_state(self) -> None:
        sizes = [part.stop - part.start for part in (self._part(i, self._ranks.rank) for i in range(len(self.params)))]
        for name in self._quantities(self.param_groups[0]):
            arrays = self.state.setdefault(name, [])
            if [array.size for array in arrays] != sizes:  # at first; a group that is added later moves the parts
                self.state[name] = [np.zeros(size, p.dtype) for p, size in zip(self.params, sizes, strict=True)]

    def _update_of(self, positions: list[int], gradients: list[Array], count: int, settings: AdamSettings) -> None:
        parts = {i: self._part(i, self._ranks.rank) for i in positions}
        own = [(i, g) for i, g in zip(positions, gradients, strict=True) if parts[i].stop > parts[i].start]
        flat = {i: np.ascontiguousarray(self.params[i].array).reshape(-1) for i in positions}
        if own:
            m, v = ([self._state_of(name, i) for i, _ in own] for name in ("exp_avg", "exp_avg_sq"))
            update = AdamUpdate([flat[i][parts[i]] for i, _ in own], m, v)
            update([gradient.reshape(-1)[parts[i]] for i, gradient in own], count, settings)
        self._ranks.timed(lambda: self._exchange(flat))
        for i, array in flat.items():
            if not np.shares_memory(array, self.params[i].array):
                self.params[i].array[...] = array.reshape(self.params[i].shape)

    def _exchange(self, flat: Mapping[int, Array]) -> None:
        """Send this rank's part of each parameter to the others, and receive theirs."""
        requests = []
        for i, array in flat.items():
            for rank in range(self._ranks.size):
                part = self._part(i, rank)
                if part.stop > part.start:
                    requests.append(self._ranks.communicator.Ibcast(array[part], rank))
        for request in requests:
            request.Wait()

    def state_dict(self) -> dict[str, Array]:
        """The state as of `optim.Adam`, whole on rank 0; the others have zeros in the same shapes."""
        self._make_state()
        arrays = {}
        for name, values in self.state.items():
            for i, array in enumerate(values):
                shape, dtype = self.params[i].shape, array.dtype
                whole = np.zeros(shape, dtype) if self._ranks.first else np.broadcast_to(dtype.type(0), shape)
                self._collect(i, array, whole)
                arrays[f"{name}.{i}"] = whole
        return {**arrays, "steps": np.asarray(self.steps), "counts": np.asarray(self.counts)}

    def _collect(self, position: int, part: Array, whole: Array) -> None:
        """Put all ranks' parts of a parameter's state together, on rank 0."""
        flat = whole.reshape(-1) if self._ranks.first else None
        for rank in range(self._ranks.size):
            where = self._part(position, rank)
            if where.stop == where.start:
                continue
            if rank == self._ranks.rank:
                if flat is not None:
                    flat[where] = part
                else:
                    self._ranks.communicator.Send(part, 0)
            elif flat is not None:
                self._ranks.communicator.Recv(flat[where], rank)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `optim.Adam`; every rank is given the whole state."""
        given = self._checked_state(state)
        for name, values in self.state.items():
            for i, array in enumerate(values):
                array[...] = given[f"{name}.{i}"].reshape(-1)[self._part(i, self._ranks.rank)]
        self._set_counts(given)
