"""Translation beside CTranslate2's, with the same weights: sentences per second, greedy and by beam.

``python tests/benchmarks/bench_ctranslate2.py RUN --sentences FILE``, where RUN is a folder that
``python -m models train --config multi30k-transformer`` has written, and FILE holds one source sentence a line. Needs
``ctranslate2==4.8.5``. Both sides compute in float32, and with weights of 8 bits. With ``--references FILE`` BLEU is
told, too.

Timed is from ids to ids (CTranslate2: their names), in one call for all sentences; both sides sort them by length and
cut them into batches. Sides run in turn, each in a process of its own; the best round counts. "equal" is the share of
translations that are those of our float32 of the same beam and batch size; a ratio above 1 means that we are faster.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from operator import eq
from pathlib import Path
from typing import Any

from bench_decoding import encoded
from harness import run_in_process

Translate = Callable[[list[list[int]], int, int], list[list[int]]]
"""Sentences, the size of a batch and the width of the beam, to translations; all are ids."""


def prepare_ours(options: argparse.Namespace, compute_type: str) -> Translate:
    from tinygrad_attn_models.decoding.translate import translate
    from tinygrad_attn_models.runs.config import DecodingConfig
    from tinygrad_attn_models.runs.folder import Run

    _, model = Run.load(options.run)

    def run(sentences: list[list[int]], batch_size: int, beam: int) -> list[list[int]]:
        settings = DecodingConfig(
            batch_size=batch_size, max_length=options.max_length, beam=beam, length_penalty=0.0,
            int8=compute_type == "int8",
        )  # fmt: skip
        return translate(model, sentences, settings)

    return run


def prepare_theirs(options: argparse.Namespace, compute_type: str) -> Translate:
    import ctranslate2

    translator = ctranslate2.Translator(
        str(options.converted), device="cpu", compute_type=compute_type, inter_threads=1, intra_threads=options.threads
    )
    # 1e-9 weighs nothing. With it the search stops when as many hypotheses have ended as the beam is wide, which is
    # earlier than with 0; ours waits for a likelier one.
    settings = {"length_penalty": 1e-9, "max_decoding_length": options.max_length, "min_decoding_length": 0}

    def run(sentences: list[list[int]], batch_size: int, beam: int) -> list[list[int]]:
        named = [[str(i) for i in sentence] for sentence in sentences]
        found = translator.translate_batch(
            named, max_batch_size=batch_size, beam_size=beam, max_input_length=0, **settings
        )
        return [[int(i) for i in result.hypotheses[0]] for result in found]

    return run


def measure(side: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """For each beam and batch size the seconds and the translations, after a small first call."""
    who, compute_type = side.split("-")
    translate = (prepare_ours if who == "ours" else prepare_theirs)(options, compute_type)
    sentences = encoded(options.run, options.sentences)[: options.count]
    found = []
    for beam in options.beams:
        for size in options.batch_sizes:
            translate(sentences[: max(size, 8)], size, beam)
            start = time.perf_counter()
            translations = translate(sentences, size, beam)
            found.append({"seconds": time.perf_counter() - start, "translations": translations})
    return found


def compare_sides(options: argparse.Namespace) -> None:
    """Measure all sides in turns and print a table of their best times."""
    pairs = [(f"ours-{compute_type}", f"ct2-{compute_type}") for compute_type in options.types]
    sides = [side for pair in pairs for side in pair]
    arguments = [str(options.run), "--sentences", str(options.sentences), "--converted", str(options.converted)]
    arguments += ["--count", str(options.count), "--max-length", str(options.max_length)]
    arguments += ["--threads", str(options.threads), "--beams", *map(str, options.beams)]
    arguments += ["--batch-sizes", *map(str, options.batch_sizes)]
    rounds: dict[str, list[Any]] = {side: [] for side in sides}
    for _ in range(options.rounds):
        for side in sides:
            rounds[side].append(run_in_process(__file__, [*arguments, "--measure", side], options.threads))
    cases = [(beam, size) for beam in options.beams for size in options.batch_sizes]
    print(f"{'beam':>4} {'batch':>5}", *(f"{side:>14}" for side in sides), *(f"{f'{a}/{b}':>26}" for a, b in pairs))
    for number, (beam, size) in enumerate(cases):
        seconds = {side: min(found[number]["seconds"] for found in rounds[side]) for side in sides}
        found = {side: rounds[side][0][number]["translations"] for side in sides}
        rates = [f"{len(found[side]) / seconds[side]:12.1f}/s" for side in sides]
        ratios = [f"{seconds[theirs] / seconds[ours]:26.2f}" for ours, theirs in pairs]
        print(f"{beam:>4} {size:>5}", *rates, *ratios, flush=True)
        reference = found[sides[0]]
        equal = [sum(map(eq, found[side], reference)) / len(reference) for side in sides]
        print(f"{'equal':>10}", *(f"{share:14.1%}" for share in equal))
        if options.references:
            print(f"{'BLEU':>10}", *(f"{bleu(options, found[side]):14.2f}" for side in sides))


def bleu(options: argparse.Namespace, translations: list[list[int]]) -> float:
    """BLEU of the translations of the first sentences, without case."""
    import sacrebleu
    from tinygrad_attn_models.runs.folder import BEST, Run

    target = Run.open(options.run, BEST)[0].target
    references = options.references.read_text(encoding="utf-8").splitlines()[: len(translations)]
    texts = [target.decode(ids) for ids in translations]
    return float(sacrebleu.corpus_bleu(texts, [references], lowercase=True).score)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time translation beside CTranslate2's.")
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a trained Transformer")
    parser.add_argument("--sentences", type=Path, required=True, help="a file of source sentences, one a line")
    parser.add_argument("--references", type=Path, help="their translations, one a line")
    parser.add_argument("--count", type=int, default=1000, help="how many of them")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 32, 128])
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--types", nargs="+", default=["float32", "int8"], help="what both sides compute in")
    parser.add_argument("--max-length", type=int, default=60, help="the most tokens of a translation")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--converted", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options)))
        return
    from ct2_models import convert

    with tempfile.TemporaryDirectory() as folder:
        options.converted = Path(folder) / "model"
        convert(options.run, options.converted)
        compare_sides(options)


if __name__ == "__main__":
    main()
