"""Messages with descriptors between kernel process and worker."""

import os
import socket
from collections.abc import Iterator

import pytest

from client_vm.control import INLINE_BYTES_MAX, SPARE_DESCRIPTORS_MAX, ControlSocket
from client_vm.rings import Rings
from farcall.v1.kernel_pb2 import KernelMessage, RingGrant, StartGuest, WorkerMessage
from farcall.v1.session_pb2 import SERVER_KIND_FILE
from ipc.message import MalformedError
from ipc.passing import close_all
from ipc.seams import HostClock

Ends = tuple[ControlSocket, ControlSocket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """The kernel process's end, the worker's, and the worker's bare socket."""
    ours, workers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, workers:
        yield ControlSocket(ours), ControlSocket(workers, descriptors_max=2), workers


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("size_bytes", [0, 1, INLINE_BYTES_MAX - 100, INLINE_BYTES_MAX + 1, 3 << 20])
def test_a_message_of_any_length(ends: Ends, size_bytes: int) -> None:
    kernel, worker, _ = ends
    before = open_descriptors()
    message = KernelMessage(start=StartGuest(arguments=[b"x" * size_bytes]))
    kernel.send(message)
    assert worker.receive(KernelMessage) == (message, [])
    assert open_descriptors() == before


@pytest.mark.parametrize("size_bytes", [1, 1 << 20])
def test_descriptors_arrive_in_order(ends: Ends, size_bytes: int) -> None:
    kernel, worker, _ = ends
    reader, writer = os.pipe()
    message = KernelMessage(ring=RingGrant(error="x" * size_bytes))
    kernel.send(message, [reader, writer])
    received, (reader_copy, writer_copy) = worker.receive(KernelMessage)
    assert received == message
    os.write(writer_copy, b"here")
    assert os.read(reader_copy, 10) == b"here"
    assert not os.get_inheritable(reader_copy)
    for descriptor in (reader, writer, reader_copy, writer_copy):
        os.close(descriptor)


def test_answers(ends: Ends) -> None:
    kernel, worker, _ = ends
    worker.send(WorkerMessage(ring_wanted=SERVER_KIND_FILE))
    message, descriptors = kernel.receive(WorkerMessage)
    assert (message.ring_wanted, descriptors) == (SERVER_KIND_FILE, [])


def test_the_other_end_is_gone(ends: Ends) -> None:
    kernel, worker, _ = ends
    worker.send(WorkerMessage(ring_wanted=SERVER_KIND_FILE))
    worker.close()
    assert kernel.receive(WorkerMessage)[0].ring_wanted == SERVER_KIND_FILE
    with pytest.raises(EOFError):
        kernel.receive(WorkerMessage)
    with pytest.raises(BrokenPipeError):
        kernel.send(KernelMessage())


def test_nothing_to_receive_from_a_socket_that_does_not_wait() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            ControlSocket(ours).receive(WorkerMessage)


@pytest.mark.parametrize(
    "datagram", [b"\0\xff\xff", b"\1", b"\1more", b"\2", b"\0" + b"x" * (INLINE_BYTES_MAX + 1)]
)
def test_malformed(ends: Ends, datagram: bytes) -> None:
    kernel, _, bare = ends
    bare.send(datagram)
    with pytest.raises(MalformedError):
        kernel.receive(WorkerMessage)


def test_the_kernel_process_takes_no_descriptors(ends: Ends) -> None:
    kernel, worker, _ = ends
    before = open_descriptors()
    worker.send(WorkerMessage(ring_wanted=SERVER_KIND_FILE), [0])
    with pytest.raises(MalformedError):
        kernel.receive(WorkerMessage)
    assert open_descriptors() == before


def test_a_memfd_that_could_still_change() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    memfd = os.memfd_create("unsealed")
    with ours, theirs:
        before = open_descriptors()
        socket.send_fds(ours, [b"\1"], [memfd])
        with pytest.raises(MalformedError, match="sealed"):
            ControlSocket(theirs, descriptors_max=2).receive(KernelMessage)
        assert open_descriptors() == before
    os.close(memfd)


def test_a_worker_without_a_kernel_process_knows() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    bell, bells_end = socket.socketpair()
    with bell, bells_end, ours:
        rings = Rings(ControlSocket(ours), bell, HostClock(), lambda seconds: None)
        theirs.close()
        with pytest.raises(EOFError):
            rings.take_spare()


def test_rings_that_were_granted_unasked() -> None:
    """The server died twice while the worker computed: the last ring counts, and nobody is asked for one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    bell, bells_end = socket.socketpair()
    with bell, bells_end, ours, theirs:
        control = ControlSocket(ours, descriptors_max=SPARE_DESCRIPTORS_MAX)
        rings = Rings(control, bell, HostClock(), lambda seconds: None)
        before = open_descriptors()
        for epoch in (2, 3):
            pair = os.pipe()
            grant = RingGrant(kind=SERVER_KIND_FILE, session=5, boot_epoch=epoch)
            ControlSocket(theirs).send(KernelMessage(ring=grant), pair)
            close_all(pair)
        assert rings._ask(SERVER_KIND_FILE).boot_epoch == 3
        assert open_descriptors() == before + 2
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)
        close_all(rings._grants[SERVER_KIND_FILE][1])
