"""The section training of a config."""

from __future__ import annotations

from dataclasses import dataclass

from tinygrad_attn.schedule import SCHEDULES, needs_warmup, parameters

from ..setting import ConfigError, Section, setting
from .bleu_tokenizers import BLEU_TOKENIZERS

__all__ = ["TrainingConfig"]


@dataclass(frozen=True)
class TrainingConfig(Section):
    """How a model is trained."""

    section = "training"

    seed: int = setting(0, "seed of weights, order and dropout", minimum=0)
    epochs: int = setting(6, "passes over the training pairs", minimum=1)
    max_steps: int = setting(0, "end after this many steps, if epochs do not end before; 0 sets no limit", minimum=0)
    batch_type: str = setting("sentences", "the unit of batch_size", choices=("sentences", "tokens"))
    batch_size: int = setting(
        64, "the largest size of a batch; tokens are counted with padding, source and target separately", minimum=1
    )
    gradient_accumulation_steps: int = setting(
        1,
        "batches whose gradients are summed for one step of the optimiser, as of one batch so many times as large",
        minimum=1,
    )
    shards: int = setting(
        0,
        "parts of every batch whose gradients are summed in a fixed order, so that training has the same bits on any "
        "number of processes; 0 makes one part for each process, and the sum is faster",
        minimum=0,
    )
    learning_rate: float = setting(0.004, "Adam's largest learning rate; the schedule noam ignores it", above=0)
    schedule: str = setting(
        "linear",
        "the learning rate after warmup: constant, decaying to 0 linearly or as a cosine, or as 1/√step; noam is the "
        "schedule of the Transformer's paper",
        choices=SCHEDULES,
    )
    warmup: int = setting(0, "steps of linear warmup from 0; at least 1 for inverse_sqrt and noam", minimum=0)
    min_learning_rate: float = setting(
        0.0,
        "the learning rate to which the schedules linear and cosine decay, such as a tenth of learning_rate",
        minimum=0,
    )
    noam_factor: float = setting(1.0, "a factor of noam's learning rate", above=0)
    beta1: float = setting(0.9, "Adam's β₁, the decay rate of the mean of gradients", minimum=0, below=1)
    beta2: float = setting(0.999, "Adam's β₂, the decay rate of the mean of squared gradients", minimum=0, below=1)
    eps: float = setting(1e-8, "Adam's ε, added to the denominator", above=0)
    divided_moments: bool = setting(
        False, "divide Adam's moments among the processes of the run, where memory is short; the bits are the same"
    )
    weight_decay: float = setting(
        0.0, "decoupled weight decay (AdamW) of matrices; vectors, such as biases and norms, have none", minimum=0
    )
    clip_norm: float = setting(
        1.0, "the global norm to which larger gradients are scaled down; 0 does not clip", minimum=0
    )
    label_smoothing: float = setting(
        0.0, "ε of label smoothing: probability spread evenly over all symbols", minimum=0, below=1
    )
    teacher_forcing: float = setting(
        1.0,
        "probability that the decoder reads the reference token, not its own; below 1 (scheduled sampling) is slower",
        minimum=0,
        most=1,
    )
    patience: int = setting(
        0, "stop after this many epochs without a better one, or a perfect one; 0 trains all epochs", minimum=0
    )
    early_stopping_metric: str = setting(
        "loss",
        "the validation figure that says which epoch is the best, for patience and for the weights that are kept",
        choices=("loss", "bleu", "exact_match"),
    )
    tensorboard: bool = setting(False, "write each epoch's figures for TensorBoard too, by tensorboardX")
    bleu_tokenizer: str = setting(
        "",
        "what BLEU counts as a word, in validation and evaluate, as sacrebleu names it; empty: as suits the task",
        choices=("", *BLEU_TOKENIZERS),
    )
    average: int = setting(
        0, "average the weights of this many last epochs, and keep them if better; 0 or 1 turns it off", minimum=0
    )
    capture: bool = setting(
        True, "run steps whose shapes recur as a program, without building the graph; the bits are the same"
    )
    keep_checkpoints: bool = setting(
        False,
        "keep the weights of steps 0, 1, 3, 10, 30, 100, … and of the last, for the microscope's view Over training",
    )
    recompute: bool = setting(
        False,
        "compute the inside of a Transformer's layers again in the backward pass, in place of keeping it: less memory "
        "for a third more time, the same bits",
    )
    checkpoint_seconds: float = setting(
        30.0, "seconds between checkpoints within an epoch; 0 writes them between epochs only", minimum=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if needs_warmup(self.schedule) and not self.warmup:
            raise ConfigError(f"training.schedule is {self.schedule!r}, which needs training.warmup, as in 4000")
        self._check_min_learning_rate()

    def _check_min_learning_rate(self) -> None:
        least = self.min_learning_rate
        if least and "min_lr" not in parameters(self.schedule):
            decaying = " or ".join(repr(name) for name in SCHEDULES if "min_lr" in parameters(name))
            raise ConfigError(
                f"training.min_learning_rate is {least:g}, and training.schedule {self.schedule!r} does not decay to a "
                f"least rate; set it to 0, or choose the schedule {decaying}"
            )
        if least > self.learning_rate:
            raise ConfigError(
                f"training.min_learning_rate is {least:g}, above training.learning_rate {self.learning_rate:g}; lower "
                "the first, or raise the second"
            )
