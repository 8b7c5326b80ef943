"""What workers ask about unix sockets (farcall/v1/kernel.proto): the broker's operations, by request."""

from collections.abc import Callable
from itertools import islice
from typing import Any, Final

from google.protobuf.message import Message

from client_vm.process_table import ProcessTable
from client_vm.unix_broker import Name, UnixBroker
from client_vm.unix_records import Peer
from farcall.v1 import kernel_pb2 as pb

LISTED_MAX: Final = 256
"""Sockets in one answer."""


class UnixService:
    """Handlers get the caller's guest pid and its request. Errno."""

    def __init__(self, table: ProcessTable, broker: UnixBroker, sender: Callable[[int], int], gid: int) -> None:
        """`sender`: which guest process a host process runs, or has run not long ago. Errno(ESRCH). `gid`:
        everybody's."""
        self._table = table
        self._broker = broker
        self._sender = sender
        self._gid = gid
        self.handlers: Final[dict[type[Message], Callable[[int, Any], Message]]] = {
            pb.BindSocketRequest: self._bind,
            pb.ListenSocketRequest: self._listen,
            pb.ConnectSocketRequest: self._connect,
            pb.GetSocketRequest: self._get,
            pb.ListSocketsRequest: self._list,
            pb.GetSenderRequest: self._get_sender,
        }
        self.fetchers: Final[dict[type[Message], Callable[[int, Any], tuple[int, Message]]]] = {
            pb.MakeSocketRequest: self._make,
            pb.ReachSocketRequest: self._reach,
        }
        """These answer with a descriptor, too, which goes to the caller."""

    def _caller(self, pid: int) -> Peer:
        """As others are told of it: what it says itself counts for nothing."""
        return Peer(pid, self._table.get(pid).uids.effective, self._gid)

    def _make(self, pid: int, request: pb.MakeSocketRequest) -> tuple[int, Message]:
        token, near = self._broker.make(pid, request.kind)
        return near, pb.MakeSocketResponse(token=token)

    def _bind(self, pid: int, request: pb.BindSocketRequest) -> Message:
        del pid
        return pb.BindSocketResponse(address=self._broker.bind(request.token, _name(request.name)))

    def _listen(self, pid: int, request: pb.ListenSocketRequest) -> Message:
        self._broker.listen(request.token, request.backlog, self._caller(pid))
        return pb.ListenSocketResponse()

    def _connect(self, pid: int, request: pb.ConnectSocketRequest) -> Message:
        to = _name(request.to) if request.HasField("to") else None
        address, peer = self._broker.connect(request.token, to, self._caller(pid), request.waits)
        return pb.ConnectSocketResponse(address=address, pid=peer.pid, uid=peer.uid, gid=peer.gid)

    def _reach(self, pid: int, request: pb.ReachSocketRequest) -> tuple[int, Message]:
        del pid
        to = _name(request.to) if request.HasField("to") else None
        return self._broker.reach(request.token, to), pb.ReachSocketResponse()

    def _get(self, pid: int, request: pb.GetSocketRequest) -> Message:
        del pid
        address, peer_address = self._broker.describe(request.token)
        return pb.GetSocketResponse(address=address, peer_address=peer_address)

    def _list(self, pid: int, request: pb.ListSocketsRequest) -> Message:
        del pid
        return pb.ListSocketsResponse(
            entries=[
                pb.SocketEntry(
                    number=each.number,
                    kind=each.kind,
                    listens=each.listens,
                    inode=each.inode,
                    address=each.address,
                )
                for each in islice(self._broker.entries(request.after), LISTED_MAX)
            ]
        )

    def _get_sender(self, pid: int, request: pb.GetSenderRequest) -> Message:
        del pid
        return pb.GetSenderResponse(pid=self._sender(request.host_pid))


def _name(name: pb.SocketName) -> Name:
    return Name(name.address, name.device, name.inode)
