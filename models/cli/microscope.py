"""A page with every number of the forward and backward pass over one sentence or text."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..console.errors import CHECK_FAILED, CommandError
from .options import path_name, port, positive

if TYPE_CHECKING:
    from ..microscope import Microscope
    from ..microscope.record.drawn import Given
    from ..microscope.record.rerun import Rerun
    from ..trained import TrainedModel

# A run's name, as opposed to a sentence.
_NAME = re.compile(r"[A-Za-z][\w:-]*")

NEEDS = ("latex2mathml", "rich", "safetensors")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `parser.Command`."""
    parser.add_argument(
        "run", metavar="RUN", nargs="?", type=path_name, help="a run folder that train has made; with --demo its name"
    )
    parser.add_argument("source", metavar="SOURCE", nargs="?", help="a source sentence; of a language model, the text")
    parser.add_argument(
        "--demo",
        action="store_true",
        help="look into a trained run that ships with the package: --demo [NAME] [SOURCE]; an unknown name lists them",
    )
    parser.add_argument(
        "--target", metavar="TEXT", help="the target (default: the model's own translation); a language model has none"
    )
    parser.add_argument(
        "--out", metavar="FILE", type=path_name, help="the page, or with .json its data (default: microscope.html)"
    )
    parser.add_argument(
        "--worksheet", metavar="FILE", type=path_name, help="a page with the tour's questions and their key, to print"
    )
    parser.add_argument(
        "--view", choices=("page", "term"), default="page", help="page (default), or term: tables in the terminal"
    )
    parser.add_argument(
        "--serve", action="store_true", help="serve the page on this machine, to type other sentences and nudge weights"
    )
    parser.add_argument("--port", metavar="N", type=port, help="the port of --serve (default: any free one)")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.add_argument(
        "--beside", metavar="RUN", type=path_name, help="another run, to compare the paths of its gradient"
    )
    parser.add_argument(
        "--sentences",
        metavar="N",
        type=positive,
        help="show averages with their spread, too, over N sentences of the run's test set (or of --file)",
    )
    parser.add_argument(
        "--file",
        metavar="FILE",
        type=path_name,
        help="average over a file's lines: a source each, with a tab and its target or without; or a text each",
    )
    parser.add_argument(
        "--broken",
        metavar="NAME",
        help="compute with a wrong derivative, to see which check finds it; an unknown name lists them",
    )


def run(arguments: argparse.Namespace) -> int:
    """Make the page, its JSON, or tables; a failed check is an error, unless --broken was given."""
    from tinygrad_attn.kernels.runtime.ahead import first_run

    from ..console.working import working
    from ..trained import TrainedModel

    if arguments.port is not None and not arguments.serve:
        raise CommandError("--port is the port of --serve; give --serve too")
    if arguments.demo:
        _choose_demo(arguments)
    elif arguments.source is None:
        missing = "SOURCE" if arguments.run else "RUN, SOURCE"
        arguments.parser.error(f"the following arguments are required: {missing}, or --demo")
    _check_alternatives(arguments)
    model = TrainedModel.load(arguments.run)
    beside = TrainedModel.load(arguments.beside) if arguments.beside else None
    options = {"beside": beside, "broken": arguments.broken, "sentences": _sentences(arguments, model)}
    if arguments.serve:
        return _serve(arguments, model, options)
    with working("recording and checking every number"):
        found = first_run(lambda: model.microscope(arguments.source, arguments.target, **options))
    if arguments.view == "term":
        from ..microscope.page.terminal import print_microscope

        print_microscope(found.data)
    if arguments.worksheet:
        found.save_worksheet(arguments.worksheet)
    path = arguments.out or ("microscope.html" if arguments.view == "page" and not arguments.worksheet else None)
    if path:
        with working(f"writing {path}"):
            found.save(path)
    if written := path or arguments.worksheet:
        _report(found, written)
        if arguments.open:
            _open(Path(written).absolute().as_uri())
    return _verdict(found, arguments.broken)


def _check_alternatives(arguments: argparse.Namespace) -> None:
    """Refuse options that name two different things to do with the page."""
    if arguments.serve:
        files = {"--out": arguments.out, "--worksheet": arguments.worksheet}
        given = [name for name, value in files.items() if value]
        if given or arguments.view != "page":
            raise CommandError(
                f"--serve shows the page in the browser; leave out {' and '.join(given) or '--view'}, or --serve"
            )
    elif arguments.open and (arguments.view == "term" or Path(arguments.out or "").suffix == ".json"):
        raise CommandError("--open opens the page; leave out --view term, and give --out a name that ends in .html")


def _sentences(arguments: argparse.Namespace, model: TrainedModel) -> Given | None:
    """The sentences to take averages over; None if none were asked for."""
    from ..data.lines import file_lines
    from ..interface import Translator

    if arguments.file is None:
        return arguments.sentences
    lines = [line for line in file_lines(Path(arguments.file)) if line]
    if not lines:
        raise CommandError(f"{arguments.file} has no sentences; give it one a line")
    texts: list[Any] = lines[: arguments.sentences]
    if isinstance(model.module, Translator):
        texts = [tuple(line.split("\t", 1)) if "\t" in line else line for line in texts]
    return texts


def _report(found: Microscope, path: str) -> None:
    """One line: what is in the page, and whether its numbers hold."""
    from ..microscope.checks.verdict import verdict_of
    from ..microscope.record.example import headline

    print(f"{path}: {headline(found.data)}; {verdict_of(found.data['check'])}")


def _choose_demo(arguments: argparse.Namespace) -> None:
    """Read RUN and SOURCE as a demo's name and a sentence; either may be missing. In a terminal its page is opened."""
    from ..demos import DEMOS, find_demo
    from ..demos.catalog import PREFIX

    if arguments.source is None and arguments.run and not _NAME.fullmatch(arguments.run):
        arguments.run, arguments.source = None, arguments.run
    demo = find_demo((arguments.run or next(iter(DEMOS))).removeprefix(PREFIX))
    if arguments.source is None:
        arguments.source, arguments.target = demo.source, arguments.target or demo.target
    arguments.run = demo.folder
    if sys.stdout.isatty() and arguments.view == "page" and not arguments.out:
        arguments.open = True


def _open(address: str) -> None:
    """Open an address in the user's browser."""
    import webbrowser

    if not webbrowser.open(address):
        print(f"note: no browser could be opened; the page is at {address}", file=sys.stderr)


def _verdict(found: Microscope, broken: str | None) -> int:
    """The exit code; prints on stderr which check failed, or that a broken derivative was not caught."""
    from ..microscope.checks.badge import describe_worst
    from ..microscope.checks.gallery import GALLERY
    from ..microscope.checks.verdict import failing

    check = found.data["check"]
    if broken:
        if check["ok"]:
            shows = GALLERY[broken].shows
            print(f"note: the badge is green although {broken} was used; its error shows {shows}", file=sys.stderr)
        return 0
    if not check["ok"]:
        what = f"{failing(check)}, the worst: " if check["state"] == "bad" else ""
        print(f"error: {what}{describe_worst(check)}", file=sys.stderr)
        return CHECK_FAILED
    return 0


def _serve(arguments: argparse.Namespace, model: TrainedModel, options: dict[str, Any]) -> int:
    """The live microscope, until Ctrl-C."""
    from ..console.working import working
    from ..microscope.page.serve import MicroscopeServer

    first: Rerun = {"source": arguments.source, "target": arguments.target}
    if (beside := options["beside"]) is not None:
        options = {**options, "beside": (beside.run, beside.module)}
    with working("recording and checking every number"):
        made = MicroscopeServer(model.run, model.module, first, arguments.port or 0, **options)
    with made as server:
        print(f"The microscope is at {server.address}; Ctrl-C ends it", flush=True)
        if arguments.open:
            _open(server.address)
        server.serve_forever()
    return 0
