"""Pseudo-terminals as programs use them: made, named, taken, typed at, hung up. Prints what it sees."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import tty
from collections.abc import Callable
from typing import TextIO

TIOCGPTN = 0x80045430
TIOCSPTLCK = 0x40045431
KEYS = (b"\x03", b"\x1c", b"\x1a")
PROMPT = b"ready> "


def refused(what: str, act: Callable[..., object], *arguments: object) -> None:
    """Prints how a call fails."""
    try:
        act(*arguments)
    except (OSError, termios.error) as error:
        print(what, os.strerror(error.args[0]))
    else:
        print(what, "goes")


def names() -> None:
    """Both sides of one: their names, their lock, their end."""
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    number = int.from_bytes(fcntl.ioctl(master, TIOCGPTN, bytes(4)), "little")
    name = f"/dev/pts/{number}"
    refused("locked", os.open, name, os.O_RDWR | os.O_NOCTTY)
    fcntl.ioctl(master, TIOCSPTLCK, bytes(4))
    slave = os.open(name, os.O_RDWR | os.O_NOCTTY)
    print(os.ttyname(slave) == name, str(number) in os.listdir("/dev/pts"), os.isatty(master))
    here, there = os.fstat(slave), os.stat(name)
    print(here.st_rdev == there.st_rdev, here.st_ino == there.st_ino, oct(there.st_mode), os.major(here.st_rdev))
    refused("nobody's", os.tcgetpgrp, slave)
    print(os.tcgetpgrp(master))
    os.write(slave, b"line\n")
    print(os.read(master, 100))
    os.write(master, b"typed\n")
    print(os.read(slave, 100), os.read(master, 100))
    tty.setraw(slave)
    os.write(master, b"\x03\x1a")
    print(os.read(slave, 100), termios.tcgetattr(master)[3] & termios.ISIG)
    os.write(master, b"lost")
    termios.tcflush(slave, termios.TCIFLUSH)
    print(select.select([slave], [], [], 0)[0])
    os.set_blocking(slave, False)
    refused("nothing typed", os.read, slave, 1)
    copy = os.dup(slave)
    os.close(slave)
    os.close(copy)
    refused("no slave", os.read, master, 1)
    slave = os.open(name, os.O_RDWR | os.O_NOCTTY)
    os.close(master)
    print(os.read(slave, 10))
    refused("hung up", os.write, slave, b"x")
    refused("no name", os.open, name, os.O_RDWR | os.O_NOCTTY)
    os.close(slave)


def listen(news: TextIO) -> None:
    """The child at a terminal of its own: tells of each signal."""
    sys.stdout = news
    heard = [signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGWINCH, signal.SIGHUP]
    signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    terminal = os.open("/dev/tty", os.O_RDWR)
    print("up", os.getsid(0) == os.getpid() == os.tcgetpgrp(0) == os.tcgetpgrp(terminal), flush=True)
    while (number := signal.sigwait(heard)) != signal.SIGHUP:
        print(signal.Signals(number).name, flush=True)
    refused("hung up", os.open, "/dev/tty", os.O_RDWR)
    news.flush()
    os._exit(7)


def keys() -> None:
    """What is typed becomes signals of the foreground group; so does a new size; so does the end."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    child, master = pty.fork()
    if not child:
        listen(os.fdopen(writer, "w"))
    os.close(writer)
    with os.fdopen(reader) as news:
        print(news.readline(), end="")
        print(os.tcgetpgrp(master) == child)
        for key in KEYS:
            os.write(master, key)
            print(news.readline(), end="")
        for rows in (30, 30):
            fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 90, 0, 0))
        print(news.readline(), end="")
        os.close(master)
        while line := news.readline():
            print(line, end="")
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def shell() -> None:
    """An interactive shell with jobs: what it shows."""
    sys.stdout.flush()
    child, master = pty.fork()
    if not child:
        os.environ |= {"PS1": PROMPT.decode(), "HISTFILE": "/dev/null", "TERM": "dumb"}
        os.execv("/bin/bash", ["bash", "--norc", "--noediting", "-i"])
    seen = b""
    for typed, until in (
        (b"", PROMPT),
        (b"sh -c 'echo up; exec cat'\n", b"\r\nup\r\n"),
        (b"one\n", b"one\r\none\r\n"),
        (b"\x1a", PROMPT),
        (b"jobs\n", PROMPT),
        (b"fg\n", b"exec cat'\r\n"),
        (b"two\n", b"two\r\ntwo\r\n"),
        (b"\x03", PROMPT),
        (b"echo $?; stty size < /dev/tty\n", PROMPT),
        (b"exit 3\n", b"exit\r\n"),
    ):
        os.write(master, typed)
        part = b""
        while until not in part:
            part += os.read(master, 1000)
        seen += part
    with contextlib.suppress(OSError):
        while more := os.read(master, 1000):
            seen += more
    print(seen.decode())
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def main() -> None:
    names()
    keys()
    shell()
    sys.stdout.flush()
    print(os.waitstatus_to_exitcode(pty.spawn(["/bin/sh", "-c", "test -t 0 && echo a terminal; exit 5"])))


main()
