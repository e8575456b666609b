"""Trains the demos, and makes the page in the repository for those who only look.

    python -m tinygrad_attn_models.demos.make [NAME …]
    python -m tinygrad_attn_models.demos.make --evaluate [NAME …]
    python -m tinygrad_attn_models.demos.make --page

A minute or two of processor time each. The same seed, versions and kind of processor give the same bits.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from ..console.progress import PlainProgress
from ..data import ParallelText, train_tokenizers
from ..evaluation.bleu import BleuSettings
from ..evaluation.report import evaluate
from ..interface import Translator
from ..microscope import microscope
from ..runs.config import load_config
from ..runs.folder import BEST, CONFIG, Run
from ..runs.jsons import read_json
from ..runs.kept import file_of, kept_steps
from ..training.trainer import Trainer
from .catalog import DEMOS, Demo, find_demo

__all__ = ["PAGES", "evaluate_demo", "make_page", "train_demo"]

PAGES = Path(__file__).parents[2] / ".pages"
"""The folder of the repository with the pages."""
_AVERAGED = 100
"""The sentences that the page has averages of."""
_KEPT = (BEST, CONFIG, "log.csv")


def train_demo(demo: Demo, folder: Path) -> None:
    """Train a demo, and put what a run needs to be used into ``folder``."""
    config = load_config(None, demo.settings)
    text = config.data.load()
    with tempfile.TemporaryDirectory() as scratch:
        run = Run(Path(scratch) / demo.name, config, *train_tokenizers(text, config.data))
        progress = PlainProgress()
        trainer = Trainer(run, text, progress)
        run.create()
        progress.print(f"{demo.name}: {trainer.summary()}")
        if not trainer.train():
            raise KeyboardInterrupt
        progress.print(trainer.finish())
        about = read_json(run.directory / "run.json")
        about["command"] = ["python", "-m", "tinygrad_attn_models.demos.make", demo.name]  # not where this file stood
        run.write_json("run.json", about)
        folder.mkdir(parents=True, exist_ok=True)
        for step in kept_steps(folder):
            (folder / file_of(step)).unlink()
        for name in (*_KEPT, "run.json", *map(file_of, demo.frames)):
            shutil.copyfile(run.directory / name, folder / name)


def evaluate_demo(demo: Demo) -> None:
    """Keep in the folder of a translator what ``evaluate`` measures, for ``compare``; of a language model nothing."""
    run, model = Run.load(demo.folder)
    text = run.config.data.load()
    if not (isinstance(text, ParallelText) and isinstance(model, Translator)):
        return
    for split in ("test", "valid"):
        pairs, fitting = getattr(text, split), BleuSettings.fitting(run.config)
        evaluate(run, model, split, pairs, run.config.decoding, fitting).save(demo.folder)


def make_page(demo: Demo, path: Path) -> int:
    """Write the page that a demo opens with; its size in bytes."""
    run, model = Run.load(demo.folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    microscope(model, demo.source, demo.target, run=run, sentences=_AVERAGED).save(path)
    return path.stat().st_size


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", metavar="NAME", nargs="*", help="the demos to train (default: all)")
    parser.add_argument("--evaluate", action="store_true", help="train nothing; measure the translators anew")
    parser.add_argument("--page", action="store_true", help="train nothing; make the page of the first demo anew")
    arguments = parser.parse_args()
    chosen = [] if arguments.page else [find_demo(name) for name in arguments.names or DEMOS]
    for demo in chosen:
        if not arguments.evaluate:
            train_demo(demo, demo.folder)
            print(f"{demo.folder}: {(demo.folder / BEST).stat().st_size:,} bytes of weights")
        evaluate_demo(demo)
    if arguments.evaluate:
        return
    first = next(iter(DEMOS.values()))
    path = PAGES / f"{first.name}.html"
    print(f"{path}: {make_page(first, path):,} bytes")


if __name__ == "__main__":
    main()
