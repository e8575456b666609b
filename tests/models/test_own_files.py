"""A model, a score, a task, a tokenizer of the user's, each one file: trained by the command line, used, remembered."""

import json
from dataclasses import dataclass

import pytest
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.data import TASKS, TOKENIZERS
from tinygrad_attn_models.interface import LanguageModel, ModelSettings, Translator
from tinygrad_attn_models.registry import IMPORTED, MODELS, import_file, register_model
from tinygrad_attn_models.runs.config import ConfigError, load_config
from tinygrad_attn_models.runs.folder import Run, RunError
from tinygrad_attn_models.setting import constant

from tinygrad_attn.nn import SCORES

MODEL = '''
"""The source as the mean of its embeddings, read beside every token."""
from dataclasses import dataclass

import tinygrad_attn as ta
from tinygrad_attn import nn
from tinygrad_attn_models.interface import ModelSettings, Translator
from tinygrad_attn_models.registry import register_model
from tinygrad_attn_models.setting import constant, setting


@dataclass(frozen=True)
class MeanSettings(ModelSettings):
    name: str = constant("mean")
    size: int = setting(8, "width of everything", minimum=1)


@register_model(MeanSettings)
class Mean(Translator):
    def __init__(self, source_size, target_size, size, dtype):
        super().__init__()
        self.source = nn.Embedding(source_size, size, dtype=dtype)
        self.target = nn.Embedding(target_size, size, dtype=dtype)
        self.cell = nn.GRUCell(2 * size, size, dtype=dtype)
        self.output = nn.Linear(size, target_size, dtype=dtype)

    def forward(self, source, source_mask, target_in, *, need_weights=False):
        state, logits = self.start(self.encode(source, source_mask)), []
        for t in range(target_in.shape[1]):
            step, state, _ = self.step(state, target_in[:, t])
            logits.append(step)
        logits = ta.stack(logits, 1)
        return (logits, {}) if need_weights else logits

    def encode(self, source, source_mask):
        kept = ta.where(source_mask.unsqueeze(-1), self.source(source), 0.0)
        return kept.sum(1) / ta.Tensor(source_mask.array.sum(1, keepdims=True).astype(kept.dtype))

    def start(self, memory):
        return memory, memory

    def step(self, state, token, *, need_weights=False):
        hidden, memory = state
        hidden = self.cell(ta.cat([self.target(token), memory], -1), hidden)
        return self.output(hidden), (hidden, memory), {}
'''

SCORE = '''
import tinygrad_attn as ta
from tinygrad_attn.modes import mark
from tinygrad_attn.nn import SCORES, Score


@SCORES.register("nearness")
class NearnessScore(Score):
    """The nearer, the higher: -|q - k|^2."""

    @classmethod
    def make(cls, query_size, key_size, size, max_length, dtype=ta.float32):
        return cls()

    def scores(self, query, projected):
        query, key = mark("query", query), mark("key", projected)
        return -((query.unsqueeze(2) - key.unsqueeze(1)) ** 2.0).sum(-1)
'''

TASK = '''
from dataclasses import dataclass

from tinygrad_attn_models.data import SequenceTask, register_task
from tinygrad_attn_models.setting import constant, setting


@register_task
@dataclass(frozen=True)
class Sort(SequenceTask):
    """Digits to sort."""

    symbols = tuple("0123456789")

    kind: str = constant("sort")
    down: bool = setting(False, "the largest first")

    def answer(self, symbols):
        return sorted(symbols, reverse=self.down)
'''

TOKENIZER = '''
from tinygrad_attn_models.data import RuleTokenizer, register_tokenizer


@register_tokenizer("pairs")
class Pairs(RuleTokenizer):
    """Two characters a symbol."""

    @staticmethod
    def split(text):
        return [text[i : i + 2] for i in range(0, len(text), 2)]

    @staticmethod
    def join(symbols):
        return "".join(symbols)
'''

ADDED = {
    "model": (MODEL, ["model.name=mean", "model.size=6"]),
    "score": (SCORE, ["model.name=luong", "model.score=nearness"]),
    "task": (TASK, ["data.kind=sort", "data.down=true", "data.longest=9"]),
    "tokenizer": (TOKENIZER, ["data.tokenizer=pairs"]),
}
TINY = [
    *("data.train_size=40", "data.valid_size=5", "data.test_size=5", "training.epochs=1", "training.batch_size=20"),
    "decoding.max_length=12",
]
RECURRENT = ["model.embedding_size=4", "model.hidden_size=6"]


@pytest.fixture
def forget(own_registries):
    """A function: what was imported from a user's file is forgotten, as in a new process."""
    kept = [(registry, dict(registry)) for registry in (MODELS, SCORES, TASKS, TOKENIZERS)]

    def forget_all():
        IMPORTED.clear()
        for registry, found in kept:
            registry._found = dict(found)

    yield forget_all
    forget_all()


@pytest.fixture
def trained_with(forget, tmp_path):
    """A function: the folder of a run that a file of the user's was needed for, and that file."""

    def train(kind):
        source, settings = ADDED[kind]
        file, run = tmp_path / f"my_{kind}.py", tmp_path / "run"
        file.write_text(source, encoding="utf-8")
        settings = [*TINY, *settings, *(RECURRENT if kind != "model" else [])]
        assert main(["train", "--import", str(file), "--out", str(run), "--set", *settings]) == 0
        forget()
        return run, file

    return train


@pytest.mark.parametrize("kind", ADDED)
def test_one_file_adds_it(drawn, kind, trained_with, capsys):
    run, file = trained_with(kind)
    assert f'import = [\n    "{file}",\n]\n' in (run / "config.toml").read_text(encoding="utf-8")
    capsys.readouterr()
    assert main(["translate", str(run), "12", "345"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["evaluate", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["import"] == [str(file)]
    page = run / "page.json"
    assert main(["microscope", str(run), "12", "--target", "21", "--out", str(page)]) == 0
    shown = json.loads(page.read_text(encoding="utf-8"))
    assert shown["check"]["ok"]
    assert bool(shown["sites"]) == (kind != "model")  # that model attends to nothing


def test_a_config_names_its_file_beside_it(forget, tmp_path):
    (tmp_path / "mine.py").write_text(TASK, encoding="utf-8")
    config = tmp_path / "config.toml"
    config.write_text('import = ["mine.py"]\n[data]\nkind = "sort"\n', encoding="utf-8")
    loaded = load_config(config, ["data.down=true"])
    assert loaded.imports == (str(tmp_path / "mine.py"),) and loaded.data.load().test[0][0]
    config.write_text(loaded.to_toml(), encoding="utf-8")
    assert load_config(config) == loaded
    with pytest.raises(ConfigError, match=r"data\.down is a setting of sort; data\.kind is 'dates'"):
        load_config(config, ["data.kind=dates"])


def test_a_run_says_what_became_of_its_file(trained_with, forget, capsys):
    run, file = trained_with("task")
    file.write_text(TASK + "\n# changed\n", encoding="utf-8")
    capsys.readouterr()
    assert main(["translate", str(run), "12"]) == 0
    assert capsys.readouterr().err == f"note: {file} has changed since {run} was trained with it\n"
    forget()
    with pytest.warns(UserWarning, match=r"my_task\.py has changed since .*run was trained with it"):
        Run.load(run)
    file.unlink()
    forget()
    with pytest.raises(RunError, match=r"needs a file that it was trained with: .*my_task\.py cannot be imported: No"):
        Run.load(run)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("x = 1\nraise RuntimeError('boom')\n", "line 2: RuntimeError: boom"),
        ("def f():\n    return y\n\nf()\n", "line 2: NameError: name 'y' is not defined"),
        ("x = (\n", r"SyntaxError: '\(' was never closed \(mine\.py, line 1\)"),
        (MODEL.replace('"mean"', '"luong"'), "ValueError: the model 'luong' is already defined in .*luong; choose"),
        (MODEL.replace('"mean"', '""'), "ValueError: MeanSettings has no name"),
        (TASK.replace('"sort"', '""'), "ValueError: Sort has no kind"),
    ],
)
def test_a_file_with_a_fault(source, fault, forget, tmp_path):
    (tmp_path / "mine.py").write_text(source, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"mine\.py cannot be imported: .*{fault}"):
        load_config(None, [], [tmp_path / "mine.py"])
    assert not IMPORTED


def test_a_file_that_is_not_there_and_a_list_that_is_none(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.py cannot be imported: No such file or directory"):
        import_file(tmp_path / "none.py")
    (tmp_path / "config.toml").write_text('import = "mine.py"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r'import: expected a list of files, as in import = \["my_model.py"\]'):
        load_config(tmp_path / "config.toml")


def test_a_file_is_run_once_and_again_when_it_has_changed(forget, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(TASK, encoding="utf-8")
    assert import_file(file) == str(file)
    first = TASKS["sort"]
    import_file(file)
    assert TASKS["sort"] is first
    file.write_text(TASK.replace("0123", "01"), encoding="utf-8")
    import_file(file)
    assert TASKS["sort"].symbols[:3] == ("0", "1", "4")


@pytest.mark.parametrize(
    ("base", "reads", "kind"), [(LanguageModel, "text", "stories"), (Translator, "pairs", "dates")]
)
def test_a_model_reads_what_its_base_class_says(own_registries, base, reads, kind):
    @dataclass(frozen=True)
    class OwnSettings(ModelSettings):
        name: str = constant("own")

    @register_model(OwnSettings)
    class Own(base):
        pass

    assert OwnSettings.reads == reads and Own.Settings is OwnSettings
    assert load_config(None, {"model.name": "own", "data.kind": kind}).model == OwnSettings()
    other = "dates" if kind == "stories" else "stories"
    with pytest.raises(ConfigError, match="choose another of the two"):
        load_config(None, {"model.name": "own", "data.kind": other})
