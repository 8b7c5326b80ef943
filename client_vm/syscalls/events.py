"""epoll, and what programs wait for with it: eventfd, timerfd, signalfd (man 2 of each)."""

from collections.abc import Callable
from typing import Final

from client_vm.abi import common
from client_vm.abi.common import EBADF, EFAULT, EINVAL, EPERM
from client_vm.arguments import InBuffer, OutBuffer, OutPointer
from client_vm.descriptors import OpenFile
from client_vm.epoll import EventPoll, make_epoll
from client_vm.errors import Errno
from client_vm.event_files import SignalQueue, Timer, make_eventfd, make_timerfd
from client_vm.host import EPOLL_EVENTS_MAX
from client_vm.host_files import HostBacked
from client_vm.process import Task
from client_vm.signals import UNBLOCKABLE_MASK
from client_vm.syscalls.polling import (
    look_or_wait,
    milliseconds_deadline,
    refresh_queues,
    timespec_deadline,
    with_mask,
)
from client_vm.syscalls.streams import holding
from client_vm.waiting import Blocking, Restart, Wait

_MASK_BYTES: Final = 8


def _install(task: Task, make: Callable[[], OpenFile], close_on_exec: bool) -> int:
    fds = task.process.fds
    fd = fds.lowest_free()
    fds.install(fd, make(), close_on_exec)
    return fd


def _pointed(task: Task, fd: int) -> OpenFile:
    """Errno(EBADF), for a mere path too (open(2): O_PATH)."""
    file = task.process.fds.lookup(fd)
    if file is None:
        raise Errno(EBADF)
    return file


# -- epoll --------------------------------------------------------------------------------------------


def epoll_create(task: Task, size: int) -> int:
    if size <= 0:
        raise Errno(EINVAL)
    return epoll_create1(task, 0)


def epoll_create1(task: Task, flags: int) -> int:
    if flags & ~common.EPOLL_CLOEXEC:
        raise Errno(EINVAL)
    return _install(task, make_epoll, bool(flags))


def epoll_ctl(task: Task, instance: int, operation: int, fd: int, event: InBuffer) -> int:
    struct = task.architecture.abi.epoll_event
    events = data = 0
    if operation != common.EPOLL_CTL_DEL:
        events, data = event.fields(struct)
    poll_file, file = _pointed(task, instance), _pointed(task, fd)
    if not isinstance(poll_file, EventPoll) or poll_file is file:
        raise Errno(EPERM if not isinstance(file, HostBacked) or file.readiness() is None else EINVAL)
    poll_file.control(operation, fd, file, events, data)
    return 0


def epoll_wait(task: Task, fd: int, pointer: OutBuffer, count: int, timeout_ms: int) -> int | Blocking:
    return _epoll_wait(task, fd, pointer, count, milliseconds_deadline(task, timeout_ms))


def epoll_pwait(
    task: Task, fd: int, pointer: OutBuffer, count: int, timeout_ms: int, mask: InBuffer, size: int
) -> int | Blocking:
    deadline = milliseconds_deadline(task, timeout_ms)
    return with_mask(task, mask, size, lambda: _epoll_wait(task, fd, pointer, count, deadline))


def epoll_pwait2(
    task: Task, fd: int, pointer: OutBuffer, count: int, timeout: OutBuffer | None, mask: InBuffer, size: int
) -> int | Blocking:
    deadline = timespec_deadline(task, timeout)
    return with_mask(task, mask, size, lambda: _epoll_wait(task, fd, pointer, count, deadline))


def _epoll_wait(task: Task, fd: int, pointer: OutBuffer, count: int, deadline: float | None) -> int | Blocking:
    struct = task.architecture.abi.epoll_event
    if not 0 < count <= 0x7FFFFFFF // struct.size:
        raise Errno(EINVAL)
    instance = _pointed(task, fd)
    if not isinstance(instance, EventPoll):
        raise Errno(EINVAL)
    wanted = min(count, EPOLL_EVENTS_MAX)

    def look() -> int:
        if task.process.signals.queues:
            refresh_queues(task)
        # Only what can be stored is taken: an event of an edge is told once.
        room = wanted
        if pointer.plain(wanted * struct.size) is None:
            room = sum(map(len, task.memory.writable(pointer.address, wanted * struct.size))) // struct.size
        found = instance.take(room or 1)
        if found:
            if not room:
                raise Errno(EFAULT)
            pointer.put(b"".join([struct.codec.pack(*event) for event in found]))
        return len(found)

    def wait() -> Wait:
        return Wait(((instance.descriptor, common.POLLIN),), deadline, restart=Restart.NEVER)

    answer = look_or_wait(task, deadline, look, wait)
    return answer if isinstance(answer, int) else holding(instance, _waiting(instance, answer))


def _waiting(instance: EventPoll, call: Blocking) -> Blocking:
    instance.waiters += 1
    try:
        return (yield from call)
    finally:
        instance.waiters -= 1


# -- eventfd, timerfd, signalfd -----------------------------------------------------------------------


def eventfd(task: Task, initial: int) -> int:
    return eventfd2(task, initial, 0)


def eventfd2(task: Task, initial: int, flags: int) -> int:
    if flags & ~(common.EFD_SEMAPHORE | common.EFD_CLOEXEC | common.EFD_NONBLOCK):
        raise Errno(EINVAL)
    return _install(task, lambda: make_eventfd(initial, flags), bool(flags & common.EFD_CLOEXEC))


def timerfd_create(task: Task, clock: int, flags: int) -> int:
    if flags & ~(common.O_CLOEXEC | common.O_NONBLOCK):
        raise Errno(EINVAL)
    return _install(task, lambda: make_timerfd(clock, flags), bool(flags & common.O_CLOEXEC))


def _timer(task: Task, fd: int) -> Timer:
    file = _pointed(task, fd)
    if not isinstance(file, Timer):
        raise Errno(EINVAL)
    return file


def timerfd_settime(task: Task, fd: int, flags: int, new: InBuffer, old: OutPointer | None) -> int:
    value = new.whole(common.itimerspec.size)
    timer = _timer(task, fd)
    before = timer.set(flags, value)
    if old is not None:
        old.put(before)
    return 0


def timerfd_gettime(task: Task, fd: int, pointer: OutPointer) -> int:
    pointer.put(_timer(task, fd).get())
    return 0


def signalfd(task: Task, fd: int, mask: InBuffer, size: int) -> int:
    return signalfd4(task, fd, mask, size, 0)


def signalfd4(task: Task, fd: int, mask: InBuffer, size: int, flags: int) -> int:
    if size != _MASK_BYTES:
        raise Errno(EINVAL)
    wanted = int.from_bytes(mask.whole(_MASK_BYTES), "little") & ~UNBLOCKABLE_MASK
    if flags & ~(common.O_CLOEXEC | common.O_NONBLOCK):
        raise Errno(EINVAL)
    if fd == -1:
        return _install(
            task,
            lambda: SignalQueue(task.process, wanted, flags & common.O_NONBLOCK),
            bool(flags & common.O_CLOEXEC),
        )
    file = _pointed(task, fd)
    if not isinstance(file, SignalQueue):
        raise Errno(EINVAL)
    file.mask = wanted
    file.refresh()
    return fd
