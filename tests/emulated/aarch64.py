"""Runs tests of the kernels on an emulated 64-bit Arm processor, whose vectors are NEON.

    python tests/emulated/aarch64.py                       a handful of them, some ten minutes
    python tests/emulated/aarch64.py tests/kernels/gemm    those given; options are pytest's

It needs Debian or Ubuntu with qemu-user-static, and network access: the first time it fetches Debian's Python for arm64
and the wheels of the engine and of the tests for it into a folder below the user's cache. Nothing is installed.
The emulator tells that the code is right, and nothing of its speed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HANDFUL = [
    "tests/kernels/gemm/test_product.py",
    "tests/kernels/gemm/test_row.py",
    "tests/kernels/test_softmax.py",
    "tests/kernels/test_philox.py",
    "tests/kernels/attention/test_tiled.py",
    "tests/kernels/runtime/test_pool.py",
]
EMULATOR = "qemu-aarch64-static"
PYTHON = "3.11"
"""Of the Debian release that the fetched packages come from."""
WHEELS = ["numpy", "numba", "llvmlite", "pytest", "hypothesis"]
PLATFORMS = ["manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"]


def main() -> int:
    """Fetch what is missing and run the tests; returns pytest's exit code."""
    for tool, package in ((EMULATOR, "qemu-user-static"), ("apt-get", "apt"), ("dpkg", "dpkg")):
        if not shutil.which(tool):
            sys.exit(f"error: {tool} is missing; on Debian and Ubuntu: apt-get install {package}")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tinygrad_attn-aarch64"
    system, packages = cache / "system", cache / "packages"
    for folder, fetch in ((system, fetch_python), (packages, fetch_wheels)):
        if not folder.exists():
            unfinished = folder.with_suffix(".unfinished")  # so that nobody takes a part for the whole
            shutil.rmtree(unfinished, ignore_errors=True)
            fetch(cache, unfinished)
            unfinished.rename(folder)
    environment = {
        **os.environ,
        "PYTHONPATH": str(packages),
        "PYTHONDONTWRITEBYTECODE": "1",
        "NUMBA_CACHE_DIR": str(cache / "numba"),
    }
    options = ["-p", "no:cacheprovider", "-o", "addopts=--strict-markers --import-mode=importlib", "-v"]
    tests = sys.argv[1:] or HANDFUL
    python = emulated_python(system)
    return subprocess.run([python, "-m", "pytest", *options, *tests], cwd=ROOT, env=environment).returncode


def emulated_python(system: Path) -> str:
    """A command that runs Python in the emulator, and that tests find as ``sys.executable`` for further processes."""
    command = system / "usr/bin/emulated-python"
    python = system / "usr/bin" / f"python{PYTHON}"
    command.write_text(f'#!/bin/sh\nexec {EMULATOR} -cpu max -L "{system}" -0 "$0" "{python}" "$@"\n', "utf-8")
    command.chmod(0o755)
    return str(command)


def fetch_python(cache: Path, system: Path) -> None:
    """Unpack Debian's Python for arm64, with all that it depends on, below ``system``."""
    print("fetching Python for arm64", flush=True)
    state, archives = cache / "apt", cache / "apt/archives"
    for folder in (state / "lists/partial", archives / "partial", system):
        folder.mkdir(parents=True, exist_ok=True)
    (state / "status").touch()  # so that apt takes nothing for installed
    settings = {
        "Dir::State": state,
        "Dir::State::status": state / "status",
        "Dir::Cache::archives": archives,
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
    }
    apt = ["apt-get", "-q", *[part for key, value in settings.items() for part in ("-o", f"{key}={value}")]]
    run(*apt, "update")
    wanted = [f"python{PYTHON}", "python3-distutils", "libstdc++6"]
    run(*apt, "install", "--yes", "--download-only", "--no-install-recommends", *wanted)
    for package in sorted(archives.glob("*.deb")):
        run("dpkg", "--extract", str(package), str(system))


def fetch_wheels(cache: Path, packages: Path) -> None:
    """Unpack the packages, in the versions that are installed here, for arm64."""
    print("fetching the packages for arm64", flush=True)
    wheels = cache / "wheels"
    pinned = [f"{name}=={version(name)}" for name in WHEELS]
    target = ["--python-version", PYTHON, "--only-binary=:all:", *[f"--platform={name}" for name in PLATFORMS]]
    run(sys.executable, "-m", "pip", "download", "-q", *target, "--dest", str(wheels), *pinned)
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(packages)


def run(*command: str) -> None:
    """Run a command; end with its name if it fails."""
    if code := subprocess.run(command).returncode:
        sys.exit(f"error: `{' '.join(command)}` failed with exit code {code}")


if __name__ == "__main__":
    sys.exit(main())
