"""Waiting for many descriptors: poll and select (man 2 of each). The host is asked once about all of them."""

import select as host_select
from collections.abc import Callable, Iterable
from typing import Final

from client_vm.abi import common
from client_vm.abi.common import EBADF, EFAULT, EINVAL
from client_vm.abi.layout import Struct
from client_vm.arguments import InBuffer, OutBuffer
from client_vm.descriptors import OpenFile
from client_vm.errors import Errno
from client_vm.process import Task
from client_vm.signals import interrupts, set_mask, wait_with_mask
from client_vm.waiting import Blocking, Interrupted, Restart, Wait

_NS: Final = 1_000_000_000
_MASK_BYTES: Final = 8
_ALWAYS_READY: Final = common.POLLIN | common.POLLOUT | common.POLLRDNORM | common.POLLWRNORM
"""What a file says whose kind cannot tell (linux/poll.h: DEFAULT_POLLMASK)."""
_UNASKED: Final = common.POLLERR | common.POLLHUP | common.POLLNVAL
_EVENTS: Final = 0xFFFF


class _Looker:
    """A set of descriptions looked at together. The descriptions live as long as it."""

    def __init__(self, task: Task, wanted: list[tuple[int, int]]) -> None:
        """`wanted`: (fd, poll(2) events); a negative fd is left out."""
        lookup = task.process.fds.lookup
        self._task = task
        self._files = [(lookup(fd) if fd >= 0 else None, fd, events) for fd, events in wanted]
        self._poll = host_select.poll()
        self._descriptors: dict[int, int] = {}
        for file, _, events in self._files:
            descriptor = None if file is None else file.readiness()
            if descriptor is not None:
                self._descriptors[descriptor] = self._descriptors.get(descriptor, 0) | events & _EVENTS
        for descriptor, events in self._descriptors.items():
            self._poll.register(descriptor, events)

    def look(self) -> list[int]:
        """What each is ready for now, poll(2) events."""
        refresh_queues(self._task)
        ready = dict(self._poll.poll(0)) if self._descriptors else {}
        return [_events_of(file, fd, events, ready) for file, fd, events in self._files]

    def wait(self, deadline: float | None) -> Wait:
        return Wait(tuple(self._descriptors.items()), deadline, restart=Restart.NEVER)

    def hold(self) -> None:
        """Another thread may close an fd while this one waits for it."""
        for file, _, _ in self._files:
            if file is not None:
                file.users += 1

    def let_go(self) -> None:
        for file, _, _ in self._files:
            if file is not None:
                file.drop()


def _events_of(file: OpenFile | None, fd: int, events: int, ready: dict[int, int]) -> int:
    if fd < 0:
        return 0
    if file is None:
        return common.POLLNVAL
    descriptor = file.readiness()
    if descriptor is None:
        return _ALWAYS_READY & events
    return ready.get(descriptor, 0) & (events | _UNASKED)


def refresh_queues(task: Task) -> None:
    """signalfds say what is pending now: signals have also been taken otherwise."""
    for queue in task.process.signals.queues:
        queue.refresh()


PAST: Final = 0.0
"""A deadline that has passed, of a call that does not wait."""


def look_or_wait(
    task: Task, deadline: float | None, look: Callable[[], int], wait: Callable[[], Wait]
) -> int | Blocking:
    """Answers at once, or waits. `look`: how many are ready, told to the guest if any or `deadline` is past."""
    ready = look()
    if ready or (_is_past(task, deadline) and not (task.attention and interrupts(task))):
        return ready
    return _keep_looking(task, deadline, look, wait())


def _keep_looking(task: Task, deadline: float | None, look: Callable[[], int], wait: Wait) -> Blocking:
    while True:
        yield wait
        ready = look()
        if ready or _is_past(task, deadline):
            return ready


def _is_past(task: Task, deadline: float | None) -> bool:
    return deadline is not None and (deadline == PAST or task.kernel.clock.monotonic_s() >= deadline)


def _look(
    task: Task, wanted: list[tuple[int, int]], deadline: float | None, tell: Callable[[list[int]], int]
) -> int | Blocking:
    """`tell` stores what each is ready for; how many are ready."""
    looker = _Looker(task, wanted)

    def look() -> int:
        ready = looker.look()
        return tell(ready) if any(ready) or _is_past(task, deadline) else 0

    answer = look_or_wait(task, deadline, look, lambda: looker.wait(deadline))
    return answer if isinstance(answer, int) else _holding(looker, answer)


def _holding(looker: _Looker, call: Blocking) -> Blocking:
    looker.hold()
    try:
        return (yield from call)
    finally:
        looker.let_go()


# -- masks and timeouts -------------------------------------------------------------------------------


def with_mask(task: Task, mask: InBuffer, size: int, begin: Callable[[], int | Blocking]) -> int | Blocking:
    """The call under another signal mask, if one is given (ppoll(2)). The old one is back when it returns; a
    handler that interrupts it runs first. EINVAL, EFAULT."""
    if not mask.address:
        return begin()
    if size != _MASK_BYTES:
        raise Errno(EINVAL)
    wait_with_mask(task, int.from_bytes(mask.whole(_MASK_BYTES), "little"))
    try:
        answer = begin()
    except Errno:
        _unmask(task)
        raise
    if isinstance(answer, int):
        _unmask(task)
        return answer
    return _under_mask(task, answer)


def _under_mask(task: Task, call: Blocking) -> Blocking:
    try:
        result = yield from call
    except Interrupted:
        raise
    except Errno:
        _unmask(task)
        raise
    _unmask(task)
    return result


def _unmask(task: Task) -> None:
    mask, task.restore_mask = task.restore_mask, None
    if mask is not None:
        set_mask(task, mask)


def deadline_after(task: Task, seconds: int, nanoseconds: int) -> float:
    """When a relative timeout ends, on the monotonic clock. EINVAL."""
    if seconds < 0 or not 0 <= nanoseconds < _NS:
        raise Errno(EINVAL)
    return float(task.kernel.clock.monotonic_s() + seconds + nanoseconds / _NS)


def timespec_deadline(task: Task, timeout: OutBuffer | None) -> float | None:
    """Of a pointer to struct timespec; None: NULL, for ever. EINVAL, EFAULT."""
    if timeout is None:
        return None
    spec = common.timespec
    seconds, nanoseconds = spec.codec.unpack(task.memory.read(timeout.address, spec.size))
    return deadline_after(task, seconds, nanoseconds)


def milliseconds_deadline(task: Task, timeout_ms: int) -> float | None:
    """Of an int of milliseconds; negative: for ever."""
    if timeout_ms <= 0:
        return PAST if timeout_ms == 0 else None
    return task.kernel.clock.monotonic_s() + timeout_ms / 1000


class _Rest:
    """Where the kernel writes back what is left of a timeout (select(2), ppoll(2), NOTES)."""

    def __init__(self, task: Task, timeout: OutBuffer | None, deadline: float | None, struct: Struct) -> None:
        self._task = task
        self._timeout = timeout
        self._deadline = deadline
        self._struct = struct
        self._wanted = timeout is not None and any(task.memory.read(timeout.address, struct.size))

    def after(self, begin: Callable[[], int | Blocking]) -> int | Blocking:
        """The call, whatever comes of it, and then the rest; of a timeout of 0 none is told."""
        if not self._wanted:
            return begin()
        try:
            answer = begin()
        except Errno:
            self._tell()
            raise
        if isinstance(answer, int):
            self._tell()
            return answer
        return self._then(answer)

    def _then(self, call: Blocking) -> Blocking:
        try:
            result = yield from call
        except Errno:
            self._tell()
            raise
        self._tell()
        return result

    def _tell(self) -> None:
        assert self._timeout is not None and self._deadline is not None
        left = max(0, int((self._deadline - self._task.kernel.clock.monotonic_s()) * _NS))
        unit = 1 if self._struct is common.timespec else 1000
        try:
            self._timeout.put(self._struct.codec.pack(left // _NS, left % _NS // unit))
        except Errno as error:
            assert error.errno == EFAULT  # a timeout that cannot be written to stays (fs/select.c)


# -- poll ---------------------------------------------------------------------------------------------


def poll(task: Task, pointer: OutBuffer, count: int, timeout_ms: int) -> int | Blocking:
    return _poll(task, pointer, count, milliseconds_deadline(task, timeout_ms))


def ppoll(
    task: Task, pointer: OutBuffer, count: int, timeout: OutBuffer | None, mask: InBuffer, size: int
) -> int | Blocking:
    deadline = timespec_deadline(task, timeout)
    rest = _Rest(task, timeout, deadline, common.timespec)
    return with_mask(task, mask, size, lambda: rest.after(lambda: _poll(task, pointer, count, deadline)))


def _poll(task: Task, pointer: OutBuffer, count: int, deadline: float | None) -> int | Blocking:
    if count > task.process.limits[common.RLIMIT_NOFILE][0]:
        raise Errno(EINVAL)
    size = common.pollfd.size
    raw = task.memory.read(pointer.address, count * size) if count else b""
    wanted = [(fd, events & _EVENTS) for fd, events, _ in common.pollfd.codec.iter_unpack(raw)]

    def tell(ready: list[int]) -> int:
        for index, events in enumerate(ready):
            task.memory.write(pointer.address + index * size + 6, events.to_bytes(2, "little"))
        return sum(map(bool, ready))

    return _look(task, wanted, deadline, tell)


# -- select -------------------------------------------------------------------------------------------

_READS: Final = common.POLLIN | common.POLLRDNORM | common.POLLRDBAND | common.POLLHUP | common.POLLERR
_WRITES: Final = common.POLLOUT | common.POLLWRNORM | common.POLLWRBAND | common.POLLERR
_EXCEPTIONS: Final = common.POLLPRI
_MEANINGS: Final = _READS, _WRITES, _EXCEPTIONS
_ASKED: Final = tuple(events & ~_UNASKED for events in _MEANINGS)
_Sets = tuple[int, int, int]
"""Addresses of the guest's three fd_sets."""


def select(
    task: Task, count: int, reads: int, writes: int, exceptions: int, timeout: OutBuffer | None
) -> int | Blocking:
    deadline = None
    if timeout is not None:
        value = common.timeval
        seconds, micros = value.codec.unpack(task.memory.read(timeout.address, value.size))
        if micros < 0:
            raise Errno(EINVAL)
        deadline = deadline_after(task, seconds + micros // 1_000_000, micros % 1_000_000 * 1000)
    rest = _Rest(task, timeout, deadline, common.timeval)
    return rest.after(lambda: _select(task, count, (reads, writes, exceptions), deadline))


def pselect6(
    task: Task, count: int, reads: int, writes: int, exceptions: int, timeout: OutBuffer | None, masks: int
) -> int | Blocking:
    """`masks`: address of {const sigset_t *, size_t} (select(2))."""
    where = size = 0
    if masks:
        where, size = (int.from_bytes(task.memory.read(masks + at, 8), "little") for at in (0, 8))
    deadline = timespec_deadline(task, timeout)
    rest = _Rest(task, timeout, deadline, common.timespec)
    return with_mask(
        task,
        InBuffer(task.memory, where),
        size,
        lambda: rest.after(lambda: _select(task, count, (reads, writes, exceptions), deadline)),
    )


def _select(task: Task, count: int, sets: _Sets, deadline: float | None) -> int | Blocking:
    if count < 0:
        raise Errno(EINVAL)
    fds = task.process.fds
    count = min(count, fds.capacity())
    size = (count + 63) // 64 * 8
    masks = [int.from_bytes(task.memory.read(at, size), "little") if at and size else 0 for at in sets]
    numbers = list(_bits((masks[0] | masks[1] | masks[2]) & (1 << count) - 1))
    if any(fds.lookup(fd) is None for fd in numbers):
        raise Errno(EBADF)
    wanted = [
        (fd, sum(asked for asked, mask in zip(_ASKED, masks, strict=True) if mask >> fd & 1)) for fd in numbers
    ]

    def tell(ready: list[int]) -> int:
        results = [0, 0, 0]
        for fd, events in zip(numbers, ready, strict=True):
            for index, meaning in enumerate(_MEANINGS):
                if events & meaning and masks[index] >> fd & 1:
                    results[index] |= 1 << fd
        for at, result in zip(sets, results, strict=True):
            if at and size:
                task.memory.write(at, result.to_bytes(size, "little"))
        return sum(result.bit_count() for result in results)

    return _look(task, wanted, deadline, tell)


def _bits(mask: int) -> Iterable[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
