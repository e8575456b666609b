"""Config: all settings of a run, read from a TOML file; the command line can override each.

    import = ["my_model.py"]

    [data]
    kind = "dates"

    [training]
    epochs = 5

read with ``load_config("run.toml", ["training.learning_rate=0.002", "data.tokenizer=words"])``.

A setting is a field of one of four sections (see `models.setting`). The section decoding is defined here, training in
`models.runs.training`; the data section is defined by the task that ``data.kind`` names, the model section by the model
that ``model.name`` names, each in its own file. There is no "none": an option that is off has 0 or an empty string.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ..console.suggest import nearest
from ..data import TASKS, BaseTask, Task
from ..interface import ModelSettings
from ..registry import MODELS, import_file
from ..setting import ConfigError, Section, Value, parse_value, setting, short, suggested
from .training import TrainingConfig

__all__ = [
    "CHOSEN_BY",
    "CONFIGS",
    "SECTIONS",
    "Config",
    "ConfigError",
    "DecodingConfig",
    "TrainingConfig",
    "change",
    "differences",
    "find_config",
    "load_config",
    "reads_of",
    "section_classes",
]

CONFIGS = Path(__file__).parents[1] / "configs"
"""The configs that come with the package, one file for each result in the README."""

SECTIONS = ("data", "model", "training", "decoding")

CHOSEN_BY = {"data": "kind", "model": "name"}
"""By section, the setting that says which class of settings the section has."""

_READ = {"pairs": "pairs of a source and a target", "text": "a text without sources"}

_DEFAULT = {"data": "dates", "model": "bahdanau"}


@dataclass(frozen=True)
class DecodingConfig(Section):
    """How a trained model translates."""

    section = "decoding"

    batch_size: int = setting(64, "sentences translated together", minimum=1)
    max_length: int = setting(100, "the most symbols of a translation", minimum=1)
    beam: int = setting(1, "hypotheses kept at each step; 1 is greedy decoding", minimum=1, most=10_000)
    length_penalty: float = setting(
        0.6, "the exponent α of beam search; 0 prefers short translations", minimum=0, most=10
    )
    min_length: int = setting(0, "the fewest symbols of a translation", minimum=0)
    no_repeat_ngram_size: int = setting(
        0, "n: no n symbols in a row come twice in a translation; 0 allows all", minimum=0
    )
    unknown: str = setting(
        "keep",
        "what becomes of <unk> in a translation: keep it, forbid it in decoding, or replace it by the source word that "
        "it attends to most, in what translate and evaluate show",
        choices=("keep", "forbid", "replace"),
    )
    int8: bool = setting(False, "translate with the decoder's weights rounded to 8 bits: faster, almost as good")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_length > self.max_length:
            raise ConfigError(
                f"decoding.min_length is {self.min_length}, above decoding.max_length {self.max_length}; lower it"
            )


@dataclass(frozen=True)
class Config:
    """All settings of a run.

    Attributes:
        imports: the user's files that its model or task come from, as absolute paths.
    """

    data: BaseTask = dataclasses.field(default_factory=lambda: TASKS[_DEFAULT["data"]]())
    model: ModelSettings = dataclasses.field(default_factory=lambda: MODELS[_DEFAULT["model"]].Settings())
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    decoding: DecodingConfig = dataclasses.field(default_factory=DecodingConfig)
    imports: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.model.reads != self.data.gives:
            raise ConfigError(
                f"model.name is {self.model.name!r}, which reads {_READ[self.model.reads]}, and data.kind "
                f"{self.data.kind!r} gives {_READ[self.data.gives]}; choose another of the two"
            )
        if not isinstance(self.data, Task):
            return
        self.model.check_vocabulary(self.data.shared_vocabulary)
        limits = self.model.longest_source(), self.model.longest_target()
        for name, length in self.data.lengths().items():
            self._check_length(name, length, min((limit for limit in limits if limit is not None), default=None))
        self._check_length("decoding.max_length", self.decoding.max_length, self.model.longest_target())

    @property
    def pairs(self) -> Task:
        """The data section, of a translator's config.

        Raises:
            ConfigError: it gives no pairs.
        """
        if not isinstance(self.data, Task):
            raise ConfigError(f"data.kind {self.data.kind!r} gives {_READ[self.data.gives]}, and no pairs")
        return self.data

    def _check_length(self, name: str, length: int, most: int | None) -> None:
        """Raise if the setting ``name`` allows sentences longer than the model reads."""
        if most is None or length <= most:
            return
        limit = getattr(self.model, "max_length", most)
        after = " after <s>" if most < limit else ""
        raise ConfigError(
            f"{name} is {length}, but {self.model.limited_by()} with model.max_length {limit} is for {most} "
            f"symbols{after}; set model.max_length to at least {limit + length - most}, or lower {name}"
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Self:
        """The config with ``values``, a mapping of sections to settings; missing settings have their default.

        Files named under ``import`` are imported first. A setting of another model or task than the chosen one is
        accepted if it has its default value, for files that list the settings of all models.

        Raises:
            ConfigError: an unknown section or setting, a value that it cannot have, or a file that cannot be imported.
        """
        imports = _import_files(values.get("import", []), Path())
        sections: dict[str, Any] = {}
        for name, settings in values.items():
            if name != "import":
                sections[name] = _read_section(name, settings)
        return cls(**sections, imports=imports)

    def to_dict(self) -> dict[str, Any]:
        """The settings of this model and task, by section, and ``import`` if there is any; ready for JSON."""
        imports = {"import": list(self.imports)} if self.imports else {}
        return imports | {name: dataclasses.asdict(getattr(self, name)) for name in SECTIONS}

    def to_toml(self) -> str:
        """The settings as a TOML file that `load_config` reads back to an equal config."""
        import tomli_w

        return tomli_w.dumps(self.to_dict())


def section_classes(section: str) -> dict[str, type[Section]]:
    """The classes of settings that a section may have, by the name that chooses them; "" if there is only one."""
    if section == "data":
        return {kind: TASKS[kind] for kind in sorted(TASKS)}
    if section == "model":
        return {name: MODELS[name].Settings for name in sorted(MODELS)}
    return {"": TrainingConfig if section == "training" else DecodingConfig}


def find_config(name: str) -> Path:
    """The file of a config that comes with the package, such as ``"copy-luong-dot"``, or the file of that path.

    Raises:
        ConfigError: neither.
    """
    shipped = CONFIGS / f"{name}.toml"
    if shipped.is_file():
        return shipped
    path = Path(os.path.expanduser(name))
    if path.suffix == ".toml" or path.exists():
        return path
    names = sorted(path.stem for path in CONFIGS.glob("*.toml"))
    near = nearest(name, names)
    hint = f"did you mean {near[0]}?" if near else "name a TOML file."
    raise ConfigError(f"there is no config {short(name)}; {hint} The configs of the package: {', '.join(names)}")


def load_config(
    path: str | os.PathLike[str] | None = None,
    overrides: Iterable[str] | Mapping[str, Value] = (),
    imports: Iterable[str | os.PathLike[str]] = (),
) -> Config:
    """The defaults, changed by a TOML file, changed by ``overrides``.

    Args:
        path: the file; None for the defaults. Its paths under ``import`` are relative to its folder.
        overrides: strings ``"section.key=value"`` as typed after ``--set``, or a mapping from ``"section.key"`` to
            values. A typed string needs no quotes.
        imports: further files of the user's to import; see `models.registry.import_file`.

    Raises:
        ConfigError: the file cannot be read or is not TOML, a section or setting is unknown or one of another model or
            task, a value is not one that the setting can have, or a file cannot be imported.
    """
    values: dict[str, Any] = {} if path is None else _read_toml(Path(path))
    listed = _import_files(values.get("import", []), Path() if path is None else Path(path).parent)
    values["import"] = list(dict.fromkeys([*listed, *map(import_file, imports)]))
    of_file = copy.deepcopy(values)
    _override(values, overrides)
    try:
        return Config.from_dict(values)
    except ConfigError as error:
        if path is None or str(error) != _problem(of_file):
            raise
        raise ConfigError(f"{path}: {error}") from error


def reads_of(path: Path, overrides: Iterable[str]) -> str:
    """What the model of a config's file reads, "pairs" or "text", whatever else is wrong with it; empty if nobody
    knows, as of a user's own model."""
    given = [value for name, value in map(_split_override, overrides) if name == "model.name"]
    section = _read_toml(path).get("model", {})
    name = given[-1] if given else section.get("name", _DEFAULT["model"]) if isinstance(section, dict) else ""
    return MODELS[name].Settings.reads if isinstance(name, str) and name in MODELS else ""


def _problem(values: Mapping[str, Any]) -> str:
    try:
        Config.from_dict(values)
    except ConfigError as error:
        return str(error)
    return ""


def change(config: Config, overrides: Iterable[str] | Mapping[str, Value]) -> Config:
    """The config, changed by ``overrides``; see `load_config`.

    Of a section whose class changes, as the data's does for another task, the settings stay that all such classes have.

    Raises:
        ConfigError: an unknown setting, or a value that it cannot have.
    """
    overrides = overrides if isinstance(overrides, Mapping) else list(overrides)
    values = config.to_dict()
    _override(values, overrides)
    for section, key in CHOSEN_BY.items():
        if values[section][key] != getattr(getattr(config, section), key):
            base: type[Section] = BaseTask if section == "data" else ModelSettings
            shared = base.types()
            values[section] = {name: value for name, value in values[section].items() if name in shared}
    _override(values, overrides)  # once more: among those dropped may be some that are given
    return Config.from_dict(values)


def differences(first: Config, second: Config) -> dict[str, tuple[Value | None, Value | None]]:
    """By name, the settings that have different values in two configs, with both; None for one that a config lacks."""
    flat = [
        {f"{section}.{key}": value for section in SECTIONS for key, value in config.to_dict()[section].items()}
        for config in (first, second)
    ]
    names = dict.fromkeys([*flat[0], *flat[1]])
    return {name: (a, b) for name in names if (a := flat[0].get(name)) != (b := flat[1].get(name))}


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        where = f"byte {error.start + 1} is 0x{error.object[error.start]:02x}"
        raise ConfigError(f"{path} is not a TOML file: it is not UTF-8 ({where}); save it as UTF-8") from error
    except RecursionError as error:
        raise ConfigError(f"{path} is not a config: its values are nested too deep") from error
    except ValueError as error:  # of TOML's syntax
        raise ConfigError(f"{path} is not a TOML file: {error}") from error


def _import_files(names: object, folder: Path) -> tuple[str, ...]:
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f'import: expected a list of files, as in import = ["my_model.py"], got {short(names)}')
    return tuple(import_file(folder / os.path.expanduser(name)) for name in names)


def _override(values: dict[str, Any], overrides: Iterable[str] | Mapping[str, Value]) -> None:
    """Apply overrides to sections of settings, first those that choose the class of a section's settings."""
    typed = not isinstance(overrides, Mapping)
    pairs = list(overrides.items() if isinstance(overrides, Mapping) else map(_split_override, overrides))
    named = [(*_split_name(name), value) for name, value in pairs]
    for section, key, value in sorted(named, key=lambda found: CHOSEN_BY.get(found[0]) != found[1]):
        settings = values.setdefault(section, {})
        if not isinstance(settings, dict):
            continue  # `Config.from_dict` raises the error
        if CHOSEN_BY.get(section) == key:
            settings[key] = parse_value(str(value), str) if typed else value
            continue
        chosen = _class_for(section, settings)
        if key not in chosen.types():
            raise ConfigError(_foreign(section, key, settings))
        settings[key] = parse_value(str(value), chosen.types()[key]) if typed else value


def _split_override(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"{short(text)}: expected section.key=value, as in training.epochs=10")
    return name.strip(), value.strip()


def _split_name(name: str) -> tuple[str, str]:
    section, _, key = name.partition(".")
    if section not in SECTIONS or not _owners(section, key):
        raise ConfigError(_unknown("setting", name))
    return section, key


def _read_section(name: str, values: object) -> Section:
    if name not in SECTIONS:
        raise ConfigError(_unknown("section", name))
    if not isinstance(values, Mapping):
        raise ConfigError(f"{name}: expected a section of settings, got {type(values).__name__} {short(values)}")
    chosen = _class_for(name, values)
    settings = {}
    for key, value in values.items():
        owners = _owners(name, key)
        if key in chosen.types():
            settings[key] = value
        elif not owners:
            raise ConfigError(_unknown("setting", f"{name}.{key}"))
        elif not any(field.name == key and field.default == value for o in owners.values() for field in o.fields()):
            raise ConfigError(_foreign(name, key, values))
    return chosen(**settings)


def _class_for(section: str, values: Mapping[str, Any]) -> type[Section]:
    """The class of a section's settings, by the setting that chooses it."""
    classes, key = section_classes(section), CHOSEN_BY.get(section)
    if key is None:
        return classes[""]
    choice = values.get(key, _DEFAULT[section])
    if not isinstance(choice, str) or choice not in classes:
        suggestion = suggested(choice, classes) if isinstance(choice, str) else ""
        raise ConfigError(f"{section}.{key}: expected one of {', '.join(classes)}, got {short(choice)}{suggestion}")
    return classes[choice]


def _owners(section: str, key: str) -> dict[str, type[Section]]:
    """The classes of settings of a section that have the setting ``key``."""
    return {name: owner for name, owner in section_classes(section).items() if key in owner.types()}


def _foreign(section: str, key: str, values: Mapping[str, Any]) -> str:
    by = CHOSEN_BY[section]
    owners = ", ".join(_owners(section, key))
    return f"{section}.{key} is a setting of {owners}; {section}.{by} is {values.get(by, _DEFAULT[section])!r}"


def _unknown(kind: str, name: str) -> str:
    """An error message that suggests the nearest name of a setting, in any section, or of a section."""
    classes = [(section, owner) for section in SECTIONS for owner in section_classes(section).values()]
    settings = list(dict.fromkeys(f"{section}.{key}" for section, owner in classes for key in owner.types()))
    same_key = [known for known in settings if known.partition(".")[2] == name.rpartition(".")[2]]
    candidates = settings if kind == "setting" else [*SECTIONS, *settings]
    near = same_key or nearest(name, candidates)
    hint = f"did you mean {near[0]}?" if near else f"the sections are {', '.join(SECTIONS)}"
    return f"there is no {kind} {short(name)}; {hint}"
