"""Descriptions of open files beside messages of unix sockets (unix(7), SCM_RIGHTS).

What travels is the host descriptor of each and, before them, a memfd that says what they are; its reader trusts
nothing of it. Who receives one has offset and status flags in common with the sender: they move into a slot of
the run's (client_vm.shared_offsets), as for a fork. Each kind says what else its reader must know (`tell`), and
is made anew from that (`remake`).
"""

import fcntl
import os
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from client_vm.abi import common
from client_vm.abi.common import EOPNOTSUPP, ETOOMANYREFS
from client_vm.descriptors import OpenFile
from client_vm.errors import Errno
from client_vm.event_files import EventCounter, Timer
from client_vm.host_files import HostBacked, HostStream, PipeEnd, translated
from client_vm.memory_files import MemoryFile
from ipc.passing import close_all

if TYPE_CHECKING:
    from client_vm.house import House

PASSED_MAX: Final = 252
"""Beside one message; the host takes one descriptor more, ours (linux/socket.h: SCM_MAX_FD)."""
TOLD_BYTES_MAX: Final = 512
"""What a kind says of one description."""
_ROW: Final = struct.Struct("<BBIIH")
"""Of one: kind, how many host descriptors it has here (0 or 1), its slot, flags, bytes that follow."""
_FLAGS_KEPT: Final = common.O_ACCMODE | common.O_NONBLOCK | common.O_APPEND


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind that can be passed."""

    file: type[OpenFile]
    tell: Callable[[Any], bytes]
    """What its reader must know besides. Errno."""
    remake: Callable[["House", int, int, bytes], OpenFile]
    """(house, host descriptor, which is taken over, or -1; flags; what `tell` said) -> the description. Errno,
    OSError, struct.error, ValueError: it is none."""


def _nothing(_file: OpenFile) -> bytes:
    return b""


def _memory_file(_house: "House", descriptor: int, _flags: int, _told: bytes) -> MemoryFile:
    name = os.fsencode(os.readlink(f"/proc/self/fd/{descriptor}"))
    return MemoryFile(descriptor, name.removeprefix(b"/memfd:").removesuffix(b" (deleted)"))


KINDS: Final[list[Kind]] = [
    Kind(PipeEnd, _nothing, lambda _house, number, flags, _told: PipeEnd(number, flags)),
    Kind(EventCounter, _nothing, lambda _house, number, flags, _told: EventCounter(number, flags)),
    Kind(Timer, _nothing, lambda _house, number, flags, _told: Timer(number, flags)),
    Kind(HostStream, _nothing, lambda _house, number, _flags, _told: HostStream(number)),
    Kind(MemoryFile, _nothing, _memory_file),
]
"""By their place here, which is the same in every worker; modules of other kinds add theirs."""


def _kind_of(file: OpenFile) -> int | None:
    return next((index for index, kind in enumerate(KINDS) if type(file) is kind.file), None)


def passable(files: Iterable[OpenFile]) -> list[OpenFile]:
    """The same files, if all of them can be passed. Errno: ETOOMANYREFS; EOPNOTSUPP: one of another kind (an
    epoll instance, a signalfd, a directory of ours)."""
    passed = list(files)
    if any(_kind_of(file) is None for file in passed):
        raise Errno(EOPNOTSUPP)
    if len(passed) > PASSED_MAX:
        raise Errno(ETOOMANYREFS)
    return passed


class Parcel:
    """Descriptions on their way: `numbers` go beside the message. Whoever has it closes it, and says before that
    whether it was sent."""

    def __init__(self, house: "House", files: Iterable[OpenFile]) -> None:
        """Errno: ENFILE, and what a kind's `tell` raises."""
        self._shared: list[OpenFile] = []
        self.numbers: list[int] = []
        self.sent = False
        rows = bytearray()
        try:
            for file in files:
                index = _kind_of(file)
                assert index is not None, "a file that is passable"
                told = KINDS[index].tell(file)
                file.share(house.offsets)
                self._shared.append(file)
                numbers = [file.descriptor] if isinstance(file, HostBacked) else []
                self.numbers += numbers
                rows += _ROW.pack(index, len(numbers), file.slot, file.flags & _FLAGS_KEPT, len(told)) + told
            with translated():
                self._description = _sealed(bytes(rows))
        except Errno:
            self._unshare()
            raise
        self.numbers.insert(0, self._description)

    def close(self) -> None:
        os.close(self._description)
        if not self.sent:
            self._unshare()

    def _unshare(self) -> None:
        for file in self._shared:
            file.unshare()


def _sealed(data: bytes) -> int:
    """A memfd with that in it, for good. OSError."""
    descriptor = os.memfd_create("farcall-passed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(descriptor, data)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return descriptor


def unpack(house: "House", numbers: list[int], peeked: bool) -> list[OpenFile]:
    """What was passed; nothing, or less, if it is not as Parcel makes it. `peeked`: it will be received again."""
    if not numbers:
        return []
    description, *rest = numbers
    try:
        data = os.pread(description, (_ROW.size + TOLD_BYTES_MAX) * PASSED_MAX, 0)
    except OSError:
        data = b""
    finally:
        os.close(description)
    files: list[OpenFile] = []
    at = 0
    with suppress(struct.error, IndexError):
        while at < len(data):
            index, has_number, slot, flags, length = _ROW.unpack_from(data, at)
            told = data[at + _ROW.size : at + _ROW.size + length]
            at += _ROW.size + length
            number = rest.pop(0) if has_number else -1
            file = _remade(house, index, number, flags & _FLAGS_KEPT, told)
            if file is None or not _joined(house, file, slot):
                continue
            if peeked:
                file.share(house.offsets)
            files.append(file)
    close_all(rest)
    return files


def _remade(house: "House", index: int, number: int, flags: int, told: bytes) -> OpenFile | None:
    try:
        return KINDS[index].remake(house, number, flags, told)
    except (Errno, OSError, struct.error, ValueError, IndexError):
        if number >= 0:
            os.close(number)
        return None


def _joined(house: "House", file: OpenFile, slot: int) -> bool:
    try:
        file.join(house.offsets, slot)
    except ValueError:
        file.drop()
        return False
    return True
