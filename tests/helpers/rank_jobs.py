"""What tests have ranks do: ``mpirun -n RANKS python tests/helpers/rank_jobs.py NAME ARGUMENT ...``; rank 0 prints the
result as JSON."""

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from small_models import small_model
from tinygrad_attn_models.console.progress import NoProgress
from tinygrad_attn_models.data import train_tokenizers
from tinygrad_attn_models.parallel.ranks import join
from tinygrad_attn_models.runs.config import load_config
from tinygrad_attn_models.runs.folder import Run
from tinygrad_attn_models.training.gradients import Gradients
from tinygrad_attn_models.training.trainer import Trainer

SMALL = {
    "data.train_size": 14, "data.valid_size": 4, "data.test_size": 4, "training.epochs": 2, "training.batch_size": 5,
    "training.schedule": "constant", "training.learning_rate": 0.01, "decoding.max_length": 6,
}  # fmt: skip
COPY = {"data.kind": "copy", "data.shortest": 1, "data.longest": 4, "data.longest_test": 4}
RECURRENT = {"model.embedding_size": 3, "model.hidden_size": 4}
GPT = small_model("gpt") | {"model.context": 8, "data.kind": "stories", "data.epoch_windows": 14}
TRANSFORMER = small_model("transformer") | {"model.dropout": 0.0}
CASES = {
    "bahdanau": RECURRENT,
    "luong": {
        **RECURRENT, "model.name": "luong", "model.score": "location", "model.input_feeding": True,
        "training.label_smoothing": 0.1,
    },
    "seq2seq, several batches a step": {
        **RECURRENT, "model.name": "seq2seq", "training.gradient_accumulation_steps": 2
    },
    "transformer, tokens": {
        **TRANSFORMER, "training.batch_type": "tokens", "training.batch_size": 20, "training.weight_decay": 0.1
    },
    "gpt": GPT,
    "eager": {**RECURRENT, "training.capture": False},
    "fewer rows than ranks": {**RECURRENT, "training.batch_size": 2, "training.gradient_accumulation_steps": 2},
    "fewer pairs than ranks": {**RECURRENT, "data.train_size": 1},
    "divided moments": {**RECURRENT, "training.divided_moments": True, "training.weight_decay": 0.1},
}  # fmt: skip
SAMPLED = {"training.teacher_forcing": 0.7, "training.gradient_accumulation_steps": 2}
STATES = {
    "plain": {}, "plain again": {}, "sampled": SAMPLED, "sampled again": SAMPLED,
    "divided moments": {"training.divided_moments": True},
    "fixed order": {"training.shards": 4}, "sampled, fixed order": {**SAMPLED, "training.shards": 4},
    "other shards": {"training.shards": 3},
}  # fmt: skip


def trainer_of(folder, settings, dtype="float32"):
    """A trainer of a new run."""
    config = load_config(None, {**SMALL, **({} if "data.kind" in settings else COPY), **settings})
    text = config.data.load()
    run = Run(folder, config, *train_tokenizers(text, config.data))
    run.create()
    trainer = Trainer(run, text, NoProgress())
    if dtype == "float64":
        trainer.model.double()
        trainer.gradients = Gradients(trainer.model, trainer.settings, trainer.ranks)
    return trainer


def steps_of(trainer):
    """Loss, right tokens and norm of all steps."""
    trainer.model.train()
    found = []
    for epoch in range(trainer.settings.epochs):
        for batches in trainer.groups(epoch):
            found.append(trainer.step(*batches))
            trainer.position.step += 1
    return found


def digest(arrays):
    """What tells the bits of arrays from others."""
    bits = hashlib.sha256()
    for name in sorted(arrays):
        bits.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return bits.hexdigest()


def steps(folder, dtype):
    """Of each case the steps that are taken."""
    return {name: steps_of(trainer_of(folder / dtype / name, one, dtype)) for name, one in CASES.items()}


def state(ranks, folder, settings):
    """Digests of the weights and of the optimiser's state after training with dropout, the losses, and the bytes of
    moments that a rank has at most."""
    trainer = trainer_of(folder, {"model.name": "luong", "model.dropout": 0.3, **RECURRENT, **settings})
    losses = [loss for loss, _, _ in steps_of(trainer)]
    weights = {name: tensor.array for name, tensor in trainer.model.state_dict().items()}
    moments = sum(array.nbytes for arrays in trainer.optimizer.state.values() for array in arrays)
    return {"weights": digest(weights), "state": digest(trainer.optimizer.state_dict()), "losses": losses,
            "moments": max(ranks.gathered(moments))}  # fmt: skip


def trained(ranks, folder):
    """All that tests compare between numbers of ranks."""
    return {
        **{dtype: steps(folder, dtype) for dtype in ("float32", "float64")},
        **{name: state(ranks, folder / name, settings) for name, settings in STATES.items()},
    }


if __name__ == "__main__":
    joined = join()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(joined.of_first(lambda: scratch))
        result = globals()[sys.argv[1]](joined, folder, *sys.argv[2:])
        joined.wait()
    if joined.first:
        print(json.dumps(result))
