"""The command line: ``python -m models``, or ``tinygrad-attn`` once installed.

A command does its imports itself, so that ``--help`` and a mistyped option answer at once.
"""

from __future__ import annotations

import argparse
import difflib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ..console.errors import CHECK_FAILED, USER_ERROR, CommandError

__all__ = ["main"]

INTERRUPTED, PIPE_CLOSED = 128 + 2, 128 + 13  # as shells count the signals SIGINT and SIGPIPE


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and suggests the nearest option or command."""

    def error(self, message: str) -> NoReturn:
        self.exit(USER_ERROR, f"{self.prog}: error: {message}{self._suggestion(message)}; see {self.prog} --help\n")

    def _suggestion(self, message: str) -> str:
        wrong = message.rpartition(": ")[2].split() if message.startswith("unrecognized arguments") else []
        known = [option for action in self._actions for option in action.option_strings]
        near = [match for word in wrong for match in difflib.get_close_matches(word.partition("=")[0], known, n=1)]
        return f"; did you mean {near[0]}?" if near else ""

    def parse_args(self, args: Sequence[str] | None = None, namespace: None = None) -> argparse.Namespace:  # type: ignore[override]
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            # A command's own parser knows the options that may have been meant.
            parser = getattr(parsed, "parser", self)
            parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: those of the process if None.

    Returns:
        The exit code: 0 for success, 1 for a failed check, 2 for a user's error (one line on stderr), 130 for Ctrl-C,
        141 if whoever read the output has left.
    """
    _prepare_streams()
    parsed = _parser().parse_args(arguments)
    from ..data import DataError
    from ..runs.config import ConfigError

    try:
        return parsed.command(parsed)
    except (CommandError, ConfigError, DataError) as error:
        return _fail(str(error))
    except ModuleNotFoundError as error:
        return _fail(f"{error}; the commands need: pip install 'tinygrad-attn[models]'")
    except BrokenPipeError:
        # Whoever read our output has enough of it. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except OSError as error:
        return _fail(f"{error.filename or 'input or output'}: {error.strerror or error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _fail(message: str) -> int:
    # Some messages of the engine are lists.
    print("error:", " ".join(message.split()), file=sys.stderr)
    return USER_ERROR


def _prepare_streams() -> None:
    """Let no command stop for a stream that is closed, nor for Korean on a terminal that cannot show it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, open to the end
        elif mode == "w" and hasattr(stream, "reconfigure") and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _parser() -> _Parser:
    parser = _Parser(
        prog="python -m models", description="Train attention models, use them, and check the engine's derivatives."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    train = commands.add_parser(
        "train", help="train a model; without options, one that reads dates in English and Korean"
    )
    train.set_defaults(command=_train, parser=train)
    train.add_argument(
        "--config", metavar="NAME", help="settings: the name of one of the configs in models/configs, or a TOML file"
    )
    _add_data(train)
    train.add_argument("--out", metavar="RUN", type=_named, help="the run folder to make (default: a new one in runs/)")
    train.add_argument(
        "--resume", metavar="RUN", type=_named, help="continue a run that was stopped, with its own settings"
    )
    train.add_argument("--quick", action="store_true", help="a short run that shows everything and learns little")

    translate = commands.add_parser("translate", help="translate texts, a file's lines, or standard input")
    translate.set_defaults(command=_translate, parser=translate)
    translate.add_argument("run", metavar="RUN", help="a run folder that train has made")
    translate.add_argument(
        "texts", metavar="TEXT", nargs="*", default=[], help="a text (default: each line of standard input)"
    )
    translate.add_argument("--file", metavar="FILE", help="translate each line of a file")
    _add_decoding(translate)
    translate.add_argument(
        "--n-best", metavar="N", type=_positive, help="print N translations a line: its number, score, translation"
    )
    translate.add_argument(
        "--attention", metavar="FILE", help="draw what the model attended to in the first few sentences, as PNG"
    )

    evaluate = commands.add_parser("evaluate", help="measure a run: BLEU, chrF and more, and each by source length")
    evaluate.set_defaults(command=_evaluate, parser=evaluate)
    evaluate.add_argument("run", metavar="RUN", help="a run folder that train has made")
    _add_split(evaluate)
    _add_decoding(evaluate)
    evaluate.add_argument(
        "--bleu-tokenizer",
        metavar="NAME",
        choices=("13a", "intl", "zh", "char", "none"),
        help="what BLEU counts as a word: 13a, intl, zh, char or none (default: 13a; for generated data its symbols)",
    )
    evaluate.add_argument(
        "--bleu-lowercase",
        action=argparse.BooleanOptionalAction,
        help="compare without case (default: if the model was trained without)",
    )
    evaluate.add_argument("--json", action="store_true", help="print the evaluation as JSON instead of tables")

    compare = commands.add_parser("compare", help="one table and one picture of several evaluated runs")
    compare.set_defaults(command=_compare, parser=compare)
    compare.add_argument("runs", metavar="RUN", nargs="+", help="a run folder that evaluate has measured")
    _add_split(compare)
    compare.add_argument(
        "--out", metavar="FILE", default="comparison.png", help="the picture (default: comparison.png)"
    )

    microscope = commands.add_parser(
        "microscope", help="a page with every number of the forward and backward pass over one sentence"
    )
    microscope.set_defaults(command=_microscope, parser=microscope)
    microscope.add_argument("run", metavar="RUN", help="a run folder that train has made")
    microscope.add_argument("source", metavar="SOURCE", help="a source sentence")
    microscope.add_argument("--target", metavar="TEXT", help="the target (default: the model's own translation)")
    microscope.add_argument(
        "--out", metavar="FILE", type=_named, help="the page, or with .json its data (default: microscope.html)"
    )
    microscope.add_argument(
        "--view", choices=("page", "term"), default="page", help="page (default), or term: tables in the terminal"
    )
    microscope.add_argument(
        "--serve", action="store_true", help="serve the page on this machine, to type other sentences and nudge weights"
    )
    microscope.add_argument(
        "--beside", metavar="RUN", type=_named, help="another run, to compare the paths of its gradient"
    )
    microscope.add_argument(
        "--broken",
        metavar="NAME",
        help="compute with a wrong derivative, to see what catches it; a wrong name lists them",
    )

    gradcheck = commands.add_parser(
        "gradcheck", help="check the derivatives of all ops, or of some, against finite differences"
    )
    gradcheck.set_defaults(command=_gradcheck, parser=gradcheck)
    gradcheck.add_argument("ops", metavar="OP", nargs="*", default=[], help="the name of an op (default: all)")
    gradcheck.add_argument(
        "--samples", metavar="N", type=_positive, default=10, help="random samples of each op (default: 10)"
    )
    gradcheck.add_argument("--seed", metavar="N", type=int, default=0, help="of the samples (default: 0)")

    bench = commands.add_parser("bench", help="time the training step of a model of known size")
    bench.set_defaults(command=_bench, parser=bench)
    bench.add_argument("workload", metavar="WORKLOAD", help="such as transformer-small; a wrong name lists them")
    bench.add_argument(
        "--seconds", metavar="S", type=_seconds, default=4.0, help="how long to measure (default: 4; 5 steps at least)"
    )
    _add_threads(bench)
    bench.add_argument("--json", action="store_true", help="print one line of JSON, for comparing libraries")

    profile = commands.add_parser("profile", help="tell where the time of a training step goes, op by op")
    profile.set_defaults(command=_profile, parser=profile)
    profile.add_argument(
        "config", metavar="WORKLOAD|CONFIG", help="what bench measures, or what train --config takes: a name or a file"
    )
    _add_data(profile)
    profile.add_argument("--steps", metavar="N", type=_positive, default=5, help="steps to profile (default: 5)")
    profile.add_argument("--shapes", action="store_true", help="a row for each op and shapes of its operands")
    _add_threads(profile)
    profile.add_argument("--json", action="store_true", help="print the profile as JSON instead of a table")
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", metavar="SECTION.KEY=VALUE", nargs="+", action="extend", default=[], help="change settings"
    )
    parser.add_argument("--data", metavar="FOLDER", help="parallel text: train.L, valid.L, test.L for two languages L")
    parser.add_argument("--source", metavar="L", help="the source language, as the files' ending")
    parser.add_argument("--target", metavar="L", help="the target language")


def _add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", metavar="N", type=_positive, help="threads of the kernels (default: all cores)")


def _add_split(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--split", metavar="SPLIT", choices=("test", "valid"), default="test", help="test (default) or valid"
    )


def _add_decoding(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--beam", metavar="N", type=_positive, help="width of the beam; 1 is greedy (default: the run's)"
    )
    parser.add_argument(
        "--length-penalty", metavar="A", type=float, help="exponent of the beam's length penalty (default: the run's)"
    )


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return number


def _named(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError(
            "expected the name of a folder, got nothing; is a variable of the shell unset?"
        )
    return text


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of seconds of at least 0, got {text!r}")
    return seconds


# -- train -----------------------------------------------------------------------------------------------------------


def _train(arguments: argparse.Namespace) -> int:
    # Before training, not when it comes to saving.
    missing = [name for name in ("safetensors", "matplotlib", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        raise CommandError(f"training needs {', '.join(missing)}: pip install 'tinygrad-attn[models]'")
    from ..console.progress import make_progress
    from ..data import load_text, train_tokenizers
    from ..runs.config import find_config, load_config
    from ..runs.folder import LAST, Run, RunError
    from ..runs.quick import load_quick_config
    from ..training.trainer import Trainer, TrainingError

    try:
        if arguments.resume:
            _refuse_with_resume(arguments)
            run, arrays, position = Run.open(arguments.resume, LAST)
            text = load_text(run.config.data)
        else:
            path = find_config(arguments.config) if arguments.config else None
            load = load_quick_config if arguments.quick else load_config
            config = load(path, [*_overrides(arguments), *arguments.set])
            text = load_text(config.data)
            folder = arguments.out or _new_folder(text.name, config.model.name)
            run = Run(folder, config, *train_tokenizers(text, config.data))
        progress = make_progress()
        try:
            progress.say(text.summary())
            trainer = Trainer(run, text, progress)
            if arguments.resume:
                trainer.resume(arrays, position)
            else:
                run.create()
            progress.say(trainer.summary())
            finished = trainer.train()
            last_words = trainer.finish() if finished else trainer.farewell()
        finally:
            progress.stop()
    except (RunError, TrainingError) as error:
        raise CommandError(str(error)) from error
    print(last_words)
    return 0 if finished else INTERRUPTED


def _refuse_with_resume(arguments: argparse.Namespace) -> None:
    given = [
        f"--{name}"
        for name in ("config", "set", "data", "source", "target", "out", "quick")
        if getattr(arguments, name)
    ]
    if given:
        raise CommandError(f"--resume continues a run with its own settings; leave out {' and '.join(given)}")


def _overrides(arguments: argparse.Namespace) -> list[str]:
    """What --data, --source and --target say about settings."""
    languages = {"source": arguments.source, "target": arguments.target}
    if arguments.data is None:
        if any(languages.values()):
            raise CommandError("--source and --target name files in the folder that --data names; give --data too")
        return []
    if not (all(languages.values()) or arguments.config):
        raise CommandError(
            "--data needs --source and --target, the endings of the files, as in --source ko --target en"
        )
    # Absolute, so that --resume finds it from anywhere.
    settings = {"kind": "parallel", "directory": Path(arguments.data).absolute(), **languages}
    return [f"data.{name}={value}" for name, value in settings.items() if value]


def _new_folder(data: str, model: str) -> Path:
    """``runs/data-model``, with a number if there is one already."""
    first = Path("runs") / f"{data}-{model}"
    number, folder = 1, first
    while folder.exists():
        number += 1
        folder = first.with_name(f"{first.name}-{number}")
    return folder


# -- translate, evaluate and compare ---------------------------------------------------------------------------------


def _translate(arguments: argparse.Namespace) -> int:
    from .commands import translate

    return translate(arguments)


def _evaluate(arguments: argparse.Namespace) -> int:
    from .commands import evaluate

    return evaluate(arguments)


def _compare(arguments: argparse.Namespace) -> int:
    from .commands import compare

    return compare(arguments)


def _microscope(arguments: argparse.Namespace) -> int:
    from .commands import microscope

    return microscope(arguments)


# -- gradcheck -------------------------------------------------------------------------------------------------------


def _gradcheck(arguments: argparse.Namespace) -> int:
    from .gradcheck import UnknownOp, choose_ops, print_reports

    try:
        ops = choose_ops(arguments.ops)
    except UnknownOp as error:
        raise CommandError(str(error)) from error
    return 0 if print_reports(ops, arguments.samples, arguments.seed) else CHECK_FAILED


# -- bench and profile -----------------------------------------------------------------------------------------------


def _bench(arguments: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    from tinygrad_attn import get_num_threads

    from ..speed.bench import measure, print_measurement
    from ..speed.workloads import UnknownWorkload

    _use_threads(arguments.threads)
    try:
        found = measure(arguments.workload, arguments.seconds)
    except UnknownWorkload as error:
        raise CommandError(str(error)) from error
    if arguments.json:
        print(json.dumps(asdict(found)))
    else:
        print_measurement(found, get_num_threads())
    return 0


def _profile(arguments: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    from ..speed.profile import ProfileError, describe_profile, find_step, profile

    _use_threads(arguments.threads)
    try:
        step = find_step(arguments.config, [*_overrides(arguments), *arguments.set])
    except ProfileError as error:
        raise CommandError(str(error)) from error
    found = profile(
        arguments.config,
        step,
        arguments.steps,
        by_shape=arguments.shapes,
        say=lambda line: print(line, file=sys.stderr),
    )
    print(json.dumps(asdict(found)) if arguments.json else describe_profile(found))
    return 0


def _use_threads(count: int | None) -> None:
    from tinygrad_attn import set_num_threads

    if count is not None:
        try:
            set_num_threads(count)
        except ValueError as error:
            raise CommandError(f"--threads {count}: {error}") from error
