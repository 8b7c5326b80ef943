"""The oracle's door: `python native.py ROOT DIRECTORY PROC PROGRAM [ARG...]` runs PROGRAM natively in ROOT.

A program of its own, because changing the root of a process with threads is no affair for a test runner.
PROC is "proc" to mount one over ROOT/proc, in a mount namespace of this process, or "-".
"""

import ctypes
import os
import signal
import sys
import warnings  # noqa: F401  os.execvp imports it, too late in a changed root

CLONE_NEWNS = 0x20000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 1 << 18


def _mount(source: str, target: str, kind: str, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None):
        code = ctypes.get_errno()
        raise OSError(code, f"mount {target}: {os.strerror(code)}")


def main() -> None:
    """Does not return. OSError if the host does not let root do what it asks."""
    root, directory, proc, *command = sys.argv[1:]
    if proc == "proc":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNS):
            code = ctypes.get_errno()
            raise OSError(code, f"unshare: {os.strerror(code)}")
        _mount("none", "/", "none", MS_REC | MS_PRIVATE)
        _mount(root, root, "none", MS_BIND)
        _mount("proc", f"{root}/proc", "proc", 0)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # which Python ignores
    os.chroot(root)
    os.chdir(directory)
    os.execvp(command[0], command)


main()
