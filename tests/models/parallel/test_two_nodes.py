"""Training on two machines: two network namespaces, each with a host name of its own, and a cable between them."""

import contextlib
import os
import shutil
import subprocess
import sys
import time

import pytest
from rank_jobs import digest
from ranks import MPIRUN, ROOT, SETTINGS, environment, is_open_mpi, needs_mpi, run, state

pytestmark = [needs_mpi, pytest.mark.slow]
ADDRESSES = ("10.77.0.1", "10.77.0.2")
TOOLS = ("unshare", "nsenter", "ip", "hostname", "sleep")


def why_not():
    """What this machine lacks; empty if nothing."""
    if missing := [tool for tool in TOOLS if not shutil.which(tool)]:
        return f"no {', '.join(missing)}"
    refused = subprocess.run(["unshare", "-n", "-u", "true"], capture_output=True, text=True)
    if refused.returncode:
        return f"no namespaces: {refused.stderr.strip()}"
    # The agent that starts processes on the other machine is given in Open MPI's words.
    return "" if is_open_mpi() else "mpirun is not Open MPI's"


def _namespaces(process):
    return {os.readlink(f"/proc/{process}/ns/{kind}") for kind in ("net", "uts")}


@contextlib.contextmanager
def two_machines():
    """The beginnings of the commands that run something on the first machine, and on the second."""
    holders = [subprocess.Popen(["unshare", "-n", "-u", "sleep", "300"]) for _ in ADDRESSES]
    first, second = (["nsenter", "-t", str(holder.pid), "-n", "-u"] for holder in holders)
    try:
        for holder in holders:
            while _namespaces(holder.pid) & _namespaces("self"):  # else the commands below would change this machine
                assert holder.poll() is None
                time.sleep(0.01)
        there = str(holders[1].pid)
        subprocess.run([*first, *f"ip link add cable0 type veth peer name cable1 netns {there}".split()], check=True)
        for number, (machine, address) in enumerate(zip((first, second), ADDRESSES, strict=True)):
            for command in (
                f"hostname machine-{number}", f"ip addr add {address}/24 dev cable{number}",
                f"ip link set cable{number} up", "ip link set lo up",
            ):  # fmt: skip
                subprocess.run([*machine, *command.split()], check=True)
        yield first, second
    finally:
        for holder in holders:
            holder.kill()
            holder.wait()


def test_two_machines_train_as_one(tmp_path):
    if reason := why_not():
        pytest.skip(reason)
    train = ["-m", "models", "train", "--set", *SETTINGS, "training.shards=2", "--out"]
    with two_machines() as (first, second):
        agent = tmp_path / "agent"  # it is called with a host and a command
        agent.write_text(f'#!/bin/sh\nshift\nexec {" ".join(second)} sh -c "$*"\n', encoding="utf-8")
        agent.chmod(0o755)
        hosts = ",".join(f"{address}:1" for address in ADDRESSES)
        mpirun = [MPIRUN, "-n", "2", "--host", hosts, "--map-by", "node", "--prtemca", "plm_ssh_agent", str(agent)]
        show = "import os, socket; print(os.environ['OMPI_COMM_WORLD_RANK'], socket.gethostname())"
        options = {"env": environment(), "cwd": ROOT, "capture_output": True, "text": True, "timeout": 100}
        places = subprocess.run([*first, *mpirun, sys.executable, "-c", show], **options)
        assert sorted(places.stdout.splitlines()) == ["0 machine-0", "1 machine-1"], places.stderr
        done = subprocess.run([*first, *mpirun, sys.executable, *train, str(tmp_path / "together")], **options)
    assert done.returncode == 0, done.stderr
    code, _, errors = run(1, *train, tmp_path / "alone")
    assert code == 0, errors
    assert digest(state(tmp_path / "together")) == digest(state(tmp_path / "alone"))
