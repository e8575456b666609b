"""Show where the time of a training step goes, op by op."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

from .options import add_data, add_threads, overrides, path_name, positive, use_threads

NEEDS = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `parser.Command`."""
    parser.add_argument(
        "config",
        metavar="WORKLOAD|CONFIG",
        type=path_name,
        help="a workload of bench, or a config as for train --config: a name or a file",
    )
    add_data(parser)
    parser.add_argument("--steps", metavar="N", type=positive, default=5, help="steps to profile (default: 5)")
    parser.add_argument("--shapes", action="store_true", help="a row for each op and the shapes of its operands")
    add_threads(parser)
    parser.add_argument("--json", action="store_true", help="print the profile as JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """See `parser.Command`."""
    from ..speed.profile import describe_profile, find_step, profile

    use_threads(arguments.threads)
    found = profile(
        arguments.config,
        find_step(arguments.config, overrides(arguments)),
        arguments.steps,
        by_shape=arguments.shapes,
        report=lambda line: None if arguments.quiet else print(line, file=sys.stderr),
    )
    print(json.dumps(dataclasses.asdict(found)) if arguments.json else describe_profile(found))
    return 0
