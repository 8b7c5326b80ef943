"""The kernel process's part of unix sockets: names, who listens, who is gone, and what false claims come to."""

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from client_vm import unix_broker
from client_vm.abi import common
from client_vm.errors import Errno
from client_vm.unix_broker import Name, UnixBroker
from client_vm.unix_records import NO_NAME, NOBODY, Peer, decode_record, decode_sender, encode_sender
from ipc.passing import receive_descriptors
from ipc.records import RECORD_BYTES
from ipc.rendezvous import FarEnds
from tests.unit.serving import CountingRandom

ME, YOU = Peer(2, 1000, 7), Peer(3, 1000, 7)
STREAM, PACKETS, LETTERS = common.SOCK_STREAM, common.SOCK_SEQPACKET, common.SOCK_DGRAM


class World:
    """A broker, and the near ends that workers have."""

    def __init__(self) -> None:
        self.ends = FarEnds()
        self.told: list[int] = []
        self.broker = UnixBroker(self.ends, CountingRandom(), self.told.append)
        self.near: list[socket.socket] = []

    def make(self, kind: int = STREAM, pid: int = 2) -> tuple[bytes, socket.socket]:
        token, number = self.broker.make(pid, kind)
        near = socket.socket(fileno=number)
        self.near.append(near)
        return token, near

    def bound(self, name: Name, kind: int = STREAM) -> tuple[bytes, socket.socket]:
        token, near = self.make(kind)
        assert self.broker.bind(token, name) == name.address
        return token, near

    def listening(self, name: Name, backlog: int = 5) -> tuple[bytes, socket.socket]:
        token, near = self.bound(name)
        self.broker.listen(token, backlog, YOU)
        return token, near

    def close(self) -> None:
        for near in self.near:
            near.close()
        self.broker.close()
        self.ends.close()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def abstract(text: str) -> Name:
    return Name(NO_NAME + b"\0" + text.encode(), 0, 0)


def fails(number: int) -> "pytest.RaisesExc[Errno]":
    return pytest.raises(Errno, check=lambda error: error.errno == number)


def accept(near: socket.socket) -> tuple[Peer, bytes, socket.socket]:
    record, descriptors, _ = receive_descriptors(near, RECORD_BYTES, 1)
    peer, address = decode_record(record)
    return peer, address, socket.socket(fileno=descriptors[0])


def test_a_connection(world: World) -> None:
    _, listener = world.listening(abstract("a"))
    token, near = world.bound(abstract("own"))
    address, peer = world.broker.connect(token, abstract("a"), ME, waits=False)
    assert (address, peer) == (abstract("a").address, YOU)
    near.send(b"hello")
    who, name, taken = accept(listener)
    assert (who, name) == (ME, abstract("own").address)
    assert taken.recv(9) == b"hello"
    with fails(errno.EISCONN):
        world.broker.connect(token, abstract("a"), ME, waits=False)
    taken.close()
    assert near.recv(1) == b""


def test_a_closed_socket_has_no_name(world: World) -> None:
    _, near = world.listening(abstract("a"))
    near.close()
    world.listening(abstract("a"))


def test_whose_name_is_it(world: World) -> None:
    file = Name(NO_NAME + b"/f\0", 1, 77)
    token, _ = world.bound(file)
    other, _ = world.make()
    with fails(errno.EADDRINUSE):
        world.broker.bind(other, Name(NO_NAME + b"/g\0", 1, 77))
    with fails(errno.EINVAL):
        world.broker.bind(token, abstract("second"))
    with fails(errno.ECONNREFUSED):
        world.broker.connect(other, file, ME, waits=False)
    packets, _ = world.make(PACKETS)
    with fails(errno.EPROTOTYPE):
        world.broker.connect(packets, file, ME, waits=False)
    first = world.broker.bind(other, Name(NO_NAME, 0, 0))
    assert first == world.broker.bind(other, Name(NO_NAME, 0, 0))
    assert len(first) == 8


def test_who_waits_for_room_is_told(world: World) -> None:
    _, listener = world.listening(abstract("a"), backlog=0)
    first, _ = world.make()
    world.broker.connect(first, abstract("a"), ME, waits=False)
    second, _ = world.make()
    with fails(errno.EAGAIN):
        world.broker.connect(second, abstract("a"), ME, waits=True)
    world.ends.look()
    assert world.told == []
    accept(listener)[2].close()
    world.ends.look()
    assert world.told == [ME.pid]
    world.broker.connect(second, abstract("a"), ME, waits=True)
    third, _ = world.make()
    with fails(errno.EAGAIN):
        world.broker.connect(third, abstract("a"), ME, waits=True)
    listener.close()
    world.ends.look()
    assert world.told == [ME.pid, ME.pid]
    with fails(errno.ECONNREFUSED):
        world.broker.connect(third, abstract("a"), ME, waits=True)


def test_nothing_is_held_here_whatever_backlog_is_asked_for(world: World) -> None:
    _, listener = world.listening(abstract("a"), backlog=(1 << 32) - 1)
    before = len(os.listdir("/proc/self/fd"))
    connected = 0
    with fails(errno.EAGAIN):
        while True:
            own, near = world.make()
            world.near.remove(near)
            world.broker.connect(own, abstract("a"), ME, waits=False)
            near.close()
            connected += 1
    assert connected == unix_broker.BACKLOG_MAX
    near.close()
    world.ends.look()
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    for _ in range(connected):
        accept(listener)[2].close()
    with pytest.raises(BlockingIOError):
        accept(listener)


def test_datagrams_go_from_sender_to_receiver(world: World) -> None:
    _, near = world.bound(abstract("r"), LETTERS)
    sender, _ = world.bound(abstract("s"), LETTERS)
    with fails(errno.ENOTCONN):
        world.broker.reach(sender, None)
    assert world.broker.connect(sender, abstract("r"), ME, waits=False)[0] == abstract("r").address
    end = socket.socket(fileno=world.broker.reach(sender, None))
    end.send(encode_sender(abstract("s").address) + b"letter")
    assert near.recv(200)[112:] == b"letter"
    assert world.broker.describe(sender) == (abstract("s").address, abstract("r").address)
    stranger, _ = world.make(LETTERS)
    with fails(errno.EPERM):
        world.broker.reach(stranger, abstract("s"))
    os.close(world.broker.reach(b"", abstract("r")))
    near.close()
    with pytest.raises(BrokenPipeError):
        end.send(b"x")
    with fails(errno.ECONNREFUSED):
        world.broker.reach(sender, None)
    world.broker.connect(sender, None, ME, waits=False)
    with fails(errno.ENOTCONN):
        world.broker.reach(sender, None)
    end.close()


def test_false_claims(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = world.broker
    for act in (
        lambda: broker.bind(b"guessed", abstract("a")),
        lambda: broker.listen(b"", 1, ME),
        lambda: broker.describe(b"\0" * 99),
        lambda: broker.make(2, 77),
        lambda: broker.bind(world.make()[0], Name(b"x" * 111, 0, 0)),
        lambda: broker.bind(world.make()[0], Name(b"", 0, 0)),
        lambda: broker.connect(world.make()[0], None, ME, waits=False),
        lambda: broker.listen(world.make()[0], 1, ME),
    ):
        with fails(errno.EINVAL):
            act()
    with fails(errno.EOPNOTSUPP):
        broker.listen(world.bound(abstract("d"), LETTERS)[0], 1, ME)
    monkeypatch.setattr(unix_broker, "SOCKETS_MAX", 10)
    for _ in range(10):
        world.make(pid=9)
    with fails(errno.EMFILE):
        broker.make(9, STREAM)
    world.near.pop().close()
    world.make(pid=9)
    world.make(pid=8)
    monkeypatch.setattr(unix_broker, "ALL_MAX", 3)
    with fails(errno.ENFILE):
        broker.make(4, STREAM)


def test_what_is_listed(world: World) -> None:
    world.listening(abstract("a"))
    token, near = world.make(LETTERS)
    first, second = world.broker.entries(0)
    assert (first.listens, first.address, first.kind) == (True, abstract("a").address, STREAM)
    assert (second.listens, second.address, second.inode) == (False, NO_NAME, os.fstat(near.fileno()).st_ino)
    assert [each.number for each in world.broker.entries(first.number)] == [second.number]
    assert NOBODY.pid == 0 and len(token) == unix_broker.TOKEN_BYTES


@pytest.mark.parametrize("raw", [b"\xff\xff" + bytes(110), (111).to_bytes(2, "little") + bytes(110)])
def test_a_sender_that_is_none(raw: bytes) -> None:
    assert decode_sender(raw) is None
    assert decode_sender((3).to_bytes(2, "little") + b"\2\0x" + bytes(107)) is None
    assert decode_sender(encode_sender(b"")) == b""
    assert decode_sender(encode_sender(abstract("a").address)) == abstract("a").address
