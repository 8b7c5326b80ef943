"""The kernel process of one `farcall run`: starts everything, has it supervised, leaves nothing behind.

What it starts it ends: worker, servers and directory are gone when `run` returns, whatever happened. If this
process is killed itself, the worker dies with it (PR_SET_PDEATHSIG), servers of the run's own notice and end,
and the janitor and they remove the directory.
"""

import gc
import hashlib
import os
import resource
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from client_vm.errors import EXIT_FAILURE, StartError
from client_vm.launch import (
    HeldSignals,
    Janitor,
    Server,
    Worker,
    choose_directory,
    fork_worker,
    open_standard_descriptors,
    start_server,
)
from client_vm.options import RunOptions
from client_vm.placement import Placement, place
from client_vm.started import Run
from ipc.seams import HostClock, Random

if TYPE_CHECKING:
    from ipc.credentials import Credentials

RANDOM_KEY_BYTES: Final = 32


def run(options: RunOptions, random: Random, say: Callable[[str], None]) -> int:
    """Runs a guest; farcall's exit status. `say` prints one line for the user. StartError; OSError."""
    for name, directory in (("--root", options.root), ("--state", options.state)):
        _check_directory(name, directory)
    open_standard_descriptors()
    signals = HeldSignals()
    with ExitStack() as ended:
        worker = fork_worker(signals)
        ended.callback(worker.end)
        # Only now: the guest's own limit is the caller's.
        _allow_descriptors()
        # Only now: trio and protobuf would have kept the worker waiting; the servers share them.
        from client_vm.supervisor import supervise

        started = _start(options, signals, worker, random, say, ended)
        gc.freeze()
        gc.enable()
        verdict = supervise(started)
    if verdict.message:
        say(verdict.message)
    return verdict.status


def _allow_descriptors() -> None:
    """As many as the host lets us have: each guest process costs this one and each server a few."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _check_directory(option: str, directory: str | None) -> None:
    """A wrong --root, and a --state that is no directory, without starting anything."""
    if directory is None or (option == "--state" and not os.path.lexists(directory)):
        return
    if not os.path.isdir(directory):
        raise StartError(f"{option} {directory}: not a directory", EXIT_FAILURE)


def _start(
    options: RunOptions,
    signals: HeldSignals,
    worker: Worker,
    random: Random,
    say: Callable[[str], None],
    ended: ExitStack,
) -> Run:
    """Starts the servers of the run's own, and makes the directory they and hosted services need."""
    placements = place(options)
    credentials = _credentials(options, placements)
    processes = [placement for placement in placements if placement.is_process]
    hosted = any(placement.transport == "inproc" for placement in placements)
    directory = ""
    if processes or (hosted and options.state is None):
        directory = choose_directory(random)
        ended.callback(Janitor(directory).end)
    servers: dict[str, Server] = {}
    for placement in processes:
        if placement.is_on_demand:
            continue
        servers[placement.kind] = server = start_server(
            placement.kind, directory, transport=placement.transport, options=options
        )
        ended.callback(server.end)
    random_key = _random_key(options.seed, random)
    return Run(options, placements, signals, worker, servers, directory, random_key, say, credentials)


def _credentials(options: RunOptions, placements: Sequence[Placement]) -> "Credentials | None":
    """A client's, if there is a server that they are for. StartError."""
    remote = [each for each in placements if each.address is not None and not each.address.is_unix]
    if options.tls is None or not remote:
        return None
    from ipc.credentials import CLIENT, CredentialsError, load

    try:
        return load(options.tls, CLIENT, HostClock())
    except CredentialsError as error:
        raise StartError(str(error), EXIT_FAILURE) from None


def _random_key(seed: int | None, random: Random) -> bytes:
    if seed is None:
        return random.bytes(RANDOM_KEY_BYTES)
    return hashlib.blake2b(b"farcall --seed %d" % seed, digest_size=RANDOM_KEY_BYTES).digest()
