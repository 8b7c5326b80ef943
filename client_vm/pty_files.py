"""The guest's pseudo-terminals (pts(4)): files on the host's own, made by the kernel process (client_vm.ptys).

To the host they control nobody: which session a terminal has, and whom a key is for, is the kernel process's
knowledge. So the side that types looks for the keys that are signals. The host's terminal flushes and echoes as
always, and would send the signal too, had it anybody to send it to.
"""

import termios
from typing import TYPE_CHECKING, Final

from client_vm.abi import common
from client_vm.errors import Errno
from client_vm.host_files import HostBacked, OwnDescriptor, is_terminal, translated
from client_vm.terminals import CALLERS

if TYPE_CHECKING:
    from client_vm.house import House
    from client_vm.process import Task

_KEYS: Final = (
    (termios.VINTR, common.SIGINT),
    (termios.VQUIT, common.SIGQUIT),
    (termios.VSUSP, common.SIGTSTP),
)
_LOCAL_FLAGS, _CHARACTERS = 3, 6
"""Places in what termios.tcgetattr gives."""


class Pty(OwnDescriptor):
    """Either side of one."""

    writes_whole = True

    def __init__(self, house: "House", descriptor: int, flags: int, number: int) -> None:
        super().__init__(descriptor, flags)
        self._house = house
        self.number = number

    @property
    def terminal(self) -> int:
        """As the kernel process names it."""
        return self.number + 1

    def ioctl(self, request: int, argument: bytes) -> bytes:
        if request != common.TIOCSWINSZ:
            return super().ioctl(request, argument)
        before = super().ioctl(common.TIOCGWINSZ, bytes(len(argument)))
        answer = super().ioctl(request, argument)
        if argument != before:
            self._signal(common.SIGWINCH)
        return answer

    def _signal(self, number: int) -> None:
        self._house.resident.link.signal_terminal(self.terminal, number)


class PtySlave(Pty):
    """The side of the programs that have it as their terminal."""

    def path(self) -> bytes:
        return b"/dev/pts/%d" % self.number


class PtyMaster(Pty):
    """The side that types and sees."""

    def path(self) -> bytes:
        return b"/dev/ptmx"

    def write(self, data: memoryview) -> int:
        with translated():
            keys = self._keys()
        count = super().write(data)
        typed = bytes(data[:count])
        for position, number in sorted((typed.find(key), number) for key, number in keys.items()):
            if position >= 0:
                self._signal(number)
        return count

    def _keys(self) -> dict[bytes, int]:
        """The bytes that are signals now. OSError.

        Asked at each write: whoever has the terminal may have changed them since, and nobody tells of it.
        """
        try:
            settings = termios.tcgetattr(self.descriptor)
        except termios.error as error:
            raise OSError(*error.args) from None
        if not settings[_LOCAL_FLAGS] & termios.ISIG:
            return {}
        characters = settings[_CHARACTERS]
        return {characters[place]: number for place, number in _KEYS if characters[place] != b"\0"}


def open_master(task: "Task", flags: int) -> PtyMaster:
    """posix_openpt(3). Errno: ENOSPC, ENOENT: the host has none."""
    descriptor = task.process.link.new_terminal()
    number = int.from_bytes(HostBacked(descriptor, 0).ioctl(common.TIOCGPTN, bytes(4)), "little")
    return PtyMaster(task.kernel.house, descriptor, flags, number)


def open_slave(task: "Task", number: int, flags: int) -> PtySlave:
    """Errno: ENOENT; EIO: it is locked, or its master closed."""
    return PtySlave(task.kernel.house, task.process.link.open_terminal(number), flags, number)


def take_over(task: "Task", slave: PtySlave) -> None:
    """Opened without O_NOCTTY: the leader of a session without a terminal has one now (tty(4))."""
    try:
        task.process.link.take_terminal(slave.terminal)
    except Errno as error:
        assert error.errno == common.EPERM


def terminal_of(file: object) -> tuple[int, bool]:
    """(the kernel process's name of a terminal, whether the file is its master). Errno(ENOTTY)."""
    if isinstance(file, Pty):
        return file.terminal, isinstance(file, PtyMaster)
    if isinstance(file, HostBacked) and is_terminal(file):
        return CALLERS, False
    raise Errno(common.ENOTTY)
