"""Every setting of a run, with its default: one TOML file, each value of which the command line can override.

    [training]
    epochs = 5

read with ``load_config("run.toml", ["training.learning_rate=0.002", "data.target=ko"])``.

A setting is a field of one of the sections below (see `models.runs.setting`). There is no "none": an option that is off
has 0 or an empty string.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from .setting import ConfigError, Section, Value, setting

__all__ = [
    "CONFIGS",
    "Config",
    "ConfigError",
    "DataConfig",
    "DecodingConfig",
    "ModelConfig",
    "TrainingConfig",
    "find_config",
    "load_config",
]

CONFIGS = Path(__file__).parents[1] / "configs"
"""The configs that come with the package, one file for each result in the README."""


@dataclass(frozen=True)
class DataConfig(Section):
    """What is translated, and how it is cut into symbols."""

    section = "data"

    kind: str = setting(
        "dates",
        "generated dates, letters to copy, integers to reverse, or parallel text from files",
        choices=("dates", "copy", "reverse", "parallel"),
    )
    directory: str = setting("", "the folder of the parallel text")
    source: str = setting("", "the source language: the ending of its files")
    target: str = setting("", "the target language: the ending of its files")
    tokenizer: str = setting("characters", "how text is cut into symbols", choices=("characters", "words", "bpe"))
    lowercase: bool = setting(False, "make all text lower case")
    min_frequency: int = setting(
        1, "rarer symbols of the training text are unknown; bpe makes no symbol of a rarer pair", minimum=1
    )
    vocabulary_size: int = setting(0, "the most symbols of a language; 0 sets no limit, but bpe needs one", minimum=0)
    shared_vocabulary: bool = setting(False, "source and target have one vocabulary, of both sides")
    max_length: int = setting(100, "training pairs with more symbols on a side are left out", minimum=1)
    train_size: int = setting(10_000, "generated training pairs", minimum=1)
    valid_size: int = setting(1_000, "generated validation pairs", minimum=1)
    test_size: int = setting(2_000, "generated test pairs", minimum=1)
    seed: int = setting(0, "seed of the generated pairs", minimum=0)
    shortest: int = setting(6, "the least symbols to copy or reverse", minimum=1)
    longest: int = setting(15, "the most symbols to copy or reverse, in training and validation", minimum=2)
    longest_test: int = setting(15, "the most symbols to copy or reverse, in the test set", minimum=2)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tokenizer == "bpe" and not self.vocabulary_size:
            raise ConfigError("data.tokenizer is 'bpe', which needs data.vocabulary_size, as in 8000")
        if self.shortest > min(self.longest, self.longest_test):
            raise ConfigError(
                f"data.shortest is {self.shortest}, more than data.longest {self.longest} "
                f"or data.longest_test {self.longest_test}"
            )
        files = {"directory": self.directory, "source": self.source, "target": self.target}
        if self.kind == "parallel":
            missing = [f"data.{name}" for name, value in files.items() if not value]
            if missing:
                hint = "; give the folder with --data" if "data.directory" in missing else ""
                raise ConfigError(f"data.kind is 'parallel', which needs {' and '.join(missing)} too{hint}")
        elif any(files.values()):
            given = [f"data.{name}" for name, value in files.items() if value]
            raise ConfigError(f"{' and '.join(given)} given, but data.kind is {self.kind!r}; set it to 'parallel'")


_RECURRENT = ("seq2seq", "luong", "bahdanau")
_LUONG, _TRANSFORMER = ("luong",), ("transformer",)


@dataclass(frozen=True)
class ModelConfig(Section):
    """Which model, and its sizes. A setting of another model than the named one must keep its default."""

    section = "model"

    name: str = setting("bahdanau", "the model", choices=(*_RECURRENT, *_TRANSFORMER))
    dropout: float = setting(0.0, "probability of dropping an activation in training", minimum=0, below=1)
    embedding_size: int = setting(32, "width of the embeddings", minimum=1, models=_RECURRENT)
    hidden_size: int = setting(64, "width of the recurrent states", minimum=1, models=_RECURRENT)
    cell: str = setting("lstm", "the recurrent layers", choices=("rnn", "gru", "lstm"), models=("seq2seq", "luong"))
    layers: int = setting(
        1, "recurrent layers of the encoder, and of the decoder", minimum=1, models=("seq2seq", "luong")
    )
    score: str = setting(
        "general",
        "how a decoder state is compared with the source",
        choices=("dot", "scaled_dot", "general", "concat", "location"),
        models=_LUONG,
    )
    attention: str = setting(
        "global",
        "all of the source, or a window at the same place (local-m) or a predicted one (local-p)",
        choices=("global", "local-m", "local-p"),
        models=_LUONG,
    )
    window: int = setting(10, "D: local attention reaches D places to each side", minimum=1, models=_LUONG)
    input_feeding: bool = setting(False, "feed what attention gave into the next step of the decoder", models=_LUONG)
    d_model: int = setting(512, "width of embeddings and layers", minimum=1, models=_TRANSFORMER)
    heads: int = setting(8, "heads of every attention", minimum=1, models=_TRANSFORMER)
    encoder_layers: int = setting(6, "layers of the encoder", minimum=1, models=_TRANSFORMER)
    decoder_layers: int = setting(6, "layers of the decoder", minimum=1, models=_TRANSFORMER)
    d_ff: int = setting(2048, "inner width of the feed-forward networks", minimum=1, models=_TRANSFORMER)
    positions: str = setting(
        "sinusoidal", "how places are told apart", choices=("sinusoidal", "learned"), models=_TRANSFORMER
    )
    tied_output: bool = setting(False, "the output layer's matrix is the target's embedding", models=_TRANSFORMER)
    shared_embeddings: bool = setting(
        False, "source and target have one embedding; they need one vocabulary", models=_TRANSFORMER
    )
    max_length: int = setting(
        256,
        "the most symbols of a sentence for the score 'location' and for learned positions",
        minimum=1,
        models=_LUONG + _TRANSFORMER,
    )

    def of_this_model(self) -> dict[str, Any]:
        """The settings that the named model has, by name."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if not field.metadata["models"] or self.name in field.metadata["models"]
        }

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in dataclasses.fields(self):
            models = field.metadata["models"]
            if models and self.name not in models and getattr(self, field.name) != field.default:
                raise ConfigError(
                    f"model.{field.name} is a setting of {', '.join(models)}; model.name is {self.name!r}"
                )
        if self.d_model % self.heads:
            raise ConfigError(
                f"model.heads is {self.heads}, which does not divide model.d_model {self.d_model}; "
                "the heads share it evenly"
            )

    @property
    def limits_sources(self) -> bool:
        """Whether the model reads no more than ``max_length`` symbols of a source."""
        return self.limits_targets or self.score == "location"

    @property
    def limits_targets(self) -> bool:
        """Whether its decoder reads no more than ``max_length`` symbols, the first of which is ``<s>``."""
        return self.positions == "learned"


@dataclass(frozen=True)
class TrainingConfig(Section):
    """How the model learns."""

    section = "training"

    seed: int = setting(0, "seed of weights, order and dropout", minimum=0)
    epochs: int = setting(6, "passes over the training pairs", minimum=1)
    batch_type: str = setting("sentences", "the unit of batch_size", choices=("sentences", "tokens"))
    batch_size: int = setting(64, "the most of a batch; tokens are counted with padding, each side apart", minimum=1)
    learning_rate: float = setting(0.004, "Adam's step size at its largest; noam has one of its own", above=0)
    schedule: str = setting(
        "linear",
        "what becomes of it: constant, falling to 0 along a line or a cosine, or as 1/√step; noam is the Transformer "
        "paper's",
        choices=("constant", "linear", "cosine", "inverse_sqrt", "noam"),
    )
    warmup: int = setting(0, "steps in which it rises from 0 first; inverse_sqrt and noam need some", minimum=0)
    noam_factor: float = setting(1.0, "what noam's step size is multiplied by", above=0)
    beta1: float = setting(0.9, "Adam's decay of the mean of gradients", minimum=0, below=1)
    beta2: float = setting(0.999, "Adam's decay of the mean of their squares", minimum=0, below=1)
    eps: float = setting(1e-8, "what Adam adds to their root", above=0)
    clip_norm: float = setting(1.0, "the largest norm of all gradients together; 0 does not clip", minimum=0)
    label_smoothing: float = setting(0.0, "probability given to all symbols alike", minimum=0, below=1)
    teacher_forcing: float = setting(
        1.0, "probability that the decoder reads the true token, and not its own; below 1 is slower", minimum=0, most=1
    )
    patience: int = setting(
        0, "stop after so many epochs without a lower validation loss; 0 trains all epochs", minimum=0
    )
    average: int = setting(
        0, "average the weights of the last so many epochs, and use them if they are better; 0 or 1 does not", minimum=0
    )
    checkpoint_seconds: float = setting(
        30.0, "seconds between checkpoints within an epoch; 0 writes them between epochs only", minimum=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedule in ("inverse_sqrt", "noam") and not self.warmup:
            raise ConfigError(f"training.schedule is {self.schedule!r}, which needs training.warmup, as in 4000")


@dataclass(frozen=True)
class DecodingConfig(Section):
    """How a trained model translates."""

    section = "decoding"

    batch_size: int = setting(64, "sentences translated together", minimum=1)
    max_length: int = setting(100, "the most symbols of a translation", minimum=1)
    beam: int = setting(1, "translations followed at a time; 1 is greedy decoding", minimum=1)
    length_penalty: float = setting(0.6, "the exponent α of beam search; 0 prefers short translations", minimum=0)


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    decoding: DecodingConfig = dataclasses.field(default_factory=DecodingConfig)

    def __post_init__(self) -> None:
        if self.model.shared_embeddings and not self.data.shared_vocabulary:
            raise ConfigError("model.shared_embeddings needs data.shared_vocabulary: one embedding has one vocabulary")
        self._check_lengths()

    def _check_lengths(self) -> None:
        """Compare what sentences may have with what the model can read."""
        data, model = self.data, self.model
        lengths = {}
        if model.limits_sources:
            lengths["data.max_length"] = data.max_length
        if model.limits_sources and data.kind in ("copy", "reverse"):
            lengths |= {"data.longest": data.longest, "data.longest_test": data.longest_test}
        if model.limits_targets:
            lengths["decoding.max_length"] = self.decoding.max_length
        limiting = "model.positions 'learned'" if model.limits_targets else "model.score 'location'"
        start = int(model.limits_targets)
        for name, length in lengths.items():
            if length + start > model.max_length:
                raise ConfigError(
                    f"{name} is {length}, but {limiting} with model.max_length {model.max_length} is for "
                    f"{model.max_length - start} symbols{' after <s>' * start}; set model.max_length to at least "
                    f"{length + start}, or lower {name}"
                )

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Self:
        """The config with ``values``, as sections of settings; what they leave out has its default.

        Raises:
            ConfigError: an unknown section or setting, or a value that it cannot have.
        """
        sections: dict[str, Any] = {}
        for name, section in values.items():
            if name not in _SECTIONS:
                raise ConfigError(_unknown("section", name))
            if not isinstance(section, Mapping):
                raise ConfigError(f"{name}: expected a section of settings, got {type(section).__name__} {section!r}")
            for key in section:
                if key not in _SECTIONS[name].types():
                    raise ConfigError(_unknown("setting", f"{name}.{key}"))
            sections[name] = _SECTIONS[name](**section)
        return cls(**sections)

    def to_dict(self) -> dict[str, dict[str, Value]]:
        """Every setting, by section, ready for JSON."""
        return dataclasses.asdict(self)

    def to_toml(self) -> str:
        """Every setting as a TOML file that ``load_config`` reads back to an equal config."""
        sections = []
        for name, settings in self.to_dict().items():
            lines = [f"{key} = {_toml_value(value)}\n" for key, value in settings.items()]
            sections.append(f"[{name}]\n{''.join(lines)}")
        return "\n".join(sections)


_SECTIONS: dict[str, type[Section]] = {
    section.section: section for section in (DataConfig, ModelConfig, TrainingConfig, DecodingConfig)
}


def find_config(name: str) -> Path:
    """The file of a config that comes with the package, such as ``"copy-luong-dot"``, or the file of that path.

    Raises:
        ConfigError: neither.
    """
    shipped = CONFIGS / f"{name}.toml"
    if shipped.is_file():
        return shipped
    path = Path(name)
    if path.suffix == ".toml" or path.exists():
        return path
    names = sorted(path.stem for path in CONFIGS.glob("*.toml"))
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else "name a TOML file."
    raise ConfigError(f"there is no config {name!r}; {hint} The configs of the package: {', '.join(names)}")


def load_config(
    path: str | os.PathLike[str] | None = None, overrides: Iterable[str] | Mapping[str, Value] = ()
) -> Config:
    """The defaults, changed by a TOML file, changed by ``overrides``.

    Args:
        path: the file; None for the defaults.
        overrides: strings ``"section.key=value"`` as typed after ``--set``, or a mapping from ``"section.key"`` to
            values. A typed string needs no quotes.

    Raises:
        ConfigError: the file cannot be read or is not TOML, a section or setting is unknown, or a value is not one that
            the setting can have.
    """
    values = {} if path is None else _read_toml(Path(path))
    pairs = overrides.items() if isinstance(overrides, Mapping) else map(_parse_override, overrides)
    for name, value in pairs:
        section, key = _split_name(name)
        if isinstance(values.setdefault(section, {}), dict):
            values[section][key] = value
    return Config.from_dict(values)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # of TOML's syntax, or of UTF-8
        raise ConfigError(f"{path} is not a TOML file: {error}") from error


def _split_name(name: str) -> tuple[str, str]:
    section, _, key = name.partition(".")
    if section not in _SECTIONS or key not in _SECTIONS[section].types():
        raise ConfigError(_unknown("setting", name))
    return section, key


def _parse_override(text: str) -> tuple[str, Value]:
    """``"section.key=value"`` with the value as TOML writes it, or, where a string is expected, as it stands."""
    name, equals, typed = text.partition("=")
    if not equals:
        raise ConfigError(f"{text!r}: expected section.key=value, as in training.epochs=10")
    name, typed = name.strip(), typed.strip()
    section, key = _split_name(name)
    try:
        parsed = tomllib.loads(f"value = {typed}")
        value = parsed["value"] if len(parsed) == 1 else typed
    except ValueError:
        value = typed
    if _SECTIONS[section].types()[key] is str and not isinstance(value, str):
        value = typed
    return name, value


def _unknown(kind: str, name: str) -> str:
    """An error message that suggests the nearest name of a setting, in any section, or of a section."""
    settings = [f"{section}.{key}" for section, fields in _SECTIONS.items() for key in fields.types()]
    same_key = [known for known in settings if known.partition(".")[2] == name.rpartition(".")[2]]
    candidates = settings if kind == "setting" else [*_SECTIONS, *settings]
    near = same_key or difflib.get_close_matches(name, candidates, n=1)
    hint = f"did you mean {near[0]}?" if near else f"the sections are {', '.join(_SECTIONS)}"
    return f"there is no {kind} {name!r}; {hint}"


def _toml_value(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's, except that TOML wants one for DEL.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
