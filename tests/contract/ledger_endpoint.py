"""A small server behind a carrier: sessions, slots and an effect that counts itself, in a SQLite file.

Real enough to show exactly once through a SIGKILL; also a program of its own:
python ledger_endpoint.py ADDR DATABASE [CRASH] serves gRPC there and prints the address.
"""

import os
import signal
import sqlite3
import sys
from collections.abc import Callable

import trio

from farcall.v1 import session_pb2
from farcall.v1.session_pb2 import HelloRequest, HelloResponse, Outcome
from ipc.endpoint import Peer
from ipc.identity import Arrival, SlotState, arrival
from ipc.limits import PROTOCOL_MAX, PROTOCOL_MIN
from ipc.message import PACKED, Call, MalformedError, Reply, decode_request
from ipc.operations import BY_NAME, OPERATIONS

READ = BY_NAME["PRead"].opcode
WRITE = BY_NAME["PWrite"].opcode
MKDIR = BY_NAME["MakeDirectory"].opcode
PATH = BY_NAME["GetPath"].opcode
RENEW = BY_NAME["Renew"].opcode
GOODBYE = BY_NAME["Goodbye"].opcode
SECRET = b"the session's secret"[:16]
REFUSALS = {
    Arrival.STALE_SESSION: session_pb2.REFUSAL_STALE_SESSION,
    Arrival.FALSE_RETRY: session_pb2.REFUSAL_FALSE_RETRY,
    Arrival.MISORDERED: session_pb2.REFUSAL_MISORDERED,
    Arrival.LATE: session_pb2.REFUSAL_LATE,
}
SCHEMA = """
create table if not exists session (number integer primary key autoincrement);
create table if not exists slot (session, slot, seq, digest, reply, primary key (session, slot));
create table if not exists effect (token);
"""


class LedgerEndpoint:
    """PWrite and MakeDirectory count themselves; PRead answers its count in bytes; GetPath the handle."""

    def __init__(self, database: str = ":memory:", crash: str = "") -> None:
        self.store = sqlite3.connect(database, isolation_level=None)
        self.store.executescript(SCHEMA)
        self.crash = crash
        self.held: list[Callable[[], None]] = []
        self.hold = False
        """Calls are executed, their replies kept back until `release`."""
        self.renewed: list[list[int]] = []
        self.ended: list[int] = []
        self.hellos: list[HelloRequest] = []
        self.peers: set[Peer] = set()
        self.arrived = 0
        self.bug = False
        self.protocol = (PROTOCOL_MIN, PROTOCOL_MAX)
        self.not_ready = 0

    def hello(self, request: HelloRequest, peer: Peer) -> HelloResponse:
        self.peers.add(peer)
        self.hellos.append(request)
        low, high = self.protocol
        if request.protocol_min > high or request.protocol_max < low:
            return HelloResponse(protocol_min=low, protocol_max=high)
        if self.not_ready:
            self.not_ready -= 1
            return _refused(session_pb2.REFUSAL_NOT_READY)
        number = request.resume_session
        if number:
            known = self.store.execute("select 1 from session where number = ?", (number,)).fetchone()
            if not known or request.resume_secret != SECRET:
                return _refused(session_pb2.REFUSAL_STALE_SESSION)
        else:
            number = self.store.execute("insert into session default values").lastrowid or 0
        return HelloResponse(
            protocol=high, protocol_min=low, protocol_max=high, session=number, secret=SECRET, lease_ms=15_000
        )

    def submit(
        self, call: Call, peer: Peer, complete: Callable[[Reply], None], into: memoryview | None = None
    ) -> None:
        if self.bug:
            raise AssertionError("a bug of the server")
        self.peers.add(peer)
        self.arrived += 1
        reply = self._recorded(call) if OPERATIONS[call.opcode].recorded else self._pure(call)
        if self.crash == "before reply":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.hold:
            self.held.append(lambda: complete(reply))
        else:
            complete(reply)

    def closed(self, session: int, peer: Peer) -> None:
        self.ended.append(session)

    def release(self) -> None:
        """Sends the replies kept back."""
        held, self.held = self.held, []
        for reply in held:
            reply()

    def end_session(self, number: int) -> None:
        self.store.execute("delete from session where number = ?", (number,))
        self.store.execute("delete from slot where session = ?", (number,))

    @property
    def effects(self) -> list[bytes]:
        """The token (first 8 bytes of data, or the name) of every effect that took place."""
        return [row[0] for row in self.store.execute("select token from effect order by rowid")]

    def _pure(self, call: Call) -> Reply:
        if call.opcode == READ:
            count = PACKED.unpack(call.body)[1]
            return Reply(result=count, data=memoryview(bytes(range(256)) * (count // 256 + 1))[:count])
        if call.opcode == RENEW:
            numbers = list(decode_request(call).sessions)  # type: ignore[attr-defined]
            self.renewed.append(numbers)
            known = {row[0] for row in self.store.execute("select number from session")}
            stale = [number for number in numbers if number not in known]
            return Reply(body=session_pb2.RenewResponse(stale=stale).SerializeToString())
        if call.opcode == GOODBYE:
            self.ended.append(call.session)
            self.end_session(call.session)
            return Reply()
        if call.opcode == PATH:
            return Reply(body=call.body)
        return Reply(refusal=session_pb2.REFUSAL_UNSUPPORTED)

    def _recorded(self, call: Call) -> Reply:
        verdict, stored = self._arrival(call)
        if verdict is Arrival.REPLAY:
            return Reply(result=stored)
        if verdict is not Arrival.EXECUTE:
            return Reply(refusal=REFUSALS[verdict])
        token = bytes(call.data[:8])
        if call.opcode == MKDIR:
            token = decode_request(call).place.path  # type: ignore[attr-defined]
        if token == b"bad":
            raise MalformedError("bad")
        self.store.execute("begin immediate")
        self.store.execute("insert into effect values (?)", (token,))
        result = self.store.execute("select count(*) from effect").fetchone()[0]
        key = (call.session, call.slot, call.seq, call.digest, result)
        self.store.execute("insert or replace into slot values (?, ?, ?, ?, ?)", key)
        self.store.execute("commit")
        return Reply(result=result)

    def _arrival(self, call: Call) -> tuple[Arrival, int]:
        if not self.store.execute("select 1 from session where number = ?", (call.session,)).fetchone():
            return Arrival.STALE_SESSION, 0
        row = self.store.execute(
            "select seq, digest, reply from slot where session = ? and slot = ?", (call.session, call.slot)
        ).fetchone()
        seq, digest, reply = row or (0, b"", 0)
        return arrival(SlotState(seq, digest), call.seq, call.digest), reply


def _refused(refusal: session_pb2.Refusal) -> HelloResponse:
    return HelloResponse(outcome=Outcome(refusal=refusal))


async def _serve(text: str, database: str, crash: str) -> None:
    from ipc.address import parse_address
    from ipc.grpc_server import serve_grpc

    endpoint = LedgerEndpoint(database, crash)
    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve_grpc, parse_address(text, listening=True), endpoint)
        print(address, flush=True)


if __name__ == "__main__":
    trio.run(_serve, sys.argv[1], sys.argv[2], "".join(sys.argv[3:]))
