"""Read hostile files in a child process that may crash, starve and hang by itself.

The child is this module, started as a program of its own: no fork, so it works beside
loaded TensorFlow and under any test runner. It has nothing of the parent's environment
but what Python needs, little memory, little processor time, and can write no file. What
it says is not trusted: JSON and plain bytes, whose sizes the parent knows or limits;
nothing is unpickled.

A request is one line of JSON: `call`, a function of the module that the child serves,
`arguments` and `seconds` of processor time. An answer is a byte (V value as JSON, B
bytes of an array, R refusal), the length as 8 bytes, little-endian, and so many bytes.
"""

import contextlib
import importlib
import json
import math
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, Self

import numpy as np

from tomoglean.formats.landlock import confine
from tomoglean.formats.source import Array, readable
from tomoglean.provenance import Refused

FRAME = struct.Struct("<cQ")
ROOT = Path(__file__).resolve().parents[2]
KEPT = ("LD_LIBRARY_PATH", "HDF5_PLUGIN_PATH", "TZ")
MEMORY_BYTES = 320 << 20
HEADER_SECONDS = 8
READ_SECONDS = 120
PATIENCE = 60
MOST_SAID = 1 << 20
MOST_REFUSED = 600
PIPE_BYTES = 1 << 20
SET_PIPE_SIZE = 1031


class Child:
    """A process that opens one file for us, and dies alone if that file is evil.

    Parameters
    ----------
    name
        Name of the file, for messages.
    module
        Module that the child serves, such as "tomoglean.formats.hdf5_inside".
    folders
        Besides what Python needs, the child can read nothing but these, where the kernel
        knows Landlock; none = no such limit.
    """

    def __init__(self, name: str, module: str, folders: Iterable[Path] = ()) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
            [sys.executable, "-P", "-m", __name__, module, name, *map(str, folders)],
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        with contextlib.suppress(OSError):
            _enlarge(self._output)

    def __enter__(self) -> Self:
        """Return the child itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the child."""
        self._process.kill()
        self._process.communicate()

    @property
    def _output(self) -> IO[bytes]:
        assert self._process.stdout is not None  # noqa: S101 (tells mypy what Popen does)
        return self._process.stdout

    def ask(self, call: str, seconds: int = HEADER_SECONDS, **arguments: Any) -> Any:
        """Call a function in the child; its value comes back as JSON.

        Raises
        ------
        Refused
            If the function refuses the file, or the child crashes, needs too much memory
            or time, or says what it must not.
        """
        with self._lock:
            deadline = self._send(call, seconds, arguments)
            said = self._receive(b"V", deadline, MOST_SAID)
        return json.loads(said)

    def read_into(
        self, out: Array, call: str, seconds: int = READ_SECONDS, **arguments: Any
    ) -> None:
        """Fill a C-contiguous array with the bytes of the array that a function returns."""
        with self._lock:
            deadline = self._send(call, seconds, arguments)
            self._receive_into(out.reshape(-1).view(np.uint8).data, deadline)

    def _send(self, call: str, seconds: int, arguments: dict[str, Any]) -> float:
        request = {"call": call, "arguments": arguments, "seconds": seconds}
        with contextlib.suppress(BrokenPipeError):
            assert self._process.stdin is not None  # noqa: S101
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
        return time.monotonic() + PATIENCE + seconds

    def _receive_into(self, out: memoryview, deadline: float) -> None:
        if self._announced(b"B", deadline, out.nbytes) != out.nbytes:
            raise self._refusal("its reader gave voxels of another size")
        self._fill(out, deadline)

    def _receive(self, kind: bytes, deadline: float, most: int) -> bytes:
        content = bytearray(self._announced(kind, deadline, most))
        self._fill(memoryview(content), deadline)
        return bytes(content)

    def _announced(self, kind: bytes, deadline: float, most: int) -> int:
        """Return the size of the coming answer; refusals end here."""
        head = bytearray(FRAME.size)
        self._fill(memoryview(head), deadline)
        found, size = FRAME.unpack(head)
        if found == b"R" and size <= MOST_REFUSED:
            text = bytearray(size)
            self._fill(memoryview(text), deadline)
            raise Refused(one_line(text.decode(errors="replace")))
        if found != kind or size > most:
            raise self._refusal("its reader gave what nobody asked for")
        return int(size)

    def _fill(self, out: memoryview, deadline: float) -> None:
        while out.nbytes:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._output], [], [], left)[0]:
                raise self._refusal("that reading it takes too long")
            count = self._output.readinto(out)  # type: ignore[attr-defined]
            if not count:
                raise self._refusal(self._end())
            out = out[count:]

    def _end(self) -> str:
        """Say what the child died of."""
        code = self._process.wait()
        if -code in (signal.SIGXCPU, signal.SIGKILL):
            return "that reading it takes too long"
        if code < 0:
            return f"that reading it crashes ({signal.Signals(-code).name})"
        return f"that its reader ended ({code})"

    def _refusal(self, found: str) -> Refused:
        return Refused(
            f"{self.name}: expected a file that can be read safely, found {found}; copy the"
            " file again, or ask where it comes from"
        )


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    return {**kept, **threads, "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}


def _enlarge(pipe: IO[bytes]) -> None:
    import fcntl

    fcntl.fcntl(pipe, SET_PIPE_SIZE, PIPE_BYTES)


def one_line(text: str) -> str:
    """Make text from a hostile file fit for a terminal: one line, printable, not long."""
    plain = " ".join(text.split())
    return "".join(sign if sign.isprintable() else "?" for sign in plain)[:MOST_REFUSED]


# -- in the child ----------------------------------------------------------------------


def serve(module: str, name: str, *folders: str) -> None:
    """Answer requests until the parent has gone."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    served = importlib.import_module(module)
    _limit()
    if folders:
        confine(folders)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        _allow(request["seconds"])
        try:
            kind, content = _answer(served, name, request)
        except Refused as refusal:
            kind, content = b"R", memoryview(one_line(str(refusal)).encode()[:MOST_REFUSED])
        answers.write(FRAME.pack(kind, content.nbytes))
        while content.nbytes:
            content = content[answers.write(content) :]


def _answer(served: Any, name: str, request: dict[str, Any]) -> tuple[bytes, memoryview]:
    with readable(name, served.FORMAT_NAME):
        value = getattr(served, request["call"])(**request["arguments"])
    if isinstance(value, np.ndarray):
        return b"B", value.reshape(-1).view(np.uint8).data
    return b"V", memoryview(json.dumps(value).encode())


def _limit() -> None:
    """Give up what a reader does not need; what is loaded so far is not counted."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _allow(seconds: int) -> None:
    """Allow further processor time; the system kills the child when it is used up."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(used.ru_utime + used.ru_stime) + seconds
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


if __name__ == "__main__":
    serve(*sys.argv[1:])
