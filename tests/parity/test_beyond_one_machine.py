"""The README's lines that carry a run on in PyTorch: the next step there, data-parallel, is the next step here."""

import re
import socket
from pathlib import Path

import numpy as np
import pytest
from tinygrad_attn_models.console.progress import PlainProgress
from tinygrad_attn_models.data import collate, train_tokenizers
from tinygrad_attn_models.evaluation.metrics import token_loss
from tinygrad_attn_models.runs.config import load_config
from tinygrad_attn_models.runs.folder import LAST, Run
from tinygrad_attn_models.training.trainer import Trainer

from tinygrad_attn import Tensor, optim

torch = pytest.importorskip("torch", reason="the parity extra is not installed")
pytest.importorskip("safetensors")

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def code_of(section):
    return re.findall(r"```py\n(.*?)```", README.partition(f"## {section}\n")[2].partition("\n## ")[0], re.DOTALL)


SETTINGS = {"data.train_size": 60, "data.valid_size": 4, "data.test_size": 4, "training.epochs": 1,
            "model.embedding_size": 5, "model.hidden_size": 6, "decoding.max_length": 12}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A run that was trained for an epoch."""
    config = load_config(None, SETTINGS)
    text = config.data.load()
    run = Run(tmp_path / "run", config, *train_tokenizers(text, config.data))
    run.create()
    assert Trainer(run, text, PlainProgress()).train()
    return run.directory


@pytest.fixture
def launched(monkeypatch):
    """What torchrun tells a process that is alone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}
    for name, value in given.items():
        monkeypatch.setenv(name, str(value))
    yield
    torch.distributed.destroy_process_group()


def test_the_next_step_is_the_same(folder, launched):
    first, bahdanau, *_ = code_of("Into PyTorch")
    (going_on,) = code_of("When one machine is not enough")
    names = {}
    exec(first.replace("runs/dates-bahdanau", str(folder)) + bahdanau + going_on, names)

    run, arrays, _ = Run.open(folder, LAST)
    model = run.build()
    model.load_state_dict({name.removeprefix("model."): x for name, x in arrays.items() if name.startswith("model.")})
    adam = optim.Adam(model.parameters(), lr=0.001)
    adam.load_state_dict({n.removeprefix("optimizer."): x for n, x in arrays.items() if n.startswith("optimizer.")})
    batch = collate([(names["source"], names["target"])], [0])
    token_loss(model(*map(Tensor, batch.given), Tensor(batch.target_in)), batch).backward()
    adam.step()
    theirs = dict(names["model"].named_parameters())
    before = {name.removeprefix("model."): x for name, x in arrays.items()}
    for name, parameter in model.named_parameters():
        found = theirs[name].detach().numpy()
        assert np.abs(found - before[name]).max() > 0.0
        np.testing.assert_allclose(found, parameter.array, rtol=1e-5, atol=1e-6)
