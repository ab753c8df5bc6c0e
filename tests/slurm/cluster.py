"""A real SLURM on this machine: four pretended nodes, partitions and features of Maxwell.

`python tests/slurm/cluster.py start` (as root), then `eval "$(... env)"`, and `sinfo`
shows it. Everything lies in one folder and listens on its own ports, so that it lives
beside any SLURM of the machine. `down NODE` takes a node away as a power cut would,
`up NODE` brings it back, `stop` ends it all.

Jobs in `allcpu` and `allgpu` give way to those in `maxcpu` and `maxgpu`.
There are no cgroups: limits of memory are not enforced. GPUs are only names: no device is
there. There is no accounting, as squeue tells what the tests need.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(os.environ.get("TOMOGLEAN_SLURM", "/tmp/tomoglean-slurm"))
PORT = int(os.environ.get("TOMOGLEAN_SLURM_PORT", "27000"))
NODES = {
    "cpu1": ("INTEL", ""),
    "cpu2": ("AMD,EPYC", ""),
    "gpu1": ("AMD,A100,GPU,GPUx1", "gpu:a100:1"),
    "gpu2": ("INTEL,V100,GPU,GPUx1", "gpu:v100:1"),
}
READY = ("idle", "mixed", "allocated", "completing")
PROGRAMS = ("slurmctld", "slurmd", "squeue", "munged")
CONF = """
ClusterName=tomoglean
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
SlurmctldPort={port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdLogFile={folder}/slurmd.%n.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2,sched_min_interval=0
ReturnToService=2
SlurmdTimeout=15
KillWait=20
MinJobAge=600
PropagateResourceLimits=NONE
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
PartitionName=DEFAULT PreemptMode=OFF PriorityTier=10 MaxTime=7-00:00:00
PartitionName=maxcpu Nodes=cpu1,cpu2 Default=YES
PartitionName=maxgpu Nodes=gpu1,gpu2
PartitionName=DEFAULT PreemptMode=CANCEL PriorityTier=1 MaxTime=14-00:00:00 GraceTime=20
PartitionName=allcpu Nodes=cpu1,cpu2
PartitionName=allgpu Nodes=gpu1,gpu2
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=8"
    " RealMemory=64000 State=UNKNOWN Feature={features} {gres}\n"
)


def installed() -> bool:
    """Say whether this machine can run one: the programs, and root."""
    paths = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return os.getuid() == 0 and all(shutil.which(p, path=paths) for p in PROGRAMS)


def environment() -> dict[str, str]:
    """Name what a process must know to use this SLURM.

    The plugin takes SLURM_CONF away from srun inside a job, so srun gets it from a wrapper.
    """
    paths = f"{FOLDER}/bin:{os.environ['PATH']}:/usr/sbin:/sbin"
    return {"SLURM_CONF": f"{FOLDER}/slurm.conf", "PATH": paths}


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Keep others from it who would kill nodes at the same time; they wait."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield


def start() -> None:
    """Start what does not run yet; return when all nodes take jobs."""
    for folder in ("state", "bin", *[f"spool.{name}" for name in NODES]):
        (FOLDER / folder).mkdir(parents=True, exist_ok=True)
    _write_settings()
    _start_munge()
    if not _alive("slurmctld"):
        _run("slurmctld")
    for name in NODES:
        up(name)
    _until(lambda: _ready() == len(NODES), "all nodes to be ready")


def _write_settings() -> None:
    host = socket.gethostname().split(".")[0]
    text = CONF.format(host=host, port=PORT, folder=FOLDER)
    gres = ""
    for i, (name, (features, gpus)) in enumerate(NODES.items(), 1):
        text += NODE.format(
            name=name,
            host=host,
            port=PORT + i,
            features=features,
            gres=f"Gres={gpus}" if gpus else "",
        )
        if gpus:
            gres += f"NodeName={name} Name=gpu Type={gpus.split(':')[1]} File=/dev/null\n"
    (FOLDER / "slurm.conf").write_text(text)
    (FOLDER / "gres.conf").write_text(gres)
    wrapper = FOLDER / "bin" / "srun"
    real = shutil.which("srun", path="/usr/local/bin:/usr/bin:/bin")
    wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={FOLDER}/slurm.conf exec {real} "$@"\n')
    wrapper.chmod(0o755)


def _start_munge() -> None:
    key = Path("/etc/munge/munge.key")
    if not key.is_file():
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        shutil.chown(key, "munge", "munge")
    if not _munge_answers():
        run = Path("/run/munge")
        run.mkdir(exist_ok=True)
        run.chmod(0o755)
        shutil.chown(run, "munge", "munge")
        subprocess.run(["runuser", "-u", "munge", "--", "/usr/sbin/munged"], check=True)
    _until(_munge_answers, "munge to answer")


def _munge_answers() -> bool:
    return subprocess.run(["munge", "-n"], capture_output=True).returncode == 0


def stop() -> None:
    """End all daemons of this SLURM, and the processes of its jobs."""
    for name in NODES:
        down(name)
    _kill(_pid("slurmctld"), signal.SIGTERM)
    _until(lambda: not _alive("slurmctld"), "the controller to end")
    shutil.rmtree(FOLDER)


def down(name: str) -> None:
    """Take a node away at once, with all processes of its jobs."""
    _kill(_pid(f"slurmd.{name}"), signal.SIGKILL)
    (FOLDER / f"slurmd.{name}.pid").unlink(missing_ok=True)
    children = _children()
    for keeper in _step_daemons(name):
        for process in [*_below(keeper, children), keeper]:
            _kill(process, signal.SIGKILL)


def up(name: str) -> None:
    """Bring a node back, if it is away."""
    if _alive(f"slurmd.{name}"):
        return
    _run("slurmd", "-N", name)
    _until(lambda: _alive(f"slurmd.{name}"), f"{name} to start")
    update = ["scontrol", "update", f"NodeName={name}", "State=RESUME"]
    subprocess.run(update, env={**os.environ, **environment()}, capture_output=True)


def _step_daemons(node: str) -> list[int]:
    """Find the daemons of the job steps on a node, by the sockets in its spool folder."""
    sockets = (FOLDER / f"spool.{node}").glob(f"{node}_*")
    jobs = {path.name.removeprefix(f"{node}_").split(".")[0] for path in sockets}
    return [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if any(_read(path).startswith(f"slurmstepd: [{job}.") for job in jobs)
        and (path.parent / "cwd").resolve() == FOLDER.resolve()
    ]


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        fields = _read(path).rpartition(")")[2].split()
        if fields:
            found.setdefault(int(fields[1]), []).append(int(path.parent.name))
    return found


def _below(process: int, children: dict[int, list[int]]) -> list[int]:
    return [
        one
        for child in children.get(process, [])
        for one in [child, *_below(child, children)]
    ]


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").replace("\0", " ")
    except OSError:
        return ""


def _ready() -> int:
    states = _ask("sinfo", "-h", "-N", "-p", "allcpu,allgpu", "-o", "%T").split()
    return sum(state in READY for state in states)


def _ask(*words: str) -> str:
    environ = {**os.environ, **environment()}
    return subprocess.run(words, env=environ, capture_output=True, text=True).stdout


def _run(*words: str) -> None:
    subprocess.run(words, env={**os.environ, **environment()}, check=True)


def _pid(daemon: str) -> int:
    text = _read(FOLDER / f"{daemon}.pid").strip()
    return int(text) if text else 0


def _alive(daemon: str) -> bool:
    pid = _pid(daemon)
    return bool(pid) and daemon.split(".")[0] in _read(Path(f"/proc/{pid}/cmdline"))


def _kill(process: int, how: int) -> None:
    if process:
        try:
            os.kill(process, how)
        except ProcessLookupError:
            return


def _until(what, wanted: str, patience_s: float = 60) -> None:
    deadline = time.monotonic() + patience_s
    while not what():
        if time.monotonic() > deadline:
            raise SystemExit(
                f"cluster: waited {patience_s} s for {wanted}: see {FOLDER}/*.log"
            )
        time.sleep(0.2)


def main(words: list[str]) -> None:
    """Run one command."""
    commands = {"start": start, "stop": stop, "down": down, "up": up}
    if words[:1] == ["env"]:
        lines = [f"export {name}={value}\n" for name, value in environment().items()]
        sys.stdout.write("".join(lines))
    elif words and words[0] in commands:
        commands[words[0]](*words[1:])
    else:
        raise SystemExit(f"{__doc__}\ncommands: env, {', '.join(commands)}")


if __name__ == "__main__":
    main(sys.argv[1:])
