"""A GPT on the characters of a text by nanoGPT's recipe, from weights and batches that another library can draw too::

    python tests/benchmarks/bench_gpt.py TEXT [--size gpt-char] [--steps 2000] [--threads 2]

Prints the losses of the first ten steps, milliseconds per step, and after all 2,000 steps the validation loss. This is
the whole recipe, for whoever compares a library's losses step by step:

- symbols are the text's characters in order of their code; the first nine tenths are trained on, the rest validates;
- a batch is B windows of T + 1 characters from places that ``default_rng(1).integers(len(train) - T, size=B)`` draws;
- weights are drawn in turn by ``0.02 * default_rng(0).standard_normal(shape)``, those that write to the residual stream
  divided by √(2 N): embedding, positions, then by block queries with keys and values, output, and the two of the
  feed-forward network; norms have weights 1; nothing has a bias;
- AdamW with β 0.9 and 0.99, weight decay 0.1 of matrices alone, the gradients' norm clipped at 1;
- the learning rate of step n, from 0 on, is 0.001 (n + 1) / 101 in the first 100 steps, then falls as a cosine to
  0.0001 at step 2,000;
- validation is the mean over all windows of T characters that do not overlap and fill batches of B.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tinygrad_attn_models.gpt import GPT
from tinygrad_attn_models.runs.training import TrainingConfig
from tinygrad_attn_models.speed.workloads import WORKLOADS, RandomText, Workload, batch_loss
from tinygrad_attn_models.training.optimizer import make_optimizer

import tinygrad_attn as ta
from tinygrad_attn import schedule

STEPS, WARMUP = 2000, 100
RECIPE = TrainingConfig(
    learning_rate=1e-3, schedule="cosine", min_learning_rate=1e-4, warmup=WARMUP, beta2=0.99, weight_decay=0.1
)  # fmt: skip
SHOWN = 10
Ids = np.ndarray[Any, np.dtype[np.int64]]


def read(path: Path) -> tuple[Ids, Ids, int]:
    """The ids of the training text and of the validation text, and the number of characters there are."""
    text = path.read_bytes().decode("utf-8")
    number = {character: i for i, character in enumerate(sorted(set(text)))}
    ids = np.array([number[character] for character in text], np.int64)
    cut = int(0.9 * len(ids))
    return ids[:cut], ids[cut:], len(number)


def batches(ids: Ids, size: int, length: int) -> Iterator[RandomText]:
    """Batches of windows from random places, without end."""
    rng = np.random.default_rng(1)
    while True:
        yield _batch(ids[rng.integers(len(ids) - length, size=size)[:, None] + np.arange(length + 1)])


def windows(ids: Ids, size: int, length: int) -> Iterator[RandomText]:
    """All full batches of windows, one window after the other."""
    starts = np.arange((len(ids) - 1) // (length * size) * size) * length
    for some in starts.reshape(-1, size):
        yield _batch(ids[some[:, None] + np.arange(length + 1)])


def _batch(symbols: Ids) -> RandomText:
    return RandomText(ta.Tensor(symbols[:, :-1].copy()), ta.Tensor(symbols[:, 1:].copy()))


def draw_weights(model: GPT) -> None:
    """Give a model the recipe's first weights: in the order of its parameters, which is that of the recipe."""
    rng, onto_stream = np.random.default_rng(0), 0.02 / math.sqrt(2 * len(model.blocks))
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            parameter.array[...] = 1.0
        else:
            std = onto_stream if name.endswith(("out_proj.weight", "linear2.weight")) else 0.02
            parameter.array[...] = std * rng.standard_normal(parameter.shape)


def learning_rate(step: int) -> float:
    """Of step 0, 1, …; warmup would reach the largest rate a step later than `schedule.cosine` does."""
    if step < WARMUP:
        return RECIPE.learning_rate * (step + 1) / (WARMUP + 1)
    return schedule.cosine(RECIPE.learning_rate, STEPS, WARMUP, RECIPE.min_learning_rate)(step)


def train(workload: Workload, path: Path, steps: int) -> None:
    """Train, and print the figures."""
    training, validation, vocabulary = read(path)
    if vocabulary != workload.vocabulary:
        raise SystemExit(f"{path} has {vocabulary} characters; the recipe is for Shakespeare's {workload.vocabulary}")
    model = workload.make()
    assert isinstance(model, GPT)
    draw_weights(model)
    optimizer = make_optimizer(RECIPE, model)
    loss_of = ta.capture(lambda *tensors: batch_loss(model, RandomText(*tensors)))
    losses, times, processor = [], [], []
    size, length = workload.batch_size, workload.target_length
    for step, batch in enumerate(itertools.islice(batches(training, size, length), steps)):
        began, cpu = time.perf_counter(), time.process_time()
        optimizer.lr = learning_rate(step)
        optimizer.zero_grad()
        loss = loss_of(*batch)
        optimizer.step(clip_norm=RECIPE.clip_norm)
        losses.append(float(loss.item()))
        times.append(time.perf_counter() - began)
        processor.append(time.process_time() - cpu)
        if step + 1 == min(SHOWN, steps):
            print("losses", *(f"{loss:.7f}" for loss in losses), flush=True)
    warm = times[2:], processor[2:]
    if all(warm):
        median, cpu = map(statistics.median, warm)
        print(f"a step {median * 1e3:.2f} ms (median), {cpu * 1e3:.2f} ms of processor time; first {times[0]:.1f} s")
    if steps == STEPS:
        print(f"mean loss of the last 100 steps {statistics.fmean(losses[-100:]):.4f}")
        print(f"validation loss {validate(model, windows(validation, size, length)):.4f}")


def validate(model: GPT, batches: Iterator[RandomText]) -> float:
    """The mean loss over the batches, which are all of one size."""
    model.eval()
    with ta.no_grad():
        return statistics.fmean(float(batch_loss(model, batch).item()) for batch in batches)


def main() -> None:
    sizes = [name for name, workload in WORKLOADS.items() if workload.source_length is None]
    parser = argparse.ArgumentParser(description="Train a GPT on characters by nanoGPT's recipe.")
    parser.add_argument("text", type=Path, help="Karpathy's tinyshakespeare, for the losses of the README")
    parser.add_argument("--size", choices=sizes, default="gpt-char")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--threads", type=int, default=ta.get_num_threads())
    options = parser.parse_args()
    ta.set_num_threads(options.threads)
    train(WORKLOADS[options.size], options.text, options.steps)


if __name__ == "__main__":
    main()
