"""epoll(7): an instance of the guest is one of the host's, so that readiness, edges, one-shots, nesting and what
is shared after a fork are the host's, too.

Linux knows a member by (description, fd). A description has one host descriptor here, whatever the fds it is open
under: the second fd of a description that is added gets a duplicate of the host descriptor, which lives as
long as the description.
"""

from weakref import WeakKeyDictionary

from client_vm import host
from client_vm.abi import common
from client_vm.abi.common import EINVAL, EPERM
from client_vm.descriptors import OpenFile
from client_vm.errors import Errno
from client_vm.host_files import HostBacked, OwnDescriptor, translated


class EventPoll(OwnDescriptor):
    """One epoll instance."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, common.O_RDWR)
        self._members: WeakKeyDictionary[OpenFile, dict[int, int]] = WeakKeyDictionary()
        """Per description: the guest's fds that were added here, and the host descriptor for each."""

    def path(self) -> bytes:
        return b"anon_inode:[eventpoll]"

    def read(self, views: list[memoryview]) -> int:
        raise Errno(EINVAL)

    def write(self, data: memoryview) -> int:
        raise Errno(EINVAL)

    def control(self, operation: int, fd: int, file: OpenFile, events: int, data: int) -> None:
        """epoll_ctl(2). Errno: EPERM (always ready), EEXIST, ENOENT, EINVAL, ELOOP, ENOSPC."""
        if not isinstance(file, HostBacked) or file.readiness() is None:
            raise Errno(EPERM)
        if operation not in (common.EPOLL_CTL_ADD, common.EPOLL_CTL_DEL, common.EPOLL_CTL_MOD):
            raise Errno(EINVAL)
        members = self._members.setdefault(file, {})
        known = members.get(fd)
        if operation == common.EPOLL_CTL_ADD and known is None:
            members[fd] = self._add(file, members, events, data)
            return
        # One that another process added after a fork is not known here, but to the host.
        with translated():
            host.control_epoll(self.descriptor, operation, known or file.descriptor, events, data)
        if operation == common.EPOLL_CTL_DEL:
            members.pop(fd, None)

    def _add(self, file: HostBacked, members: dict[int, int], events: int, data: int) -> int:
        """The host descriptor that was added."""
        descriptor = file.descriptor
        if descriptor in members.values():
            descriptor = next((d for d in file.duplicates if d not in members.values()), -1)
            if descriptor < 0:
                descriptor = file.duplicate()
        with translated():
            host.control_epoll(self.descriptor, common.EPOLL_CTL_ADD, descriptor, events, data)
        return descriptor

    def take(self, count: int) -> list[tuple[int, int]]:
        """Up to count (events, data) that are ready now."""
        return host.ready_in_epoll(self.descriptor, count)


def make_epoll() -> EventPoll:
    """Errno(EMFILE)."""
    with translated():
        return EventPoll(host.epoll())
