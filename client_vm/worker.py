"""A guest worker: one host process that runs one guest process. Single-threaded; no trio, no gRPC.

Its only ties to the world are its rings, the control socket to the kernel process, the caller's stdin, stdout
and stderr, and what it inherited. After start-up it opens nothing, connects nowhere and executes nothing on the
host; its guest's children are clones of it.
"""

import fcntl
import gc
import os
import resource
import signal
import socket
import time
import traceback
from functools import partial
from typing import NoReturn

import client_vm.table  # noqa: F401  # fills TABLE
from client_vm import host
from client_vm.abi import common
from client_vm.arena import Arena
from client_vm.control import SPARE_DESCRIPTORS_MAX, ControlSocket
from client_vm.descriptors import OPEN_PATH, FdTable, RemoteFile
from client_vm.elf import BadElfError
from client_vm.errors import EXIT_FAILURE, EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, Errno, StartError
from client_vm.file_server import FileServer, place
from client_vm.futex import Futexes
from client_vm.guest_memory import GuestMemory
from client_vm.host_files import HostStream
from client_vm.house import READY_NAME, House
from client_vm.lives import Endings
from client_vm.loader import MissingInterpreterError, Prepared, find, load_into
from client_vm.mmu import AddressSpace
from client_vm.process import Action, Credentials, Kernel, Process, Task
from client_vm.rings import Rings
from client_vm.rows import TABLE
from client_vm.scheduler import Scheduler
from client_vm.seeded import GuestRandom
from client_vm.shared_offsets import SharedOffsets
from client_vm.signals import UNBLOCKABLE_MASK
from farcall.v1.file_pb2 import OpenRequest
from farcall.v1.kernel_pb2 import StartGuest


def main(control: socket.socket, doorbell: socket.socket, parent: int, *, offsets: int) -> NoReturn:
    """Runs the guest that the kernel process sends, and ends as the guest ends. Never returns.

    `offsets`: the descriptor of the run's shared offsets.
    """
    status = EXIT_FAILURE
    try:
        gc.freeze()
        gc.enable()
        _settle(parent)
        _run(control, doorbell, parent, offsets)
    except StartError as error:
        _complain(str(error))
        status = error.status
    except EOFError:
        status = EXIT_FAILURE  # the kernel process is gone: its end ends this process, too, and says why
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _settle(parent: int) -> None:
    """Dies with the kernel process; the terminal's signals are the kernel process's business."""
    host.die_with_parent(parent, signal.SIGKILL)
    host.no_new_privileges()
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGPIPE, signal.SIGTTOU, signal.SIGTTIN):
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _complain(message: str) -> None:
    os.write(2, f"farcall: {message}\n".encode(errors="replace"))


def _run(control: socket.socket, doorbell: socket.socket, parent: int, offsets: int) -> None:
    terminal = _open_terminal()
    hostname = socket.gethostname().encode()
    memory_total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    processors = sorted(os.sched_getaffinity(0))
    clock = host.GuestClock()
    link = ControlSocket(control, descriptors_max=SPARE_DESCRIPTORS_MAX)
    rings = Rings(link, doorbell, clock, time.sleep)
    start = rings.await_start()
    house = House(rings, SharedOffsets(offsets), clock, start.random_key, parent, time.process_time_ns)
    scheduler = house.scheduler = Scheduler(clock, house.idle, house.ticks, Endings(house))
    kernel = Kernel(
        clock=clock,
        random=GuestRandom(start.random_key, start.pid),
        hostname=hostname,
        terminal=terminal,
        named_terminal=_open_by_name(terminal) if terminal else None,
        memory_total_bytes=memory_total,
        cpus=len(processors),
        run_on=lambda mask: os.sched_setaffinity(0, {each for n, each in enumerate(processors) if mask >> n & 1}),
        scheduler=scheduler,
        house=house,
        cpu_time_ns=time.process_time_ns,
        usage=partial(resource.getrusage, resource.RUSAGE_SELF),
    )
    process = _make_process(house, start)
    task = _load(kernel, process, start)
    task.blocked = start.blocked_signals & ~UNBLOCKABLE_MASK
    house.settle(process)
    process.link.describe(process)
    house.ticks.watch(task)
    host.name_process(READY_NAME)
    scheduler.add(task)
    scheduler.loaded = task
    try:
        scheduler.run()
    except BaseException:
        if house.forsaken():
            os._exit(EXIT_FAILURE)  # without a word: nobody runs this guest any more
        raise


def _open_terminal() -> HostStream | None:
    """The controlling terminal for the guest's /dev/tty; a worker can open nothing later."""
    try:
        return HostStream(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return None


def _open_by_name(terminal: HostStream) -> HostStream | None:
    """The controlling terminal as /dev/pts has it, if it is there: what ttyname(3) looks for."""
    number = int.from_bytes(fcntl.ioctl(terminal.descriptor, common.TIOCGDEV, bytes(4)), "little")
    try:
        found = os.open(f"/dev/pts/{os.minor(number)}", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    if os.fstat(found).st_rdev == number:
        return HostStream(found)
    os.close(found)
    return None


def _make_process(house: House, start: StartGuest) -> Process:
    """The first process: stdio of the caller, a working directory, the caller's limits."""
    client, account, link = house.connect()
    files = FileServer(client)
    fds = FdTable()
    for descriptor in (0, 1, 2):
        try:
            fds.install(descriptor, HostStream(descriptor), False)
        except OSError:
            continue  # the caller closed it: the guest finds it closed too
    who = start.credentials
    limits = {
        number: tuple(value & (1 << 64) - 1 for value in resource.getrlimit(number)) for number in range(16)
    }
    limits[common.RLIMIT_CORE] = (0, 0)
    fds.limit = limits[common.RLIMIT_NOFILE][0]
    # Guests' pipes are descriptors of ours, beside those that a worker needs itself.
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    process = Process(
        pid=start.pid,
        files=files,
        account=account,
        link=link,
        futexes=Futexes(link),
        space=AddressSpace(Arena(), account.charge),
        fds=fds,
        cwd=_working_directory(files, bytes(start.working_directory)),
        credentials=Credentials.of(who.uid, who.gid, tuple(who.groups)),
        umask=start.umask,
        limits={number: (soft, hard) for number, (soft, hard) in limits.items()},
        group=start.pid,
        session=start.pid,
        nice=os.getpriority(os.PRIO_PROCESS, 0),
    )
    for number in range(1, start.ignored_signals.bit_length() + 1):
        if start.ignored_signals >> (number - 1) & 1:
            process.signals.actions[number] = Action(common.SIG_IGN)
    house.new_timers(process)
    return process


def _working_directory(files: FileServer, path: bytes) -> RemoteFile:
    """The caller's directory by name, or / if the guest's root has none such."""
    for candidate in (path, b"/"):
        handle = files.new_handle()
        request = OpenRequest(place=place(0, candidate), handle=handle, flags=OPEN_PATH)
        try:
            response = files.call(request)
        except Errno:
            continue
        if not response.crossing.mount:
            return RemoteFile(files, handle, common.O_PATH, response.attributes.mode)
    raise StartError("the guest's root directory cannot be opened", EXIT_FAILURE)


def _prepare(process: Process, start: StartGuest) -> Prepared:
    """Finds the program. StartError: 127 not found, 126 not executable."""
    name = bytes(start.program)
    arguments, environment = list(start.arguments), list(start.environment)
    search = next((entry[5:] for entry in environment if entry.startswith(b"PATH=")), None)
    shown = name.decode(errors="backslashreplace")
    try:
        return find(process, name, search, arguments, environment)
    except BadElfError as error:
        raise StartError(f"{shown}: cannot execute: {error}", EXIT_NOT_EXECUTABLE) from None
    except MissingInterpreterError as error:
        text = f"cannot execute: no {error.interpreter.decode(errors='backslashreplace')} in the guest's root"
        raise StartError(f"{shown}: {text}", EXIT_NOT_EXECUTABLE) from None
    except Errno as error:
        missing = error.errno in (common.ENOENT, common.ENOTDIR)
        text = "not found" if missing else os.strerror(error.errno)
        raise StartError(f"{shown}: {text}", EXIT_NOT_FOUND if missing else EXIT_NOT_EXECUTABLE) from None


def _load(kernel: Kernel, process: Process, start: StartGuest) -> Task:
    """The program in memory, and its first thread on a CPU. StartError."""
    prepared = _prepare(process, start)
    try:
        load_into(process, prepared, kernel.random)
    except Errno as error:
        shown = bytes(start.program).decode(errors="backslashreplace")
        raise StartError(f"{shown}: {os.strerror(error.errno)}", EXIT_NOT_EXECUTABLE) from None
    architecture, cpu = prepared.architecture, kernel.house.make_cpu(process, prepared)
    memory, dispatch = GuestMemory(process.space), TABLE.dispatch(architecture)
    task = Task(kernel, process, architecture, cpu, memory, dispatch, process.pid, name=process.name)
    process.tasks[task.tid] = task
    return task
