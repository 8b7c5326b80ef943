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
from client_vm.descriptors import OpenFile, RemoteFile
from client_vm.errors import Errno
from client_vm.event_files import EventCounter, Timer
from client_vm.host_files import HostBacked, HostStream, NamedPipe, PipeEnd, translated
from client_vm.memory_files import MemoryFile
from client_vm.nodes import Device, FullFile, NullFile, OpenNode, RandomFile, ZeroFile, device_nodes
from client_vm.pty_files import Pty, PtyMaster, PtySlave
from farcall.v1.file_pb2 import LendRequest, RedeemRequest
from ipc.passing import close_all

if TYPE_CHECKING:
    from client_vm.house import House

PASSED_MAX: Final = 252
"""Beside one message; the host takes one descriptor more, ours (linux/socket.h: SCM_MAX_FD)."""
TOLD_BYTES_MAX: Final = 512
"""What a kind says of one description."""
_ROW: Final = struct.Struct("<BBIIH")
"""Of one: kind, how many host descriptors it has here (0 or 1), its slot, flags, bytes that follow."""
_FLAGS_KEPT: Final = common.O_ACCMODE | common.O_NONBLOCK | common.O_APPEND | common.O_PATH
TICKET_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind that can be passed."""

    file: type[OpenFile]
    tell: Callable[[Any], bytes]
    """What its reader must know besides. Errno."""
    remake: Callable[["Arrival"], OpenFile]
    """Errno, OSError, struct.error, ValueError, LookupError: it is none; the descriptor is still the caller's."""
    discard: Callable[[Any, bytes], None] = lambda _file, _told: None
    """What `tell` has said is of no use: it was not sent."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One description that was passed, as its reader finds it."""

    house: "House"
    descriptor: int
    """Of the host, which is taken over; -1: it has none."""
    flags: int
    told: bytes
    peeked: bool
    """It will be received again (MSG_PEEK)."""


def _nothing(_file: OpenFile) -> bytes:
    return b""


def _memory_file(came: Arrival) -> MemoryFile:
    name = os.fsencode(os.readlink(f"/proc/self/fd/{came.descriptor}"))
    return MemoryFile(came.descriptor, name.removeprefix(b"/memfd:").removesuffix(b" (deleted)"))


def _lend(file: RemoteFile) -> bytes:
    """A ticket of the file server's. Errno: EOPNOTSUPP: it has none; ETOOMANYREFS."""
    try:
        ticket: bytes = file.files.call(LendRequest(handle=file.handle)).ticket
    except Errno as error:
        raise Errno(EOPNOTSUPP if error.errno == common.ENOSYS else error.errno) from None
    return ticket


def _redeem(came: Arrival) -> RemoteFile:
    if len(came.told) != TICKET_BYTES:
        raise ValueError("a ticket")
    files = came.house.resident.files
    handle = files.new_handle()
    answer = files.call(RedeemRequest(ticket=came.told, handle=handle, keep=came.peeked))
    return RemoteFile(files, handle, came.flags, answer.mode)


def _take_back(file: RemoteFile, ticket: bytes) -> None:
    file.files.call(RedeemRequest(ticket=ticket))


def _named_pipe(came: Arrival) -> NamedPipe:
    return NamedPipe(came.descriptor, came.flags, _redeem(came))


def _number_of(pty: Pty) -> bytes:
    return pty.number.to_bytes(4, "little")


def _pty(kind: type[Pty]) -> Kind:
    def remake(came: Arrival) -> Pty:
        return kind(came.house, came.descriptor, came.flags, int.from_bytes(came.told, "little"))

    return Kind(kind, _number_of, remake)


def _device(came: Arrival) -> OpenFile:
    """A device of ours, opened anew: it has no state."""
    node = device_nodes()[came.told]
    if not isinstance(node, Device):
        raise ValueError("a device")
    task = came.house.resident.tasks[came.house.resident.pid]
    return node.open(task, came.flags)


def _device_name(file: OpenNode) -> bytes:
    return file.node.path.rsplit(b"/", 1)[1]


KINDS: Final[list[Kind]] = [
    Kind(PipeEnd, _nothing, lambda came: PipeEnd(came.descriptor, came.flags)),
    Kind(EventCounter, _nothing, lambda came: EventCounter(came.descriptor, came.flags)),
    Kind(Timer, _nothing, lambda came: Timer(came.descriptor, came.flags)),
    Kind(HostStream, _nothing, lambda came: HostStream(came.descriptor)),
    Kind(MemoryFile, _nothing, _memory_file),
    Kind(RemoteFile, _lend, _redeem, _take_back),
    Kind(
        NamedPipe,
        lambda pipe: _lend(pipe.file),
        _named_pipe,
        lambda pipe, ticket: _take_back(pipe.file, ticket),
    ),
    *map(_pty, (PtyMaster, PtySlave)),
    *(Kind(kind, _device_name, _device) for kind in (NullFile, ZeroFile, FullFile, RandomFile)),
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
        self._shared: list[tuple[OpenFile, Kind, bytes]] = []
        self.numbers: list[int] = []
        self.sent = False
        rows = bytearray()
        try:
            for file in files:
                index = _kind_of(file)
                assert index is not None, "a file that is passable"
                kind = KINDS[index]
                told = kind.tell(file)
                try:
                    file.share(house.offsets)
                except Errno:
                    kind.discard(file, told)
                    raise
                self._shared.append((file, kind, told))
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
        for file, kind, told in self._shared:
            file.unshare()
            kind.discard(file, told)


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
            file = _remade(index, Arrival(house, number, flags & _FLAGS_KEPT, told, peeked))
            if file is None or not _joined(house, file, slot):
                continue
            if peeked:
                file.share(house.offsets)
            files.append(file)
    close_all(rest)
    return files


def _remade(index: int, came: Arrival) -> OpenFile | None:
    try:
        return KINDS[index].remake(came)
    except (Errno, OSError, struct.error, ValueError, LookupError):
        if came.descriptor >= 0:
            os.close(came.descriptor)
        return None


def _joined(house: "House", file: OpenFile, slot: int) -> bool:
    try:
        file.join(house.offsets, slot)
    except ValueError:
        file.drop()
        return False
    return True
