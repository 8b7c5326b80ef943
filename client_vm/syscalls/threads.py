"""Threads: futexes, what the C library asks of each, and their end (man 2 of each)."""

from typing import Any, Final

from client_vm.abi import common
from client_vm.abi.common import EAGAIN, EINVAL, ENOSYS, ESRCH
from client_vm.arguments import OutBuffer
from client_vm.errors import Errno, ThreadExit
from client_vm.futex import BITSET_ALL, key_of
from client_vm.process import Task
from client_vm.waiting import Blocking

_NS: Final = 1_000_000_000
_INT_MAX: Final = (1 << 31) - 1
ROBUST_LIST_BYTES: Final = 24
"""struct robust_list_head (linux/futex.h)."""
_FLAGS: Final = common.FUTEX_PRIVATE_FLAG | common.FUTEX_CLOCK_REALTIME


def gettid(task: Task) -> int:
    return task.tid


def set_tid_address(task: Task, address: int) -> int:
    task.clear_child_tid = address
    return task.tid


def set_robust_list(task: Task, head: int, size: int) -> int:
    if size != ROBUST_LIST_BYTES:
        raise Errno(EINVAL)
    task.robust_list = head
    task.process.tell_of_locks()
    return 0


def get_robust_list(task: Task, tid: int, head: OutBuffer, size: OutBuffer) -> int:
    found = task if not tid else task.process.tasks.get(tid)
    if found is None:
        raise Errno(ESRCH)
    size.check(8)
    head.put(found.robust_list.to_bytes(8, "little"))
    size.put(ROBUST_LIST_BYTES.to_bytes(8, "little"))
    return 0


def exit_(_task: Task, status: int) -> int:
    raise ThreadExit(status & 0xFF)


def futex(
    task: Task, address: int, operation: int, value: int, fourth: int, address2: int, value3: int
) -> int | Blocking:
    """FUTEX_WAIT, WAKE, their BITSET forms, REQUEUE, CMP_REQUEUE and WAKE_OP. ENOSYS: priority inheritance."""
    command = operation & ~_FLAGS
    if operation & common.FUTEX_CLOCK_REALTIME and command not in (
        common.FUTEX_WAIT, common.FUTEX_WAIT_BITSET
    ):  # fmt: skip
        raise Errno(ENOSYS)
    futexes = task.process.futexes
    if command in (common.FUTEX_WAIT, common.FUTEX_WAIT_BITSET):
        timeout = _timespec(task, fourth) if fourth else None
        absolute = command == common.FUTEX_WAIT_BITSET
        real = bool(operation & common.FUTEX_CLOCK_REALTIME)
        bitset = value3 if absolute else BITSET_ALL
        deadline = None if timeout is None else _deadline(task, timeout, absolute, real)
        return futexes.wait(task, address, value, bitset, deadline)
    key = key_of(task, address)
    count = value if value <= _INT_MAX else 1  # a negative count wakes one (kernel/futex: futex_wake)
    if command == common.FUTEX_WAKE:
        return futexes.wake(key, max(count, 1))
    if command == common.FUTEX_WAKE_BITSET:
        return futexes.wake(key, max(count, 1), value3)
    if command in (common.FUTEX_REQUEUE, common.FUTEX_CMP_REQUEUE):
        move = fourth & 0xFFFFFFFF
        if value > _INT_MAX or move > _INT_MAX:
            raise Errno(EINVAL)
        target = key_of(task, address2)
        if command == common.FUTEX_CMP_REQUEUE and _word(task, address) != value3:
            raise Errno(EAGAIN)
        return sum(futexes.requeue(key, value, move, target))
    if command == common.FUTEX_WAKE_OP:
        return _wake_op(task, key, value, fourth & 0xFFFFFFFF, address2, value3)
    raise Errno(ENOSYS)


def _word(task: Task, address: int) -> int:
    return int.from_bytes(task.memory.read(address, 4), "little")


def _timespec(task: Task, address: int) -> int:
    """Nanoseconds. EFAULT; EINVAL."""
    spec: dict[str, Any] = common.timespec.unpack(task.memory.read(address, common.timespec.size))
    if spec["tv_sec"] < 0 or not 0 <= spec["tv_nsec"] < _NS:
        raise Errno(EINVAL)
    return int(spec["tv_sec"]) * _NS + int(spec["tv_nsec"])


def _deadline(task: Task, timeout_ns: int, absolute: bool, real: bool) -> float:
    """On the monotonic clock, whichever clock the guest named."""
    clock = task.kernel.clock
    if absolute and real:
        return clock.monotonic_s() + (timeout_ns - clock.realtime_ns()) / _NS
    return timeout_ns / _NS if absolute else clock.monotonic_s() + timeout_ns / _NS


def _wake_op(task: Task, key: tuple[int, int], wake: int, wake2: int, address2: int, encoded: int) -> int:
    """FUTEX_WAKE_OP: changes the second word, wakes at the first, and at the second if it was as asked."""
    key2 = key_of(task, address2)
    operation, compare = encoded >> 28 & 15, encoded >> 24 & 15
    argument, expected = _signed12(encoded >> 12), _signed12(encoded)
    if operation & 8:
        if not 0 <= argument < 32:
            raise Errno(EINVAL)
        argument = 1 << argument
    with task.kernel.house.one_step(task.process):
        old = _word(task, address2)
        results = {0: argument, 1: old + argument, 2: old | argument, 3: old & ~argument, 4: old ^ argument}
        if operation & 7 not in results:
            raise Errno(ENOSYS)
        task.memory.write(address2, (results[operation & 7] & 0xFFFFFFFF).to_bytes(4, "little"))
    signed = old - (1 << 32) if old >> 31 else old
    tests = {
        0: signed == expected, 1: signed != expected, 2: signed < expected,
        3: signed <= expected, 4: signed > expected, 5: signed >= expected,
    }  # fmt: skip
    if compare not in tests:
        raise Errno(ENOSYS)
    woken: int = task.process.futexes.wake(key, max(wake, 1))
    if tests[compare]:
        woken += task.process.futexes.wake(key2, max(wake2, 1))
    return woken


def _signed12(value: int) -> int:
    value &= 0xFFF
    return value - 0x1000 if value & 0x800 else value
