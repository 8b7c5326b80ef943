"""epoll(7): an instance of the guest is one of the host's, so that readiness, edges, one-shots, nesting and what
is shared after a fork are the host's, too.

Linux knows a member by (description, fd). A description has one host descriptor here, whatever the fds it is open
under: the second fd of a description that is added gets a duplicate of the host descriptor, which lives as
long as the description.

What changes between two looks is told to the host at the next one: an event loop takes its members out and puts
them back several times for a request, and a call of the host's costs as much as the rest of epoll_ctl(2). That
holds for plain levels, and while nobody else may look: not another thread, not a process that shares the instance
after a fork, not poll(2) or another instance.
"""

from typing import TYPE_CHECKING, Final

from client_vm import host
from client_vm.abi import common
from client_vm.abi.common import EINVAL, EPERM
from client_vm.descriptors import OpenFile
from client_vm.errors import Errno
from client_vm.host_files import HostBacked, OwnDescriptor, host_call, translated

if TYPE_CHECKING:
    from client_vm.shared_offsets import SharedOffsets

_SPECIAL: Final = ~(
    common.EPOLLIN
    | common.EPOLLPRI
    | common.EPOLLOUT
    | common.EPOLLRDHUP
    | common.EPOLLERR
    | common.EPOLLHUP
    | common.EPOLLRDNORM
    | common.EPOLLRDBAND
    | common.EPOLLWRNORM
    | common.EPOLLWRBAND
)
"""What is more than a level: edges, one-shots, exclusive wake-ups."""


class EventPoll(OwnDescriptor):
    """One epoll instance."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, common.O_RDWR)
        self._members: dict[HostBacked, dict[int, int]] = {}
        """Per description: the guest's fds that were added here, and the host descriptor for each."""
        self.waiters = 0
        """How many calls wait here."""
        self._alone = True
        """Whether nobody but this worker's calls of epoll_wait(2) looks."""
        self._there: dict[int, tuple[int, int]] = {}
        """Plain levels that the host knows, by host descriptor: (events, data). None unless we are alone."""
        self._wanted: dict[int, tuple[int, int] | None] = {}
        """What the host is to know of them; None: nothing any more."""

    def forget(self, file: HostBacked) -> None:
        """A description ends here, and with it its membership, unless others have it."""
        self._settle()
        del self._members[file]
        for descriptor in (file.descriptor, *file.duplicates):
            self._there.pop(descriptor, None)

    def readiness(self) -> int | None:
        """As OpenFile: who asks may look at any time."""
        self._be_exact()
        return super().readiness()

    def share(self, offsets: "SharedOffsets") -> None:
        self._be_exact()
        super().share(offsets)

    def _be_exact(self) -> None:
        """From now on the host knows everything at once."""
        self._settle()
        self._there.clear()
        self._alone = False

    def _settle(self) -> None:
        """Tells the host what has changed."""
        there, wanted = self._there, self._wanted
        for descriptor, interest in wanted.items():
            if interest is None:
                del there[descriptor]
                host.control_epoll(self.descriptor, common.EPOLL_CTL_DEL, descriptor, 0, 0)
            elif interest != there[descriptor]:
                there[descriptor] = interest
                host.control_epoll(self.descriptor, common.EPOLL_CTL_MOD, descriptor, *interest)
        wanted.clear()

    def release(self) -> None:
        for file in self._members:
            file.watchers.discard(self)
        super().release()

    def path(self) -> bytes:
        return b"anon_inode:[eventpoll]"

    def read(self, views: list[memoryview]) -> int:
        raise Errno(EINVAL)

    def write(self, data: memoryview) -> int:
        raise Errno(EINVAL)

    def control(self, operation: int, fd: int, file: OpenFile, events: int, data: int) -> None:
        """epoll_ctl(2). Errno: EPERM (always ready), EEXIST, ENOENT, EINVAL, ELOOP, ENOSPC."""
        if not isinstance(file, HostBacked):
            raise Errno(EPERM)
        members = self._members.get(file)
        exact = events & _SPECIAL or self.waiters
        if not (members is None or exact) and self._note(operation, fd, file.descriptor, members, events, data):
            return
        if file.readiness() is None:
            raise Errno(EPERM)
        self._settle()
        if members is None:
            members = self._members[file] = {}
            file.watchers.add(self)
        known = members.get(fd)
        if operation == common.EPOLL_CTL_ADD and known is None:
            descriptor = members[fd] = self._add(file, members, events, data)
        else:
            # One that another process added after a fork is not known here, but to the host.
            descriptor = known or file.descriptor
            host_call(lambda: host.control_epoll(self.descriptor, operation, descriptor, events, data))
        if operation == common.EPOLL_CTL_DEL:
            members.pop(fd, None)
        if self._alone and fd in members and not events & _SPECIAL:
            self._there[descriptor] = events, data
        else:
            self._there.pop(descriptor, None)

    def _note(self, operation: int, fd: int, first: int, members: dict[int, int], events: int, data: int) -> bool:
        """Whether the host can be told later. `first`: the description's own host descriptor."""
        if operation == common.EPOLL_CTL_ADD:
            if members or first not in self._there:
                return False
            members[fd] = first
            self._wanted[first] = events, data
            return True
        descriptor = members.get(fd)
        if descriptor not in self._there:
            return False
        if operation == common.EPOLL_CTL_MOD:
            self._wanted[descriptor] = events, data
        elif operation == common.EPOLL_CTL_DEL:
            del members[fd]
            self._wanted[descriptor] = None
        else:
            return False
        return True

    def _add(self, file: HostBacked, members: dict[int, int], events: int, data: int) -> int:
        """The host descriptor that was added."""
        descriptor = file.descriptor
        if descriptor in members.values():
            descriptor = next((d for d in file.duplicates if d not in members.values()), -1)
            if descriptor < 0:
                descriptor = file.duplicate()
        host_call(lambda: host.control_epoll(self.descriptor, common.EPOLL_CTL_ADD, descriptor, events, data))
        return descriptor

    def take(self, count: int) -> list[tuple[int, int]]:
        """Up to count (events, data) that are ready now."""
        if self._wanted:
            self._settle()
        return host.ready_in_epoll(self.descriptor, count)


def make_epoll() -> EventPoll:
    """Errno(EMFILE)."""
    with translated():
        return EventPoll(host.epoll())
