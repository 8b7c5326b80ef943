"""ReadDirectory: getdents64(2) over a listing that stays as it was when the description first read it.

Cookies are positions that no change moves: the lower layer's entries by their place there, then rows by
their number. The listing is taken at cookie 0 and kept per description; one that was dropped, or is asked for
after a restart, is taken anew, and the cookies still mean the same entries.
"""

import errno
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping
from operator import attrgetter
from typing import Final

from farcall.v1.file_pb2 import DirectoryEntry, ReadDirectoryRequest, ReadDirectoryResponse
from ipc.limits import BODY_BYTES_MAX
from ipc.operations import BY_NAME
from servers.file.handles import OpenFile
from servers.file.tree import Entry, Tree
from servers.service import ErrnoError, Handler, Session

LISTINGS_KEPT_MAX: Final = 256
ENTRY_BYTES_MAX: Final = 48
"""Of an encoded DirectoryEntry beside its name."""

_cookie = attrgetter("cookie")


class Directories:
    """The handler, and the listings being read."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._listings: OrderedDict[OpenFile, list[Entry]] = OrderedDict()
        self.handlers: Mapping[int, Handler] = {BY_NAME["ReadDirectory"].opcode: self.read}

    def read(self, session: Session, request: ReadDirectoryRequest) -> ReadDirectoryResponse:
        """EBADF; ENOTDIR; ENOENT: the directory was removed."""
        file = self._tree.handles.get(session.number, request.handle)
        if file.path_only:
            raise ErrnoError(errno.EBADF)
        directory = self._tree.open_inode(file)
        if not directory.is_directory:
            raise ErrnoError(errno.ENOTDIR)
        if not directory.nlink:
            raise ErrnoError(errno.ENOENT, "removed directory")
        listing = self._listings.get(file)
        if listing is None or not request.cookie:
            listing = self._listings[file] = self._tree.entries(directory)
        self._listings.move_to_end(file)
        while len(self._listings) > LISTINGS_KEPT_MAX:
            self._listings.popitem(last=False)
        response = ReadDirectoryResponse()
        left_bytes = BODY_BYTES_MAX
        first = bisect_right(listing, request.cookie, key=_cookie)
        for entry in listing[first : first + request.entries_max]:
            left_bytes -= ENTRY_BYTES_MAX + len(entry.name)
            if left_bytes < 0:
                break
            response.entries.append(
                DirectoryEntry(name=entry.name, ino=entry.ino, type=entry.type, next=entry.cookie)
            )
        return response

    def ended(self, file: OpenFile) -> None:
        """The description is gone, and its listing with it."""
        self._listings.pop(file, None)
