"""Tell at once whether a job that asked for a GPU sees one.

Standard library only: the answer comes before any library of networks is imported.
`python -m tomoglean.devices` tells it of the machine that it runs on.
"""

import fcntl
import os
import socket
import sys
import tempfile
from importlib import import_module, metadata
from pathlib import Path

from tomoglean.provenance import Refused

#: Where the drivers of NVIDIA, AMD and WSL show themselves.
DRIVERS = (
    Path("/proc/driver/nvidia/gpus"),
    Path("/dev/nvidia0"),
    Path("/dev/kfd"),
    Path("/dev/dxg"),
)
#: Values of CUDA_VISIBLE_DEVICES, and of its AMD twins, that hide every GPU.
HIDDEN = {"", "-1", "NoDevFiles", "none", "void"}
VARIABLES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
WAY_OUT = (
    "set `device: cpu` under set-resources in the profile to train on CPUs, or see "
    "'A job sees no GPU' in docs/cluster.md"
)

_taken: dict[str, int] = {}


def refuse_without_gpu(task: str) -> None:
    """End a job that asked for a GPU where there is none.

    Parameters
    ----------
    task
        What asks, for the message, such as train.

    Raises
    ------
    Refused
        If the driver, the variables or the backend of Keras show no GPU.
    """
    if reason := hidden() or without_driver() or without_backend():
        raise Refused(
            f"{task}: expected a GPU on {socket.gethostname()} (device: gpu), found none: "
            f"{reason}; {WAY_OUT}"
        )


def take(count: int) -> list[str]:
    """Keep some of a node's GPUs for this process, and hide the others from it.

    Each of several trainings that run on one node would else use the first GPU, and
    TensorFlow would take the memory of all. Has no effect once TensorFlow is at work.

    Parameters
    ----------
    count
        How many.

    Returns
    -------
    list of str
        Those that are now its own, until it ends; none if there are no more than that, or
        not so many that are free.
    """
    names = _named()
    free = [name for name in names if _lock(name)][:count] if len(names) > count else []
    for name in names:
        if name not in free or len(free) < count:
            _unlock(name)
    if len(free) < count:
        return []
    os.environ[VARIABLES[0]] = ",".join(free)
    return free


def _named() -> list[str]:
    """List the GPUs that this process may use, as CUDA calls them."""
    chosen = os.environ.get(VARIABLES[0])
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip()]
    there = list(DRIVERS[0].iterdir()) if DRIVERS[0].is_dir() else []
    return [str(number) for number in range(len(there))]


def _lock(name: str) -> bool:
    """Take a GPU, unless another process of this user has it."""
    place = Path(tempfile.gettempdir())
    path = place / f"tomoglean-{os.getuid()}-gpu-{name.replace('/', '_')}"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return False
    _taken[name] = handle
    return True


def _unlock(name: str) -> None:
    if name in _taken:
        os.close(_taken.pop(name))


def hidden() -> str | None:
    """Say which variable hides every GPU from this process."""
    for name in VARIABLES:
        if os.environ.get(name, "0").strip() in HIDDEN:
            return f"{name}={os.environ[name]!r}"
    return None


def without_driver() -> str | None:
    """Say that no driver shows a GPU; an empty folder of devices is none."""
    shown = [path for path in DRIVERS if path.exists()]
    if any(not path.is_dir() or any(path.iterdir()) for path in shown):
        return None
    return "no driver shows one, " + ", ".join(map(str, DRIVERS[:2])) + " .."


def without_backend() -> str | None:
    """Say why the backend of Keras cannot use a GPU; the slow part comes last."""
    if cpu_only():
        return "tensorflow-cpu is installed; run `make setup GPU=1` in the checkout"
    ways = {"tensorflow": _tensorflow, "torch": _torch, "jax": _jax}
    sees = ways.get(backend())
    if sees is None or sees():
        return None
    return f"the driver shows one, but {backend()} cannot use it; see its log for why"


def backend() -> str:
    """Name of the backend that Keras will load."""
    return os.environ.get("KERAS_BACKEND", "") or "tensorflow"


def cpu_only() -> bool:
    """Whether Keras would compute with a TensorFlow that knows no GPU."""
    return backend() == "tensorflow" and _installed("tensorflow-cpu")


def _installed(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def _tensorflow() -> bool:
    return bool(import_module("tensorflow").config.list_physical_devices("GPU"))


def _torch() -> bool:
    return bool(import_module("torch").cuda.is_available())


def _jax() -> bool:
    return bool(import_module("jax").default_backend() != "cpu")


def main() -> None:
    """Tell whether this machine's GPU can be used; exit code 1 if not, and why."""
    try:
        refuse_without_gpu("python -m tomoglean.devices")
    except Refused as refusal:
        raise SystemExit(str(refusal)) from None
    sys.stdout.write(f"{socket.gethostname()} has a GPU that {backend()} can use\n")


if __name__ == "__main__":
    main()
