"""What importing tinygrad_attn costs beside numba: processor time, in processes that take turns.

::

    python tests/benchmarks/bench_import.py

One import before the first round writes Python's bytecode, unless PYTHONDONTWRITEBYTECODE is set: then every process
compiles our source (numba's comes compiled), and the ratio says that and not what the import does.
"""

import argparse
import statistics
import subprocess
import sys

_TIME = "import time; start = time.process_time(); import {}; print(time.process_time() - start)"


def seconds(module: str) -> float:
    """The processor time of importing ``module`` in a process of its own."""
    return float(subprocess.check_output([sys.executable, "-c", _TIME.format(module)], text=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    seconds("tinygrad_attn")
    times = [(seconds("numba"), seconds("tinygrad_attn")) for _ in range(rounds)]
    numba, ours = (1000 * statistics.median(column) for column in zip(*times, strict=True))
    print(f"import numba {numba:.0f} ms, import tinygrad_attn {ours:.0f} ms: ratio {ours / numba:.3f}, {rounds} rounds")


if __name__ == "__main__":
    main()
