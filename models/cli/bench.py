"""Time the training step of a model: one of known size, or a config's."""

from __future__ import annotations

import argparse
import dataclasses
import json

from .options import add_data, add_threads, overrides, path_name, seconds, use_threads

NEEDS = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `parser.Command`."""
    parser.add_argument(
        "config",
        metavar="WORKLOAD|CONFIG",
        type=path_name,
        help="a workload, such as transformer-small (a wrong name lists them), or a config as for train --config",
    )
    add_data(parser)
    parser.add_argument(
        "--seconds", metavar="S", type=seconds, default=4.0, help="how long to measure (default: 4; 5 steps at least)"
    )
    add_threads(parser)
    parser.add_argument("--json", action="store_true", help="print one line of JSON, for comparing libraries")


def run(arguments: argparse.Namespace) -> int:
    """See `parser.Command`."""
    from tinygrad_attn import get_num_threads

    from ..console.working import working
    from ..speed.bench import measure, print_measurement
    from ..speed.profile import find_step

    use_threads(arguments.threads)
    step = find_step(arguments.config, overrides(arguments))
    with working(f"taking steps for {arguments.seconds:g} seconds, 5 to 200 of them"):
        found = measure(arguments.config, step, arguments.seconds)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(found)))
    else:
        print_measurement(found, get_num_threads())
    return 0
