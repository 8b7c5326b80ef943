"""A server as a process: listen, say so, serve until told to stop, leave nothing behind.

A server that belongs to a `farcall run` (`--private DIR`) ends with the process that started it, however
that dies, and takes DIR with it. It watches that process by pidfd_open(2), not PR_SET_PDEATHSIG: that
signal comes at the end of the parent's *thread* that forked, and trio starts processes in worker threads,
which end when idle (prctl(2)).
"""

import gc
import os
import resource
import shutil
import signal
import stat
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from ipc.address import Address
from ipc.endpoint import Endpoint
from ipc.ring_server import serve_rings
from ipc.seams import HostClock
from ipc.tls_files import TlsFiles
from servers.dispatch import Dispatcher
from servers.entry import Options, StartError, make_endpoint

if TYPE_CHECKING:
    from ipc.credentials import Credentials

PRIVATE_PREFIX: Final = "farcall-"
"""Of a private directory's name, lest a slip of the pen has another removed."""
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Process:
    """What `python -m servers` was asked for."""

    kind: str
    address: Address
    options: Options
    parent: int
    """The process whose end is that of a private server."""
    ring_only: bool = False
    private: Path | None = None
    ready_fd: int = 1
    tls: TlsFiles | None = None
    """At HOST:PORT."""


def run(process: Process) -> None:
    """Serves until told to stop. StartError if it cannot start."""
    credentials = _credentials(process)
    with ExitStack() as ended:
        if process.private is not None:
            private = process.private.absolute()
            process = _join_run(process, private)
            ended.callback(_remove_private, process, private)
        elif process.kind == "file" and process.options.state is None:
            state = Path(tempfile.mkdtemp(prefix="farcall-state-"))
            ended.callback(shutil.rmtree, state, ignore_errors=True)
            process = replace(process, options=replace(process.options, state=state))
        _check_open(process.ready_fd)
        _raise_file_limit()
        failure: BaseException | None = None
        try:
            trio.run(_serve, process, credentials)
        except* StartError as group:
            failure = group
            while isinstance(failure, BaseExceptionGroup):
                failure = failure.exceptions[0]
        if failure is not None:
            raise failure


def _credentials(process: Process) -> "Credentials | None":
    if process.tls is None or process.address.is_unix:
        return None
    from ipc.credentials import CredentialsError, load  # no server of a run's own needs it

    try:
        return load(process.tls, process.kind, HostClock())
    except CredentialsError as error:
        raise StartError(str(error)) from None


async def _serve(process: Process, credentials: "Credentials | None") -> None:
    with trio.open_signal_receiver(*STOP_SIGNALS) as signals:
        endpoint, background = make_endpoint(process.kind, process.options)
        gc.freeze()  # what is imported by now is no garbage
        gc.enable()  # `farcall run` has disabled it for its start
        async with trio.open_nursery() as service:
            service.start_soon(background)
            try:
                async with trio.open_nursery() as carriers:
                    if process.private is not None:
                        carriers.start_soon(_wait_parent, process.parent, carriers.cancel_scope)
                    address = await _listen(process, credentials, endpoint, carriers)
                    _announce(process.ready_fd, f"ready {address}\n")
                    async for _ in signals:
                        break
                    endpoint.drain()
                    carriers.cancel_scope.cancel()
            finally:
                # Only now: carriers that end still call the endpoint.
                service.cancel_scope.cancel()


async def _listen(
    process: Process, credentials: "Credentials | None", endpoint: Dispatcher, carriers: trio.Nursery
) -> Address:
    """Starts the carriers; the address in use. StartError.

    Rings first: they find a living server at the same path, where gRPC would push it aside.
    """
    address = process.address
    if address.is_unix:
        try:
            await carriers.start(serve_rings, address.ring_path, endpoint)
        except OSError as error:
            raise StartError(f"cannot listen on {address}: {error.strerror or error}") from None
    if process.ring_only:
        return address
    return await _start_grpc(address, credentials, endpoint, carriers)


async def _start_grpc(
    address: Address, credentials: "Credentials | None", endpoint: Endpoint, carriers: trio.Nursery
) -> Address:
    from ipc.grpc_server import ListenError, serve_grpc  # imports grpc: 130 ms that --ring-only saves

    try:
        bound: Address = await carriers.start(partial(serve_grpc, address, endpoint, credentials=credentials))
    except ListenError as error:
        raise StartError(str(error)) from None
    return bound


def _check_open(descriptor: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError as error:
        raise StartError(f"--ready-fd {descriptor}: {error.strerror}") from None


def _announce(descriptor: int, line: str) -> None:
    """Tells whoever waits for us, once; nobody may be waiting any more."""
    try:
        os.write(descriptor, line.encode())
    except BrokenPipeError:
        return
    if descriptor > 2:
        os.close(descriptor)


async def _wait_parent(parent: int, carriers: trio.CancelScope) -> None:
    """Ends the carriers when that process ends."""
    try:
        descriptor = os.pidfd_open(parent)
    except ProcessLookupError:
        carriers.cancel()
        return
    try:
        # Its number may have been another's when we opened it; our parent's cannot be, while it is that.
        if os.getppid() == parent:
            await trio.lowlevel.wait_readable(descriptor)
        carriers.cancel()
    finally:
        os.close(descriptor)


def _join_run(process: Process, private: Path) -> Process:
    """Checks the run's directory and leaves the caller's terminal. StartError."""
    try:
        status = private.lstat()
    except OSError as error:
        raise StartError(f"--private {private}: {error.strerror}") from None
    ours = status.st_uid == os.geteuid() and stat.S_ISDIR(status.st_mode)
    if not ours or stat.S_IMODE(status.st_mode) != 0o700 or not private.name.startswith(PRIVATE_PREFIX):
        raise StartError(f"--private {private}: not a directory of ours, mode 0700, named {PRIVATE_PREFIX}*")
    with suppress(PermissionError):  # leads a group already: the terminal's signals do not reach it either
        os.setsid()
    options = process.options
    if process.kind == "file" and options.state is None:
        options = replace(options, state=private / "file")
    return replace(process, private=private, options=options)


def _remove_private(process: Process, private: Path) -> None:
    """Removes the run's directory; while the run's process still lives, which does so itself, our state."""
    state = process.options.state
    if os.getppid() != process.parent:
        shutil.rmtree(private, ignore_errors=True)
    elif state is not None and state.absolute().is_relative_to(private):
        shutil.rmtree(state, ignore_errors=True)


def _raise_file_limit() -> None:
    """Rings and open files take descriptors; the soft limit is for programs that use select(2)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
