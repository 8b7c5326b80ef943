"""Somebody at a terminal with an interactive shell: what they see natively is what they see under farcall."""

from collections.abc import Iterator

import pytest

from tests.e2e.debian import debian
from tests.e2e.runs import World, farcall, world
from tests.e2e.terminal import CTRL_BACKSLASH, CTRL_C, CTRL_D, CTRL_Z, Terminal

PROMPT = b"ready> "
VARIABLES = {
    "PS1": PROMPT.decode(), "PS2": "> ", "TERM": "dumb", "LC_ALL": "C", "HISTFILE": "/dev/null",
    "PATH": "/usr/bin:/bin",
}  # fmt: skip
SHELL = ["/bin/bash", "--norc", "-i"]


@pytest.fixture
def runs() -> Iterator[World]:
    with world() as made:
        yield made


def session(terminal: Terminal) -> tuple[str, int]:
    """One evening at the terminal: what was on it, and how the shell ended."""
    terminal.wait_for(PROMPT)
    terminal.type(b"ulimit -c 0; tty; stty size\n", PROMPT)
    # Once it says "up" the shell has given the terminal away; what it repeats shows that it has it.
    terminal.type(b"sh -c 'echo up; cat'\n", b"\r\nup\r\n")
    terminal.type(b"one\n", b"one\r\none\r\n")
    terminal.type(CTRL_C, PROMPT)
    terminal.type(b"echo $?\n", PROMPT)
    terminal.type(b"sh -c 'echo up; exec cat'\n", b"\r\nup\r\n")
    terminal.type(b"two\n", b"two\r\ntwo\r\n")
    terminal.type(CTRL_Z, PROMPT)
    terminal.type(b"jobs\n", PROMPT)
    terminal.type(b"fg\n", b"exec cat'\r\n")
    terminal.type(b"three\n", b"three\r\nthree\r\n")
    terminal.type(CTRL_D, PROMPT)
    terminal.type(b"sh -c 'echo up; exec cat'\n", b"\r\nup\r\n")
    terminal.type(b"four\n", b"four\r\nfour\r\n")
    terminal.type(CTRL_BACKSLASH, PROMPT)
    terminal.type(b"echo $?\n", PROMPT)
    terminal.type(b"sh -c 'echo up; exec cat'; stty size\n", b"\r\nup\r\n")
    terminal.type(b"five\n", b"five\r\nfive\r\n")
    terminal.resize(30, 100)
    terminal.type(CTRL_D, PROMPT)
    terminal.type(b"stty -echo; echo silent; stty echo\n", PROMPT)
    terminal.type(b"read -p 'word: ' -s word; echo \"[$word]\"\n", b"\r\nword: ")
    terminal.type(b"secret\n", PROMPT)
    terminal.type(b"echo 'unfinished\n", b"\r\n> ")
    terminal.type(b"line'\n", PROMPT)
    terminal.type(b"echo up; head -1 /dev/tty\n", b"\r\nup\r\n")
    terminal.type(b"six\n", PROMPT)
    terminal.type(b"(exit 3)\n", PROMPT)
    terminal.type(CTRL_D, b"exit")
    status = terminal.end()
    return terminal.transcript(), status


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_session_natively_and_as_a_guest(runs: World, arch: str) -> None:
    variables = runs.environment(VARIABLES)
    root = [] if arch == "x86_64" else ["--root", str(debian(arch))]
    native = session(Terminal(SHELL, variables, "/"))
    assert native[1] == 3
    assert session(Terminal([*farcall("run", *root, "--"), *SHELL], variables, "/")) == native
    runs.assert_clean()
