"""What a training runs on: threads, processors and versions, which decide its last bits."""

import logging
import platform
from importlib import import_module, metadata
from pathlib import Path

import keras

log = logging.getLogger(__name__)
CPUINFO = Path("/proc/cpuinfo")


def limit_threads(threads: int) -> None:
    """Fix the number of threads, on which the last bits of the weights depend."""
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    threading = tf.config.threading
    try:
        threading.set_intra_op_parallelism_threads(threads)
        threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:  # TensorFlow has begun its work and cannot be told any more
        if threading.get_intra_op_parallelism_threads() != threads:
            log.warning("the number of threads was fixed before; %d not taken", threads)


def threads(asked: int) -> int:
    """Return the number of threads that is in force."""
    if keras.backend.backend() != "tensorflow":
        return asked
    import tensorflow as tf

    return int(tf.config.threading.get_intra_op_parallelism_threads())


def devices() -> list[str]:
    """Name the processors that can share a batch: the GPUs, or else the CPUs."""
    if keras.backend.backend() != "tensorflow":
        return []
    import tensorflow as tf

    listed = tf.config.list_logical_devices
    found = listed("GPU") or listed("CPU")
    return [":".join(device.name.split(":")[-2:]) for device in found]


def processor() -> str:
    """Name the processor that learns: the GPU, or else the type of the CPU."""
    return _gpu() or _cpu()


def _gpu() -> str:
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        found = tf.config.list_physical_devices("GPU")
        details = [tf.config.experimental.get_device_details(gpu) for gpu in found]
        return str(details[0].get("device_name", "GPU")) if details else ""
    if backend == "torch":
        cuda = import_module(backend).cuda
        return str(cuda.get_device_name()) if cuda.is_available() else ""
    if backend == "jax":
        first = import_module(backend).devices()[0]
        return str(first.device_kind) if first.platform != "cpu" else ""
    return ""


def _cpu() -> str:
    if CPUINFO.is_file():
        for line in CPUINFO.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.machine()


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    backend = keras.backend.backend()
    return {
        "backend": backend,
        backend: str(import_module(backend).__version__),
        **{name: metadata.version(name) for name in ("keras", "numpy", "h5py")},
        "python": platform.python_version(),
    }
