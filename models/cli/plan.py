"""Tell what training will take before it begins: parameters, memory and time, on one machine and on several."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .options import (
    above_zero,
    add_data,
    add_threads,
    not_negative,
    overrides,
    path_name,
    positive,
    seconds,
    several,
    use_threads,
)

if TYPE_CHECKING:
    from ..speed.plan import Plan, PlanOptions

NEEDS = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `parser.Command`."""
    parser.add_argument(
        "config",
        metavar="CONFIG|RUN|WORKLOAD",
        type=path_name,
        help="a config as for train --config, a run folder, or a workload of bench",
    )
    add_data(parser)
    parser.add_argument(
        "--ranks",
        metavar="N,…",
        type=several(positive),
        default=[],
        help="how many machines train together, as with mpirun -n N; several numbers as in 8,64,512",
    )
    parser.add_argument(
        "--bandwidth",
        metavar="GBIT,…",
        type=several(above_zero),
        default=[1.0, 10.0, 100.0],
        help="what each machine sends and receives, in 10⁹ bits a second (default: 1,10,100)",
    )
    parser.add_argument(
        "--latency",
        metavar="US",
        type=not_negative,
        default=50.0,
        help="of a message between them, in microseconds (default: 50)",
    )
    parser.add_argument(
        "--seconds", metavar="S", type=seconds, default=3.0, help="about how long to take steps for (default: 3)"
    )
    add_threads(parser)
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")


def run(arguments: argparse.Namespace) -> int:
    """See `parser.Command`."""
    from ..console.working import working
    from ..demos import folder_of
    from ..speed.plan import PlanOptions
    from ..speed.plan_text import describe_plan

    use_threads(arguments.threads)
    options = PlanOptions(arguments.ranks, arguments.bandwidth, arguments.latency * 1e-6, arguments.seconds)
    with working("taking a few steps"):
        found = _plan(str(folder_of(arguments.config)), overrides(arguments), options)
    print(json.dumps(dataclasses.asdict(found)) if arguments.json else describe_plan(found))
    return 0


def _plan(name: str, changes: Sequence[str], options: PlanOptions) -> Plan:
    from ..memory import TooLargeError
    from ..speed.beyond import plan_beyond
    from ..speed.plan import make_plan
    from ..speed.subject import ConfigSubject, WorkloadSubject, find_run

    run = find_run(name, changes)
    if run is None:
        return make_plan(WorkloadSubject(name), options)
    try:
        subject = ConfigSubject(name, run)
    except TooLargeError:
        return plan_beyond(name, run, options)
    return make_plan(subject, options)
