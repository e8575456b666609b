"""Greedy translation beside PyTorch's: sentences per second of trained models, at several batch sizes.

``python tests/benchmarks/bench_decoding.py RUN [RUN ...] --sentences FILE``, where RUN is a folder that
``python -m models train`` has written, of a Transformer or a Bahdanau model, and FILE holds one source sentence a line.

Both sides get the sentences as ids and have the same weights, and the script fails unless their translations are the
same. PyTorch's side comes in two manners (see `torch_decoding`): "torch" decodes a batch until its last sentence has
ended, "torch-dropping" leaves finished sentences out. A ratio above 1 means that we are faster.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness import run_in_process

SIDES = ("ours", "torch", "torch-dropping")
BATCHES, FEWEST_SENTENCES = 8, 64

Translate = Callable[[Sequence[Sequence[int]], int], list[list[int]]]
"""Sentences and the size of a batch, to translations; all are ids."""


def prepare_ours(folder: Path, max_length: int) -> Translate:
    from tinygrad_attn_models.decoding.translate import translate
    from tinygrad_attn_models.runs.config import DecodingConfig
    from tinygrad_attn_models.runs.folder import Run

    _, model = Run.load(folder)

    def run(sentences: Sequence[Sequence[int]], batch_size: int) -> list[list[int]]:
        return translate(model, sentences, DecodingConfig(batch_size=batch_size, max_length=max_length, beam=1))

    return run


def prepare_torch(folder: Path, max_length: int, dropping: bool) -> Translate:
    import torch
    from tinygrad_attn_models.runs.folder import BEST, Run
    from torch_decoding import TorchBahdanau, TorchTransformer, translate

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    run, arrays, _ = Run.open(folder, BEST)
    settings = run.config.model
    if settings.name not in ("transformer", "bahdanau") or getattr(settings, "positions", "sinusoidal") != "sinusoidal":
        raise SystemExit(f"{folder} holds neither a Bahdanau model nor a Transformer with sinusoidal positions")
    make = TorchTransformer if settings.name == "transformer" else TorchBahdanau
    model = make(settings, len(run.source), len(run.target))
    model.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
    model.eval()
    return lambda sentences, batch_size: translate(model, sentences, batch_size, max_length, dropping)


def prepare(side: str, folder: Path, max_length: int) -> Translate:
    """The side's function."""
    if side == "ours":
        return prepare_ours(folder, max_length)
    return prepare_torch(folder, max_length, dropping=side == "torch-dropping")


def encoded(folder: Path, path: Path) -> list[list[int]]:
    """The lines of a file as a run's ids."""
    from tinygrad_attn_models.runs.folder import BEST, Run

    run, _, _ = Run.open(folder, BEST)
    return [run.source.encode(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def chosen(sentences: Sequence[Any], batch_size: int) -> Sequence[Any]:
    """As many of the sentences as are timed together at a batch size."""
    return sentences[: max(FEWEST_SENTENCES, BATCHES * batch_size)]


def measure(side: str, folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """For each batch size the seconds, the number of sentences and their translations, after a first small batch."""
    translate, sentences = prepare(side, folder, options.max_length), encoded(folder, options.sentences)
    found = []
    for size in options.batch_sizes:
        part = chosen(sentences, size)
        translate(part[:size], size)
        start = time.perf_counter()
        translations = translate(part, size)
        found.append({"seconds": time.perf_counter() - start, "count": len(part), "translations": translations})
    return found


def compare_sides(folder: Path, options: argparse.Namespace) -> None:
    """Measure all sides in turns, check that they translate alike, and print a table of their best times."""
    arguments = [str(folder), "--sentences", str(options.sentences), "--max-length", str(options.max_length)]
    arguments += ["--batch-sizes", *map(str, options.batch_sizes)]
    rates = {side: [0.0] * len(options.batch_sizes) for side in options.sides}
    translations: list[list[list[int]]] = []
    for _ in range(options.rounds):
        for side in options.sides:
            found = run_in_process(__file__, [*arguments, "--measure", side], options.threads)
            rates[side] = [max(rate, f["count"] / f["seconds"]) for rate, f in zip(rates[side], found, strict=True)]
            translated = [each["translations"] for each in found]
            translations = translations or translated
            check_same(translations, translated, side, options)
    threads = f"{options.threads} thread{'s' * (options.threads > 1)}"
    print(f"\n{folder.name}, {threads}, sentences per second, best of {options.rounds} rounds; translations are equal")
    first, *others = options.sides
    print("batch", *(f"{side:>16}" for side in options.sides), *(f"{first + '/' + other:>20}" for other in others))
    for i, size in enumerate(options.batch_sizes):
        ratios = [f"{rates[first][i] / rates[other][i]:20.2f}" for other in others]
        print(f"{size:>5}", *(f"{rates[side][i]:16.1f}" for side in options.sides), *ratios)


def check_same(
    expected: list[list[list[int]]], found: list[list[list[int]]], side: str, options: argparse.Namespace
) -> None:
    """Exit if a side translates otherwise than the first did."""
    for size, theirs, ours in zip(options.batch_sizes, found, expected, strict=True):
        differing = [i for i, pair in enumerate(zip(theirs, ours, strict=True)) if pair[0] != pair[1]]
        if differing:
            i = differing[0]
            raise SystemExit(
                f"batch size {size}: {side} translates {len(differing)} of {len(ours)} sentences otherwise than "
                f"{options.sides[0]}, first line {i + 1}: {theirs[i]} and not {ours[i]}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description="Time greedy translation beside PyTorch's.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a folder written by python -m models train")
    parser.add_argument("--sentences", type=Path, required=True, help="a file of source sentences, one a line")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 32, 64, 128])
    parser.add_argument("--max-length", type=int, default=60, help="the most tokens of a translation")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--measure", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.runs[0], options)))
        return
    for folder in options.runs:
        compare_sides(folder, options)


if __name__ == "__main__":
    main()
