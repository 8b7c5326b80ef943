"""What reading and writing, sending and receiving have in common: calls that wait, and go on where they were."""

from collections.abc import Callable
from typing import Final

from client_vm.abi import common
from client_vm.abi.common import EAGAIN, EPIPE
from client_vm.arguments import RW_BYTES_MAX
from client_vm.descriptors import OpenFile
from client_vm.errors import Errno
from client_vm.process import Task
from client_vm.signals import raise_signal
from client_vm.waiting import Blocking, WouldBlock, bounded

CHUNK_BYTES: Final = 256 << 10
"""Of a long write that waits in between: tried at once. More than PIPE_BUF, up to which writes are atomic."""


def joined(views: list[memoryview], done: int = 0, bytes_max: int = RW_BYTES_MAX) -> memoryview:
    """The bytes of the views from `done` on, at most bytes_max, as one; copied once if they are several."""
    parts = []
    for view in views:
        if done >= len(view):
            done -= len(view)
            continue
        parts.append(view[done : done + bytes_max])
        bytes_max -= len(parts[-1])
        done = 0
        if not bytes_max:
            break
    return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))


def signal_break(task: Task, error: Errno) -> None:
    """A write to a pipe or socket that nobody reads from also raises SIGPIPE (pipe(7))."""
    if error.errno == EPIPE:
        raise_signal(task, common.SIGPIPE)


def with_sigpipe(task: Task, write: Callable[[], int]) -> int:
    """A write, and what its error means beside."""
    try:
        return write()
    except Errno as error:
        signal_break(task, error)
        raise


def holding(file: OpenFile, call: Blocking) -> Blocking:
    """While a call waits the description lives on, even if another thread closes its last fd."""
    file.users += 1
    try:
        return (yield from call)
    finally:
        file.drop()


def within(task: Task, patience_s: float | None, call: Blocking) -> Blocking:
    """The call, which waits no longer than that: EAGAIN (socket(7), SO_RCVTIMEO)."""
    return call if patience_s is None else bounded(call, patience_s, task.kernel.clock.monotonic_s)


def put(
    task: Task,
    file: OpenFile,
    source: Callable[[], list[memoryview]],
    once: Callable[[memoryview], int],
    at_once: bool,
) -> int | Blocking:
    """Writes now, or waits for room, of a stream until all is written (pipe(7)); unless it must be `at_once`.

    `source` is asked at each attempt: memory may have been remapped. `once` writes what goes; WouldBlock, Errno.
    """
    views = source()
    whole = views[0] if len(views) == 1 else joined(views)
    waits_for, done = None, 0
    try:
        done = once(whole)
    except WouldBlock as blocked:
        if at_once:
            raise Errno(EAGAIN) from None
        waits_for = blocked
    else:
        if done >= len(whole) or at_once or not file.writes_whole:
            return done
    return holding(file, within(task, file.patience_s(True), _put_rest(file, source, once, done, waits_for)))


def _put_rest(
    file: OpenFile,
    source: Callable[[], list[memoryview]],
    once: Callable[[memoryview], int],
    done: int,
    blocked: WouldBlock | None,
) -> Blocking:
    """The rest of a write; what is done when a signal or an error comes is what it tells."""
    bytes_max = CHUNK_BYTES if file.writes_whole else RW_BYTES_MAX  # a message goes whole or not at all
    try:
        while True:
            if blocked is not None:
                yield blocked.wait
                blocked = None
            rest = joined(source(), done, bytes_max)
            if done and not rest:
                return done
            try:
                done += once(rest)
            except WouldBlock as again:
                blocked = again
                continue
            if not file.writes_whole:
                return done
    except Errno:
        if done:
            return done
        raise
