"""Kills training at random moments, and fills its disk: does every run end with the bits of one that was not disturbed?

    python tests/fuzz/kills.py [--kills 50] [--writing 20] [--full 10] [--seed 0]

Each run is killed a few times and continued. Some kills come within the writing of a checkpoint, also of the first:
after the file is made, after a part of its bytes (the kernel sends SIGXFSZ at a limit), or before it gets its name.
Then a disk is full: an injected error at a random write, and, for root on Linux, a small disk in memory that grows.

"""

import argparse
import csv
import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LAST = "last.safetensors"
SETTINGS = {
    "data.train_size": 240, "data.valid_size": 4, "data.test_size": 4, "decoding.max_length": 12,
    "model.embedding_size": 4, "model.hidden_size": 6, "model.dropout": 0.1,
    "training.epochs": 3, "training.batch_size": 4, "training.average": 2, "training.teacher_forcing": 0.9,
    "training.warmup": 3, "training.checkpoint_seconds": 0.001, "training.keep_checkpoints": True,
}  # fmt: skip
POINTS = ("made", "half", "named")


def train(folder, point="none", number=0, limit=0):
    """A process that trains in a folder, or goes on there, and comes to grief at a point (see `child`)."""
    begun = (folder / LAST).exists()
    settings = [f"{name}={value}" for name, value in SETTINGS.items()]
    arguments = ["--resume", str(folder)] if begun else ["--out", str(folder), "--set", *settings]
    command = [sys.executable, __file__, "--child", point, str(number), str(limit), "train", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def child(point, number, limit, arguments):
    """Run the command; be killed at a checkpoint ("made", "half", "named"), or find the disk full at a write."""
    count = 0
    waited = "os.rename" if point in ("named", "full") else "open"

    def watch(event, details):
        nonlocal count
        if event != waited or (event == "open" and details[1] != "wb"):
            return
        name = Path(os.fsdecode(details[0])).name
        if not name.endswith(".partial") or not (point == "full" or name.startswith(f".{LAST}.")):
            return
        count += 1
        if count != number:
            return
        if point == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(details[0]))
        if point != "half":
            os.kill(os.getpid(), signal.SIGKILL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    from tinygrad_attn_models.cli.main import main

    sys.addaudithook(watch)
    return main(arguments)


def files(folder):
    """What must be equal, by the name of the file; the columns of time in the log are not."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    with (folder / "log.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    timeless = [{key: text for key, text in row.items() if key not in ("seconds", "tokens_per_second")} for row in rows]
    same = {name: content for name, content in found.items() if name.endswith(".safetensors") or name == "steps.csv"}
    return {**same, "config.toml": found["config.toml"], "log.csv": timeless, "names": sorted(found)}


def finish(folder):
    """Go on to the end, undisturbed."""
    process = train(folder)
    _, errors = process.communicate()
    assert process.returncode == 0, errors


def kill_run(folder, most, writing, draw, seconds):
    """Begin a run and kill it up to ``most`` times, ``writing`` of them within a checkpoint's writing, then finish it.

    Returns:
        How many kills there were in all, how many within the writing, and how many of the first checkpoint's.
    """
    kills = within = first = 0
    while kills < most:
        fresh = not (folder / LAST).exists()
        # The last kills are those within the writing if as many are still to come.
        wanted = writing - within >= most - kills or (within < writing and draw.random() < writing / most)
        point = draw.choice(POINTS) if wanted else "none"
        number = draw.choice([1, draw.randint(1, 40)]) if point != "none" else 0
        process = train(folder, point, number, draw.randint(1, 8_000))
        if point == "none":
            time.sleep(draw.uniform(0.2, 0.9) * seconds)
            process.kill()
        _, errors = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode in (-signal.SIGKILL, -signal.SIGXFSZ), f"{process.returncode} at {point}: {errors}"
        kills += 1
        within += point != "none"
        first += point != "none" and fresh and not (folder / LAST).exists()
    finish(folder)
    return kills, within, first


def fill_by_injection(folder, number):
    """A run whose disk is full at the write of this number; then it has room."""
    process = train(folder, "full", number)
    _, errors = process.communicate()
    if process.returncode:
        assert process.returncode == 2 and "disk full" in errors and str(folder) in errors, errors
        assert ".partial" not in errors and "Traceback" not in errors, errors
    finish(folder)
    return process.returncode == 2


def fill_small_disk(folder, kilobytes):
    """A run on a disk in memory that is too small, and is enlarged then."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)], check=True)
    try:
        process = train(folder / "run")
        _, errors = process.communicate()
        assert process.returncode == 2 and "disk full" in errors and str(folder) in errors, errors
        assert ".partial" not in errors and "Traceback" not in errors, errors
        subprocess.run(["mount", "-o", "remount,size=50m", str(folder)], check=True)
        finish(folder / "run")
        return files(folder / "run")
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def compare(whole, found, what):
    """Raise if a run has not ended as the undisturbed one."""
    different = [name for name in whole if found.get(name) != whole[name]]
    assert found.keys() == whole.keys() and not different, f"{what}: {different or found.keys() ^ whole.keys()} differ"


def run(folder, kills, writing, full, seed, small_disks=(4, 24, 44, 64, 84), report=print):
    """All of it; returns the figures."""
    draw = random.Random(seed)
    for name in ("first", "whole"):  # the first may compile kernels
        began = time.perf_counter()
        finish(folder / name)
        seconds = time.perf_counter() - began
    whole = files(folder / "whole")
    done, within, first, runs = 0, 0, 0, 0
    while done < kills:
        left, left_writing = kills - done, writing - within
        most = min(5, left)
        share = max(round(most * left_writing / left), left_writing - (left - most))
        counts = kill_run(folder / f"run{runs}", most, share, draw, seconds)
        compare(whole, files(folder / f"run{runs}"), f"run {runs}")
        shutil.rmtree(folder / f"run{runs}")
        done, within, first, runs = done + counts[0], within + counts[1], first + counts[2], runs + 1
        report(f"{runs} runs killed {done} times, {within} within a checkpoint's writing, {first} of them the first's")
    filled = 0
    for number in range(full):
        filled += fill_by_injection(folder / f"full{number}", 1 if not number else draw.randint(1, 40))
        compare(whole, files(folder / f"full{number}"), f"full disk {number}")
    report(f"{full} runs whose disk was full at a write, {filled} of them stopped by it")
    if small_disks and sys.platform == "linux" and os.geteuid() == 0:
        for kilobytes in small_disks:
            compare(whole, fill_small_disk(folder / f"disk{kilobytes}", kilobytes), f"a disk of {kilobytes} kB")
        report(f"{len(small_disks)} runs on a small disk, of {', '.join(map(str, small_disks))} kB")
    report("every run ended with the bits of the undisturbed one")
    return done, within, first, filled


def main():
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("kills", 50), ("writing", 20), ("full", 10), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), options.kills, options.writing, options.full, options.seed)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        sys.exit(child(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:]))
    main()
