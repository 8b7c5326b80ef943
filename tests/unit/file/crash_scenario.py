"""A session's few calls, the last of which a test may kill the server in; also the program that is killed.

python crash_scenario.py STATE ROOT CASE prints "session secret" and makes the calls. FARCALL_CRASH_AT names
the step at which it dies (servers.steps).
"""

import sys
from collections.abc import Callable
from pathlib import Path

from farcall.v1 import file_pb2
from farcall.v1.session_pb2 import Credentials
from ipc.message import Call, Reply, encode_request, pack_call
from ipc.operations import BY_NAME
from servers.dispatch import Dispatcher
from servers.file.service import FileService, open_file_service
from tests.unit.file.client import CREATE, EXCLUSIVE, WRITE, at
from tests.unit.serving import Caller, CountingRandom, ManualClock, hello

HANDLE = 7
HEIR, HEIR_SECRET = 2, (3).to_bytes(16, "little")
"""The second session that a fresh state opens, as CountingRandom has it."""
ROOT = Credentials(uid=0, gid=0)


def packed(name: str, first: int, second: int = 0, data: bytes = b"") -> Call:
    return pack_call(BY_NAME[name], first, second, data=data)


def opening(path: str, handle: int, flags: int) -> Call:
    return encode_request(file_pb2.OpenRequest(place=at(path), handle=handle, flags=flags, mode=0o644))


CASES: dict[str, tuple[str, Callable[[], Call]]] = {
    "append": ("Append", lambda: packed("Append", HANDLE, data=b"once ")),
    "large append": ("Append", lambda: packed("Append", HANDLE, data=b"LARGE" * 20_000)),
    "pwrite": ("PWrite", lambda: packed("PWrite", HANDLE, 3, data=b"over")),
    "mkdir": (
        "MakeDirectory",
        lambda: encode_request(file_pb2.MakeDirectoryRequest(place=at("/made"), mode=0o755)),
    ),
    "rename": (
        "Rename",
        lambda: encode_request(file_pb2.RenameRequest(source=at("/a/f"), target=at("/big"))),
    ),
    "exchange": (
        "Rename",
        lambda: encode_request(
            file_pb2.RenameRequest(source=at("/a"), target=at("/h"), flags=file_pb2.RENAME_FLAG_EXCHANGE)
        ),
    ),
    "unlink": ("Remove", lambda: encode_request(file_pb2.RemoveRequest(place=at("/h")))),
    "link": ("Link", lambda: encode_request(file_pb2.LinkRequest(source=at("/h"), target=at("/n")))),
    "exclusive create": ("Open", lambda: opening("/created", 8, WRITE | CREATE | EXCLUSIVE)),
    "close of an orphan": ("Close", lambda: packed("Close", 9)),
    "lock": (
        "Lock",
        lambda: encode_request(
            file_pb2.LockRequest(
                handle=HANDLE, kind=file_pb2.LOCK_KIND_POSIX, type=file_pb2.LOCK_TYPE_WRITE, start=3, length=4
            )
        ),
    ),
    "inherit": (
        "Inherit",
        lambda: encode_request(file_pb2.InheritRequest(target_session=HEIR, target_secret=HEIR_SECRET)),
    ),
    "failure": ("MakeDirectory", lambda: encode_request(file_pb2.MakeDirectoryRequest(place=at("/a")))),
}
"""Name -> (operation, the call that counts)."""


def start(state: Path, root: Path) -> tuple[FileService, Dispatcher]:
    clock, random = ManualClock(), CountingRandom()
    service = open_file_service(state, root, clock, random)
    return service, Dispatcher(service, clock, random)


def run(caller: Caller, case: str) -> tuple[Call, Reply]:
    """What comes before, in slot 1; then the call that counts, in slot 0."""
    heir = hello(caller.endpoint, credentials=ROOT)
    assert (heir.session, heir.secret) == (HEIR, HEIR_SECRET)
    for before in (
        opening("/file", HANDLE, WRITE | CREATE),
        packed("Append", HANDLE, data=b"before "),
        opening("/orphan", 9, WRITE | CREATE),
        packed("Append", 9, data=b"o" * 100_000),
        encode_request(file_pb2.RemoveRequest(place=at("/orphan"))),
    ):
        assert caller.send(caller.new(before, slot=1)).errno == 0
    sys.stdout.write("prepared\n")
    sys.stdout.flush()
    call = caller.new(CASES[case][1]())
    return call, caller.send(call)


def main() -> None:
    state, root, case = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    _, dispatcher = start(state, root)
    answer = hello(dispatcher, credentials=ROOT)
    sys.stdout.write(f"{answer.session} {answer.secret.hex()}\n")
    run(Caller(dispatcher, answer.session), case)


if __name__ == "__main__":
    main()
