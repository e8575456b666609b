"""A language model whose layers announce nothing that a learner looks for."""

from __future__ import annotations

from tinygrad_attn_models.interface import LanguageModel

from tinygrad_attn import Tensor, nn


class Silent(LanguageModel):
    """An embedding and an output layer, of 9 symbols."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.output = nn.Embedding(9, 6), nn.Linear(6, 9)

    def forward(self, text: Tensor, *, need_weights: bool = False) -> Tensor:
        return self.output(self.embedding(text))
