"""The processes and the directory of a run: made before trio and protobuf are imported, ended after them.

The worker is forked first, from a process with one thread and few modules, so that its own imports run beside
ours; what is needed later only is imported by the function that needs it. Servers are what `python -m servers`
is, but forked once trio and protobuf are imported, which takes most of a server's start; each is in a session of
its own (setsid(2)): the terminal's signals reach the kernel process alone.
"""

import fcntl
import os
import runpy
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn

from client_vm import host
from client_vm.errors import EXIT_FAILURE, StartError
from client_vm.shared_offsets import MEMORY_BYTES, EventCounts
from ipc.limits import SOCKET_PATH_BYTES_MAX
from ipc.seams import Random

if TYPE_CHECKING:
    from client_vm.options import RunOptions

SIGNALS: Final = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGTSTP,
    signal.SIGWINCH,
)
"""What reaches a guest, or ends or stops the run, from outside."""
PYTHON_IGNORES: Final = (signal.SIGPIPE, signal.SIGXFSZ)
"""Of these nobody can tell any more whether our caller does."""
SERVER_STOP_S: Final = 5.0
"""How long a server may take to close its state before it is killed."""
DIRECTORY_PREFIX: Final = "farcall-"
"""A server removes no directory of another name."""
_READY_DESCRIPTOR: Final = 3


def _mask(numbers: Iterable[int]) -> int:
    return sum(1 << (number - 1) for number in numbers)


class HeldSignals:
    """SIGNALS that arrive while nobody can act on them: noted, never Python's KeyboardInterrupt.

    Trio's receiver takes them over in the middle of a run, and what it restores at its end is this again.
    """

    def __init__(self) -> None:
        """Takes over every signal of SIGNALS that farcall's caller does not ignore, as nohup(1) would."""
        self.ignored = _mask(
            number
            for number in signal.valid_signals()
            if signal.getsignal(number) == signal.SIG_IGN and number not in PYTHON_IGNORES
        )
        """Bit n - 1: signal n, which farcall's caller ignores."""
        self.blocked = _mask(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        """Likewise."""
        self.wanted = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        self.arrived: list[int] = []
        for number in self.wanted:
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: object) -> None:
        self.arrived.append(number)


def open_standard_descriptors() -> None:
    """Puts /dev/null where the caller left 0, 1 or 2 closed: no socket of ours may become a guest's stdin."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number: this one
            os.set_inheritable(descriptor, True)


class Child:
    """A child process. Its pidfd becomes readable when it ends."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self._status: int | None = None
        self.utime_us = self.stime_us = 0
        """CPU time it has used, once it is reaped."""

    def poll(self) -> int | None:
        """Its exit status, or -N after death by signal N; None while it lives."""
        if self._status is None:
            self._wait(os.WNOHANG)
        return self._status

    def reap(self) -> int:
        """As `poll`, of a child whose pidfd is readable. It waits: a tracer, such as strace, is told first."""
        if self._status is None:
            self._wait(0)
        assert self._status is not None
        return self._status

    def _wait(self, options: int) -> None:
        pid, status, usage = os.wait4(self.pid, options)
        if pid:
            self._status = os.waitstatus_to_exitcode(status)
            self.utime_us, self.stime_us = round(usage.ru_utime * 1e6), round(usage.ru_stime * 1e6)

    def send(self, number: int) -> None:
        """Sends it a signal, unless it is reaped."""
        if self._status is None:
            signal.pidfd_send_signal(self.pidfd, number)

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Waits for its end: as `poll`; None only after `timeout_s` seconds."""
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        ended = self._status is not None or poller.poll(None if timeout_s is None else timeout_s * 1000)
        return self.reap() if ended else None

    def kill(self) -> None:
        """Ends it now and reaps it."""
        self.send(signal.SIGKILL)
        if self._status is None:
            self.wait()
        self.close()

    def close(self) -> None:
        """Closes its pidfd."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


@dataclass(slots=True)
class Worker:
    """The first guest worker and the kernel process's ends of its sockets."""

    process: Child
    control: socket.socket
    doorbell: socket.socket
    """The end that rings: servers get copies. Kept open, or the worker takes its servers for dead."""
    counts: EventCounts

    def end(self) -> None:
        """Kills and reaps it."""
        self.process.kill()
        self.control.close()
        self.doorbell.close()


def make_offsets() -> int:
    """The memory of client_vm.shared_offsets: nobody can resize it, every worker inherits it. OSError."""
    memfd = os.memfd_create("farcall-offsets", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(memfd, MEMORY_BYTES)
    fcntl.fcntl(memfd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return memfd


def fork_worker(signals: HeldSignals) -> Worker:
    """Forks the first worker. OSError."""
    parent = os.getpid()
    offsets = make_offsets()
    control, worker_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    doorbell, worker_doorbell = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    pid = os.fork()
    if not pid:
        control.close()
        doorbell.close()
        _become_worker(worker_control, worker_doorbell, parent, signals, offsets)
    counts = EventCounts(offsets)
    os.close(offsets)
    worker_control.close()
    worker_doorbell.close()
    control.setblocking(False)
    return Worker(Child(pid), control, doorbell, counts)


def _become_worker(
    control: socket.socket, doorbell: socket.socket, parent: int, signals: HeldSignals, offsets: int
) -> NoReturn:
    try:
        for number in signals.wanted:
            # A terminal sends them to its whole foreground group; the kernel process alone passes them on.
            signal.signal(number, signal.SIG_IGN)
        from client_vm import worker

        worker.main(control, doorbell, parent, offsets=offsets)
    except BaseException:
        # A bug: nobody above may handle it, this process is a copy of its parent.
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(EXIT_FAILURE)


@dataclass(slots=True)
class Server:
    """A server of the run's own, as a process."""

    kind: str
    process: Child
    path: str
    """It listens at unix:PATH, and for rings at PATH.ring."""
    ready: int
    """Gets "ready ADDR\\n" once it serves, and end of file if it ends before."""
    keeps: bool
    """Whether its state outlives the run."""

    def end(self) -> None:
        """Lets it close a state that is kept; kills it otherwise, or if that takes too long."""
        os.close(self.ready)
        if self.keeps:
            self.process.send(signal.SIGTERM)
            self.process.send(signal.SIGCONT)
            self.process.wait(SERVER_STOP_S)
        self.process.kill()


Begin = Callable[[list[str], int], int]
"""Begins `python -m servers ARGUMENTS`, which says on that descriptor that it serves; its pid. OSError."""


def start_server(
    kind: str, directory: str, *, transport: str, options: "RunOptions", begin: Begin | None = None
) -> Server:
    """Starts a server that ends with this process; its state is in the run's directory, or where the options say.

    `begin`: fork_server, unless told otherwise. StartError if the directory's path is too long for sockets;
    OSError.
    """
    path = f"{directory}/{kind}.socket"
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise StartError(f"{directory}: too long a path for sockets; set TMPDIR", EXIT_FAILURE)
    arguments = [kind, "--listen", f"unix:{path}", "--private", directory, "--parent", str(os.getpid())]
    arguments += ["--ring-only"] if transport == "ring" else []
    arguments += _service_options(kind, options)
    ready, announce = os.pipe()
    try:
        pid = (begin or fork_server)(arguments, announce)
    except OSError:
        os.close(ready)
        raise
    finally:
        os.close(announce)
    os.set_blocking(ready, False)
    return Server(kind, Child(pid), path, ready, keeps="--state" in arguments)


def _service_options(kind: str, options: "RunOptions") -> list[str]:
    """What concerns the one service."""
    if kind == "file":
        places = (("--root", options.root), ("--state", options.state))
        return [word for name, place in places if place is not None for word in (name, place)]
    if kind == "network":
        allowed = [word for rule in options.egress for word in ("--egress", rule)]
        return [*allowed, "--publish"] if options.publish else allowed
    return []


def fork_server(arguments: list[str], announce: int) -> int:
    """As Begin: shares what this process has imported."""
    pid = os.fork()
    if not pid:
        _become_server(arguments, announce)
    return pid


def spawn_server(arguments: list[str], announce: int) -> int:
    """As Begin, by executing Python anew: gRPC's threads may be there, and a fork's child could not go on."""
    import subprocess

    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "servers", *arguments, "--ready-fd", str(announce)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=(announce,),
        start_new_session=True,
    )
    process.returncode = 0  # it is reaped by its pid, and nowhere else
    return process.pid


def _become_server(arguments: list[str], announce: int) -> NoReturn:
    """`python -m servers ARGUMENTS`, with the descriptors and signals of a program that has just been started."""
    status = EXIT_FAILURE
    try:
        os.setsid()
        host.name_process(f"farcall-{arguments[0]}".encode())
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.dup2(announce, _READY_DESCRIPTOR)
        # The kernel process's own: sockets of the worker's must end with those two.
        os.closerange(_READY_DESCRIPTOR + 1, os.sysconf("SC_OPEN_MAX"))
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        sys.argv = ["servers", *arguments, "--ready-fd", str(_READY_DESCRIPTOR)]
        runpy.run_module("servers", run_name="__main__")
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else EXIT_FAILURE
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def choose_directory(random: Random) -> str:
    """The name of a directory of the run's own, where temporary files belong. StartError.

    As tempfile.gettempdir(), whose import would delay the servers.
    """
    name = DIRECTORY_PREFIX + random.bytes(8).hex()
    places = [os.environ.get(variable) for variable in ("TMPDIR", "TEMP", "TMP")]
    for place in [*places, "/tmp", "/var/tmp", "/usr/tmp"]:
        if place and os.path.isdir(place) and os.access(place, os.W_OK | os.X_OK, effective_ids=True):
            return os.path.join(os.path.abspath(place), name)
    raise StartError("no temporary directory can be written to; set TMPDIR", EXIT_FAILURE)


def make_fifo() -> int:
    """A FIFO of the host's that has no name any more, as a path (O_PATH). OSError."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="farcall-fifo-") as directory:
        path = os.path.join(directory, "fifo")
        os.mkfifo(path, 0o600)
        return os.open(path, os.O_PATH | os.O_CLOEXEC)


class Janitor:
    """Makes the run's directory, mode 0700, and a process that removes it however this one ends."""

    def __init__(self, directory: str) -> None:
        """StartError if it cannot be made; OSError."""
        import shutil

        self._remove = partial(shutil.rmtree, directory, ignore_errors=True)
        """As far as that is possible: a server that ends may be doing so as well."""
        reader, self._writer = os.pipe()
        pid = os.fork()
        if not pid:
            _become_janitor(reader, self._remove)
        os.close(reader)
        self._process = Child(pid)
        try:
            # Only now: whoever removes it is there before it is.
            os.mkdir(directory, 0o700)
            os.chmod(directory, 0o700)  # whatever the umask is
        except OSError as error:
            self.end()
            raise StartError(f"{directory}: {error.strerror}; set TMPDIR", EXIT_FAILURE) from None

    def end(self) -> None:
        """Has it remove the directory, and waits until it has."""
        os.close(self._writer)
        self._process.wait(SERVER_STOP_S)
        self._process.kill()
        self._remove()  # in case it was killed


def _become_janitor(reader: int, remove: Callable[[], None]) -> NoReturn:
    try:
        with suppress(PermissionError):
            os.setsid()
        # It holds none of the caller's descriptors: whoever reads the guest's output waits for its end.
        os.closerange(0, reader)
        os.closerange(reader + 1, os.sysconf("SC_OPEN_MAX"))
        os.read(reader, 1)
        remove()
    finally:
        os._exit(0)
