"""What a client says to a server, operation by operation, so that every one of release 0.1 is said at least once.

Nothing is asked that the host decides (times, inode numbers of its files): the same is answered at any time. This
module knows release 0.1 alone, for it records from that release's sources, too.
"""

from collections.abc import Iterator
from typing import Any, Final

from farcall.v1 import file_pb2, memory_pb2
from farcall.v1.session_pb2 import AbandonRequest, GoodbyeRequest

READ, WRITE = file_pb2.OPEN_FLAG_READ, file_pb2.OPEN_FLAG_WRITE
CREATE: Final = READ | WRITE | file_pb2.OPEN_FLAG_CREATE
MADE: Final = 1 << 56
"""Number of the first inode that is made."""

Said = tuple[Any, bytes]


def place(path: bytes, directory: int = 0, follow: bool = True) -> file_pb2.Place:
    return file_pb2.Place(directory=directory, path=path, follow=follow, empty_ok=not path)


def file(heir: int, secret: bytes) -> Iterator[Said]:
    """To a file server; `heir`: another session, and its secret."""
    yield from ((request, b"") for request in _names())
    yield from _data()
    yield from ((request, b"") for request in _attributes())
    yield from ((request, b"") for request in _locks_and_mappings())
    yield file_pb2.SyncRequest(), b""
    yield file_pb2.InheritRequest(target_session=heir, target_secret=secret), b""
    yield file_pb2.CloseRequest(handle=1), b""
    yield file_pb2.CloseRequest(handle=1), b""  # EBADF
    yield GoodbyeRequest(), b""


def _names() -> Iterator[Any]:
    yield file_pb2.MakeDirectoryRequest(place=place(b"/d"), mode=0o755)
    yield file_pb2.MakeDirectoryRequest(place=place(b"/d"), mode=0o755)  # EEXIST
    yield file_pb2.OpenRequest(place=place(b"/d/file"), handle=1, flags=CREATE, mode=0o640)
    yield file_pb2.OpenRequest(place=place(b"/d"), handle=2, flags=READ | file_pb2.OPEN_FLAG_DIRECTORY)
    yield file_pb2.MakeSymlinkRequest(place=place(b"link", 2, False), target=b"/d/file")
    yield file_pb2.ReadLinkRequest(place=place(b"/d/link", follow=False))
    yield file_pb2.MakeNodeRequest(place=place(b"/d/fifo"), mode=0o10600)
    yield file_pb2.LinkRequest(source=place(b"/d/file"), target=place(b"/d/second"))
    yield file_pb2.RenameRequest(source=place(b"/d/second"), target=place(b"/d/third"))
    yield file_pb2.ReadDirectoryRequest(
        handle=2, cookie=2, entries_max=100
    )  # after "..", whose number is the host's
    yield file_pb2.RemoveRequest(place=place(b"/d/third"))
    yield file_pb2.RemoveRequest(place=place(b"/d/nothing"), directory=True)  # ENOENT
    yield file_pb2.GetAttributesRequest(place=place(b"/proc/self"))  # a crossing


def _data() -> Iterator[Said]:
    yield file_pb2.PWriteRequest(handle=1, offset=4096), b"data" * 1000
    yield file_pb2.AppendRequest(handle=1), b"the end"
    yield file_pb2.PReadRequest(handle=1, offset=4000, count=5000), b""
    yield file_pb2.PReadRequest(handle=9, offset=0, count=1), b""  # EBADF
    yield file_pb2.SeekRequest(handle=1, offset=0, hole=True), b""
    yield file_pb2.AllocateRequest(handle=1, offset=0, size_bytes=20_000), b""


def _attributes() -> Iterator[Any]:
    yield file_pb2.GetAttributesRequest(place=place(b"/d/file"))
    times: dict[str, Any] = {"atime": file_pb2.TimeChange(time_ns=-5), "mtime": file_pb2.TimeChange(now=True)}
    yield file_pb2.SetAttributesRequest(place=place(b"", 1), mode=0o600, uid=7, gid=8, size=5000, **times)
    yield file_pb2.GetAttributesRequest(place=place(b"", 1))
    yield file_pb2.CheckAccessRequest(place=place(b"/d/file"), mode=4)
    yield file_pb2.GetPathRequest(handle=1)
    yield file_pb2.SetXattrRequest(place=place(b"/d/file"), name=b"user.name", value=b"value")
    yield file_pb2.GetXattrRequest(place=place(b"/d/file"), name=b"user.name")
    yield file_pb2.ListXattrRequest(place=place(b"/d/file"))
    yield file_pb2.RemoveXattrRequest(place=place(b"/d/file"), name=b"user.name")
    yield file_pb2.StatFileSystemRequest(place=place(b"/d/nothing"))  # ENOENT: the rest is the host's


def _locks_and_mappings() -> Iterator[Any]:
    posix: dict[str, Any] = {
        "handle": 1,
        "kind": file_pb2.LOCK_KIND_POSIX,
        "type": file_pb2.LOCK_TYPE_WRITE,
        "start": 10,
        "pid": 3,
    }
    yield file_pb2.LockRequest(length=20, **posix)
    yield file_pb2.TestLockRequest(length=20, **posix)
    yield file_pb2.AwaitLockRequest(length=20, **posix)
    yield AbandonRequest(slot=5)
    yield file_pb2.DonateRequest(handle=1)
    yield file_pb2.MapSharedRequest(handle=1, writable=True)
    yield file_pb2.FetchMappingRequest(ino=MADE + 1)
    yield file_pb2.SyncMappingRequest(ino=MADE + 1, offset=0, length=4096)
    yield file_pb2.UnmapRequest(ino=MADE + 1)


def memory(heir: int, secret: bytes) -> Iterator[Said]:
    """To a memory server."""
    for request in (
        memory_pb2.GrantRequest(size_bytes=4 << 20),
        memory_pb2.GrantRequest(size_bytes=1 << 60),  # ENOMEM
        memory_pb2.ReleaseRequest(size_bytes=1 << 20),
        memory_pb2.CreateSegmentRequest(size_bytes=8192),
        memory_pb2.FetchSegmentRequest(segment=1),
        memory_pb2.AdoptSegmentRequest(segment=77, size_bytes=4096),
        memory_pb2.UsageRequest(),
        memory_pb2.InheritMemoryRequest(target_session=heir, target_secret=secret, size_bytes=3 << 20),
        memory_pb2.DropSegmentRequest(segment=1),
        GoodbyeRequest(),
    ):
        yield request, b""


SCENARIOS: Final = {"file": file, "memory": memory}
