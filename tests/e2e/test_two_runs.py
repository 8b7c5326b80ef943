"""Two runs on one file server by TCP: what one has changed the other sees at once, though both keep answers; and
a run that is killed or stopped makes the other wait for its lease, no longer."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ipc.limits import ANSWER_LEASE_MS
from servers.leases import RESTLESS_S
from servers.sessions import EXPIRE_INTERVAL_S
from tests.e2e.by_hand import ByHand
from tests.e2e.roots import busybox
from tests.e2e.runs import LIMIT_S, World, await_line, send, world

ROUNDS = 12
SLACK_S = 5.0
"""Of a machine that is busy otherwise."""
SHELL = ("/busybox", "sh", "-c")
LOOK = """
while read what; do
    read data < /d/file; read linked < /d/link; set -- /d/list/*
    test -x /d/file && mode=x || mode=-
    test -e /d/gone && gone=there || gone=gone
    echo "$data $linked ${1##*/} $mode $gone"
done
"""
CHANGE = """
while read number; do
    echo $number > /d/file
    /busybox ln -sf /d/data$number /d/link; echo linked$number > /d/data$number
    /busybox mv /d/list/* /d/list/$number
    if test -x /d/file; then /busybox chmod a-x /d/file; else /busybox chmod a+x /d/file; fi
    if test -e /d/gone; then /busybox rm /d/gone; else echo > /d/gone; fi
    echo changed $number
done
"""


@pytest.fixture
def runs() -> Iterator[World]:
    with world() as made:
        yield made


def _file(runs: World, held: ExitStack) -> ByHand:
    file = ByHand("file", "grpc-tcp", runs.folder, held)
    shutil.copy2(busybox("x86_64"), file.root / "busybox")
    (file.root / "d" / "list").mkdir(parents=True)
    (file.root / "d" / "list" / "0").write_bytes(b"")
    (file.root / "d" / "file").write_text("0\n")
    (file.root / "d" / "data0").write_text("linked0\n")
    (file.root / "d" / "link").symlink_to("/d/data0")
    file.start()
    return file


@pytest.mark.cell(arch="x86_64", deployment="grpc-tcp")
def test_each_sees_what_the_other_changed(runs: World) -> None:
    with ExitStack() as held:
        file = _file(runs, held)
        options = ("run", *file.options(), "-w", "/", "--", *SHELL)
        looks = [runs.start(*options, LOOK), runs.start(*options, LOOK)]
        change = runs.start(*options, CHANGE)
        for number in range(1, ROUNDS):
            send(change, b"%d\n" % number)
            await_line(change, f"changed {number}")
            mode, gone = ("x", "there") if number % 2 else ("-", "gone")
            for look in looks:
                for _ in range(2):
                    send(look, b"look\n")
                    await_line(look, f"{number} linked{number} {number} {mode} {gone}")
        for process in (*looks, change):
            process.communicate(timeout=LIMIT_S)
            assert process.returncode == 0


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.cell(arch="x86_64", deployment="grpc-tcp")
def test_who_is_gone_is_waited_for_until_its_lease_ends(runs: World, blow: signal.Signals) -> None:
    with ExitStack() as held:
        file = _file(runs, held)
        options = ("run", *file.options(), "-w", "/", "--", *SHELL)
        look, change = runs.start(*options, LOOK), runs.start(*options, CHANGE)
        send(look, b"look\n")
        await_line(look, "0 linked0 0 - gone")
        send(change, b"1\n")
        await_line(change, "changed 1")
        time.sleep(1.2 * RESTLESS_S)  # what was changed just now nobody may keep
        send(look, b"look\n")
        await_line(look, "1 linked1 1 x there")
        os.kill(look.pid, blow)
        begin = time.monotonic()
        send(change, b"2\n")
        await_line(change, "changed 2")
        took_s = time.monotonic() - begin
        assert took_s < ANSWER_LEASE_MS / 1000 + EXPIRE_INTERVAL_S + SLACK_S
        if blow == signal.SIGSTOP:
            assert took_s > 1.0, "it kept nothing that was changed"
            os.kill(look.pid, signal.SIGCONT)
            send(look, b"look\n")
            await_line(look, "2 linked2 2 - gone")
            look.communicate(timeout=LIMIT_S)
            assert look.returncode == 0
        else:
            look.wait(LIMIT_S)
        change.communicate(timeout=LIMIT_S)
        assert change.returncode == 0
