"""A real Slurm of one node on the loopback address: Debian's packages slurm-wlm and munge."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel")
SECONDS_TO_START = 60
_CONFIGURATION = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/d.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/d.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
MpiDefault=none
KillWait=2
JobAcctGatherType=jobacct_gather/none
SlurmctldPort={controller}
SlurmdPort={node}
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=60 State=UP
"""


def skip_without_slurm() -> None:
    """Skip the test where the packages are missing, or where the daemons cannot be started."""
    missing = [name for name in PROGRAMS if not shutil.which(name, path=_search_path())]
    if missing:
        pytest.skip(f"no {missing[0]}: install the Debian packages slurm-wlm and munge")
    if os.geteuid() != 0:
        pytest.skip("Slurm's daemons are started as root")


@contextmanager
def one_node_slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Start munge, a controller and a node; end them afterwards.

    Args:
        folder: for configuration, state and logs.

    Yields:
        The environment in which Slurm's commands find this cluster.
    """
    environment = {**os.environ, "PATH": _search_path(), "SLURM_CONF": str(_configured(folder))}
    with _munged(folder, environment):
        try:
            for daemon in ("slurmctld", "slurmd"):
                subprocess.run([daemon], env=environment, check=True, timeout=30)
            _wait_for_the_node(environment)
            yield environment
        finally:
            subprocess.run(["scancel", "--user=root", "--signal=KILL", "--full"], env=environment)
            for name in ("d.pid", "ctld.pid"):
                _end(folder / name)


def _search_path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"


def _configured(folder: Path) -> Path:
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    path = folder / "slurm.conf"
    host = socket.gethostname().partition(".")[0]
    controller, node = _free_ports()
    values = {"host": host, "folder": folder, "cores": len(os.sched_getaffinity(0))}
    text = _CONFIGURATION.format(**values, controller=controller, node=node)
    path.write_text(text, encoding="utf-8")
    return path


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


@contextmanager
def _munged(folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """Munge, in place of the one that a machine may be running already."""
    socket_path = Path("/run/munge/munge.socket.2")
    if (
        socket_path.exists()
        and subprocess.run(["munge", "-n"], capture_output=True).returncode == 0
    ):
        yield
        return
    owner = pwd.getpwnam("munge")
    socket_path.parent.mkdir(exist_ok=True)
    os.chown(socket_path.parent, owner.pw_uid, owner.pw_gid)
    with (folder / "munged.log").open("w") as log:
        process = subprocess.Popen(
            ["munged", "--foreground"],
            env=environment,
            user="munge",
            group="munge",
            extra_groups=[],
            stdout=log,
            stderr=log,
        )
    try:
        _wait(lambda: socket_path.exists(), "munge's socket")
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_for_the_node(environment: dict[str, str]) -> None:
    def idle() -> bool:
        asked = ("sinfo", "--noheader", "--format=%T")
        answer = subprocess.run(asked, env=environment, capture_output=True, text=True)
        return answer.stdout.strip() in ("idle", "mixed", "allocated")

    _wait(idle, "the node")


def _wait(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + SECONDS_TO_START
    while not holds():
        if time.monotonic() > end:
            pytest.fail(f"{what} did not come up in {SECONDS_TO_START} seconds")
        time.sleep(0.1)


def _end(pid_file: Path) -> None:
    """End the daemon that wrote the file, and wait for it."""
    with suppress(OSError, ValueError):
        process = int(pid_file.read_text())
        os.kill(process, 15)
        for _ in range(100):
            os.kill(process, 0)
            time.sleep(0.1)
        os.kill(process, 9)
