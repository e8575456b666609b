"""Pages of the microscope at random: is a badge red on a right gradient, or green on a wrong one?

    python tests/fuzz/pages.py [--trained 300] [--scaled 100] [--spoilt 100] [--seed 0]

Trains five kinds of model on the dates, copy and reverse tasks, a few seconds each, and looks at

- pages of the trained models, for the right target, their own translation, another pair's target or a text of noise;
- pages of the same models with their energies, keys or values multiplied by 1/32 to 32 or saturated, some with sources
  of one symbol;
- every deliberate mistake of the gallery on every model that has its op, which must be red;
- pages with one weight that is NaN or infinite, which must be named.

`tests/models/microscope/test_pages.py` runs a small share.
"""

import argparse
import collections
import copy
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tinygrad_attn_models.console.errors import CommandError
from tinygrad_attn_models.console.progress import PlainProgress
from tinygrad_attn_models.data import train_tokenizers
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.microscope.checks.badge import describe_worst
from tinygrad_attn_models.microscope.checks.gallery import GALLERY
from tinygrad_attn_models.runs.config import load_config
from tinygrad_attn_models.runs.folder import Run
from tinygrad_attn_models.training.trainer import Trainer

from tinygrad_attn import nn

TASKS = ("dates", "copy", "reverse")
RECURRENT = {"model.embedding_size": 8, "model.hidden_size": 16}
KINDS = {
    "bahdanau": {"model.name": "bahdanau", **RECURRENT},
    "luong": {"model.name": "luong", "model.score": "general", **RECURRENT},
    "luong local": {
        "model.name": "luong", "model.score": "concat", "model.attention": "local-p", "model.window": 3,
        "model.input_feeding": True, **RECURRENT,
    },
    "transformer": {
        "model.name": "transformer", "model.d_model": 16, "model.heads": 4, "model.encoder_layers": 2,
        "model.decoder_layers": 2, "model.d_ff": 32,
    },
    "seq2seq": {"model.name": "seq2seq", **RECURRENT},
}  # fmt: skip
SHORT = {
    "data.train_size": 600, "data.valid_size": 10, "data.test_size": 40, "training.epochs": 3,
    "training.batch_size": 20, "training.learning_rate": 0.01, "decoding.max_length": 16,
}  # fmt: skip
PARTS = {"energies": ("energy", "score."), "keys": ("key",)}
"""By what is scaled, words in the paths of the recurrent models' parameters."""


def trained(kind, task, folder, **changes):
    """A run and its model, trained a little, and the pairs of its test set."""
    config = load_config(None, {**SHORT, "data.kind": task, **KINDS[kind], **changes})
    text = config.data.load()
    run = Run(Path(folder) / f"{kind} {task}", config, *train_tokenizers(text, config.data))
    run.create()
    trainer = Trainer(run, text, PlainProgress())
    trainer.train()
    trainer.finish()
    return *Run.load(run.directory), text.test


def scaled(kind, model, rng):
    """Multiply energies, keys or values of a model by a power of 2 up to 32, or saturate its softmax; says which."""
    what = rng.choice(["energies", "keys", "values", "saturated"])
    factor = float(2.0 ** rng.integers(-5, 6)) if what != "saturated" else 1e4
    if kind == "transformer":
        part = {"energies": 0, "saturated": 0, "keys": 1, "values": 2}[what]
        for path, parameter in model.named_parameters():
            if "in_proj" in path:
                rows = parameter.shape[0] // 3
                parameter.array[part * rows : (part + 1) * rows] *= factor
    elif what == "values":
        for path, module in model.named_modules():
            if path == "encoder":
                model.encoder = Louder(module, factor)
    else:
        for path, parameter in model.named_parameters():
            if any(word in path for word in PARTS.get(what, PARTS["energies"])):
                parameter.array[:] *= factor
    return f"{what} × {factor:g}"


class Louder(nn.Module):
    """An encoder whose outputs are multiplied."""

    def __init__(self, encoder, factor):
        super().__init__()
        self.encoder, self.factor = encoder, factor

    def forward(self, *arguments, **options):
        outputs, last = self.encoder(*arguments, **options)
        return outputs * self.factor, last


def chosen_pair(pairs, run, rng, one_symbol=False):
    """A source, and the right target, None for the model's own, another pair's or noise."""
    source, right = pairs[int(rng.integers(len(pairs)))]
    if one_symbol:
        source = source[0]
    noise = run.target.decode(rng.integers(4, len(run.target), int(rng.integers(1, 10))).tolist())
    return source, (right, None, pairs[int(rng.integers(len(pairs)))][1], noise)[int(rng.integers(4))]


class Tally:
    """Counts what was seen, and prints what should not have been."""

    def __init__(self):
        self.counts = collections.Counter()
        self.reasons = collections.Counter()
        self.wrong = []

    def page(self, what, check, expected):
        """A page whose badge should have the state ``expected``."""
        self.counts[f"{what.split(':')[0]}, {check['state']}"] += 1
        self.counts["differences resolved"] += check["compared"]
        self.reasons.update(check["unresolved_because"])
        if check["state"] != expected:
            worst = describe_worst(check) if check["state"] != "good" else "green"
            self.fault(f"{what}: {check['state']}, not {expected}: {worst}")

    def fault(self, line):
        self.wrong.append(line)
        print("WRONG", line, flush=True)


def look(tally, models, count, rng):
    for number in range(count):
        kind, task = (list(models)[number % len(models)]) if number < len(models) else pick(models, rng)
        run, model, pairs = models[kind, task]
        source, target = chosen_pair(pairs, run, rng)
        check = microscope(model, source, target, run=run).data["check"]
        tally.page(f"trained: {kind} {task} {source!r} {target!r}", check, "good")


def look_scaled(tally, models, count, rng):
    for _ in range(count):
        kind, task = pick(models, rng, without="seq2seq")
        run, model, pairs = models[kind, task]
        model = copy.deepcopy(model)
        source, target = chosen_pair(pairs, run, rng, one_symbol=rng.random() < 0.2)
        how = scaled(kind, model, rng)
        check = microscope(model, source, target, run=run).data["check"]
        tally.page(f"scaled: {kind} {task} {how} {source!r} {target!r}", check, "good")


def look_broken(tally, models):
    for (kind, task), (run, model, pairs) in models.items():
        source, _ = pairs[0]
        for broken in GALLERY:
            try:
                check = microscope(model, source, pairs[1][1], run=run, broken=broken).data["check"]
            except CommandError:  # the model does not run the op
                tally.counts["broken, not in the model"] += 1
                continue
            tally.page(f"broken: {broken} {kind} {task}", check, "bad")


def look_spoilt(tally, models, count, rng):
    for _ in range(count):
        kind, task = pick(models, rng)
        run, model, pairs = models[kind, task]
        model = copy.deepcopy(model)
        path, parameter = pick(dict(model.named_parameters()), rng, item=True)
        place = tuple(int(rng.integers(size)) for size in parameter.shape)
        parameter.array[place] = bad = float(rng.choice([np.nan, np.inf, -np.inf]))
        source, target = chosen_pair(pairs, run, rng)
        check = microscope(model, source, target, run=run).data["check"]
        found = check["not_finite"]
        what = f"spoilt: {kind} {task} {path}{list(place)} = {bad}"
        names = {name for name, other in model.named_parameters() if other is parameter}
        if found is None or found["name"] not in names or tuple(found["cell"]) != place:
            tally.fault(f"{what}: named {found}")
        tally.page(what, check, "not_finite" if found and found["reaches"] else "good")


def pick(options, rng, without=None, item=False):
    keys = [key for key in options if without is None or without not in key]
    key = keys[int(rng.integers(len(keys)))]
    return (key, options[key]) if item else key


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trained", type=int, default=300)
    parser.add_argument("--scaled", type=int, default=100)
    parser.add_argument("--spoilt", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, tally, begun = np.random.default_rng(arguments.seed), Tally(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        models = {(kind, task): trained(kind, task, folder) for kind in KINDS for task in TASKS}
        look_broken(tally, models)
        look_spoilt(tally, models, arguments.spoilt, rng)
        look_scaled(tally, models, arguments.scaled, rng)
        look(tally, models, arguments.trained, rng)
    print(f"{time.perf_counter() - begun:.0f} s")
    for name, count in sorted(tally.counts.items()):
        print(f"{count:7,} {name}")
    for reason, count in sorted(tally.reasons.items()):
        print(f"{count:7,} differences unresolved: {reason}")
    print(f"{len(tally.wrong)} wrong")
    return bool(tally.wrong)


if __name__ == "__main__":
    sys.exit(main())
