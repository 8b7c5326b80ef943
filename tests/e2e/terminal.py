"""Somebody at a terminal: types, and waits for what comes."""

import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping
from typing import Final

ANSWER_S: Final = 40.0
"""How long one answer may take."""
_ESCAPES: Final = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
CTRL_C: Final = b"\x03"
CTRL_D: Final = b"\x04"
CTRL_Z: Final = b"\x1a"
CTRL_BACKSLASH: Final = b"\x1c"


class Terminal:
    """A terminal of 24 rows and 80 columns, and one program that it controls."""

    def __init__(self, command: list[str], environment: Mapping[str, str], directory: str) -> None:
        self._ours, theirs = os.openpty()
        self.resize(24, 80)
        # setsid is in no group of its own leading, so it becomes the command itself.
        self._process = subprocess.Popen(
            ["setsid", "--ctty", *command],
            stdin=theirs, stdout=theirs, stderr=theirs, env=dict(environment), cwd=directory,
        )  # fmt: skip
        os.close(theirs)
        self._seen = b""
        self._transcript = b""

    def resize(self, rows: int, columns: int) -> None:
        """As somebody who drags the window's corner."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: bytes, until: bytes) -> None:
        """Types, and waits until the terminal shows `until` after what it has shown before."""
        os.write(self._ours, keys)
        self.wait_for(until)

    def wait_for(self, text: bytes) -> None:
        """AssertionError after ANSWER_S, or if the program ends first."""
        deadline = time.monotonic() + ANSWER_S
        while text not in self._seen:
            readable = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))[0]
            more = self._read() if readable else b""
            assert more, f"no {text!r} in {self._seen!r} after {self._transcript!r}"
            self._seen += more
        end = self._seen.index(text) + len(text)
        self._transcript += self._seen[:end]
        self._seen = self._seen[end:]

    def _read(self) -> bytes:
        try:
            return os.read(self._ours, 4096)
        except OSError:
            return b""  # EIO: nobody has the other end open any more

    def transcript(self) -> str:
        """What was shown so far, as text without escape sequences and the terminal's number."""
        text = _ESCAPES.sub(b"", self._transcript).replace(b"\r", b"").decode()
        return re.sub(r"/dev/pts/\d+", "/dev/pts/N", text)

    def end(self) -> int:
        """The exit status of a program that is about to end."""
        try:
            return self._process.wait(ANSWER_S)
        finally:
            self.close()

    def close(self) -> None:
        """The window is closed; the program is killed if it has not ended."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(ANSWER_S)
        os.close(self._ours)
