"""Let the kernel refuse all files but those of some folders (Linux 5.13 and later).

See landlock(7) and https://docs.kernel.org/userspace-api/landlock.html. Older kernels and
other systems do not know it; there the limits of `sandbox` must do.
"""

import contextlib
import ctypes
import os
import struct
import sys
from collections.abc import Iterable

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
PATH_BENEATH = 1
NO_NEW_PRIVILEGES = 38
READ_FILE, READ_FOLDER = 1 << 2, 1 << 3
EVERYTHING = (1 << 13) - 1
SYSTEM = ("/usr", "/lib", "/lib64", "/opt", "/etc/ld.so.cache")


def confine(folders: Iterable[str]) -> bool:
    """Allow this process to read what Python needs and these folders, for good.

    Returns
    -------
    bool
        False if the kernel cannot do that.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    handled = struct.pack("<Q", EVERYTHING)
    rules = libc.syscall(CREATE_RULESET, handled, len(handled), 0)
    if rules < 0:
        return False
    for folder in {*SYSTEM, sys.prefix, sys.base_prefix, *sys.path, *folders}:
        _allow(libc, rules, folder)
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    confined = bool(libc.syscall(RESTRICT_SELF, rules, 0) == 0)
    os.close(rules)
    return confined


def _allow(libc: ctypes.CDLL, rules: int, path: str) -> None:
    with contextlib.suppress(OSError):
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        access = READ_FILE | (READ_FOLDER if os.path.isdir(path) else 0)
        rule = struct.pack("<Qi", access, place)
        libc.syscall(ADD_RULE, rules, PATH_BENEATH, rule, 0)
        os.close(place)
