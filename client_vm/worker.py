"""A guest worker: one host process that runs one guest process. Single-threaded; no trio, no gRPC.

Its only ties to the world are its rings, the control socket to the kernel process, and the caller's stdin,
stdout and stderr. After start-up it opens nothing, connects nowhere and executes nothing on the host.
"""

import os
import resource
import signal
import socket
import time
import traceback
from typing import Final, NoReturn

import client_vm.table  # noqa: F401  # fills TABLE
from client_vm import host
from client_vm.abi import common
from client_vm.account import MemoryAccount
from client_vm.arena import Arena
from client_vm.control import SPARE_DESCRIPTORS_MAX, ControlSocket
from client_vm.cpu import Cpu
from client_vm.descriptors import OPEN_PATH, FdTable, HostStream, OpenFile, RemoteFile
from client_vm.elf import BadElfError
from client_vm.errors import EXIT_FAILURE, EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, Errno, GuestExit, StartError
from client_vm.faults import fault
from client_vm.file_server import FileServer, place
from client_vm.guest_memory import GuestMemory
from client_vm.loader import check_arguments, find_program, load
from client_vm.mmu import AddressSpace
from client_vm.preemption import preempted, watch_cpu_time
from client_vm.process import Credentials, Kernel, Process, Task
from client_vm.rings import Rings
from client_vm.rows import TABLE
from client_vm.seeded import GuestRandom
from client_vm.stubs import CAUSE_PREEMPTED, CAUSE_TRAP
from client_vm.trap import trap
from farcall.v1.file_pb2 import OpenRequest
from farcall.v1.kernel_pb2 import StartGuest
from farcall.v1.session_pb2 import SERVER_KIND_FILE, SERVER_KIND_MEMORY
from ipc.seams import HostClock

READY_NAME: Final = b"farcall-guest"
"""The process's name once start-up is over: from here on it only uses what it has."""


def main(control: socket.socket, doorbell: socket.socket, parent: int, *, offsets: int) -> NoReturn:
    """Runs the guest that the kernel process sends, and ends as the guest ends. Never returns.

    `offsets`: the memfd of the offsets that workers share (launch.make_offsets).
    """
    del offsets  # stays open for the workers that fork from this one
    status = EXIT_FAILURE
    try:
        _settle(parent)
        status = _run(control, doorbell)
    except StartError as error:
        _complain(str(error))
        status = error.status
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _settle(parent: int) -> None:
    """Dies with the kernel process; the terminal's signals are the kernel process's business."""
    host.die_with_parent(parent, signal.SIGKILL)
    host.no_new_privileges()
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _complain(message: str) -> None:
    os.write(2, f"farcall: {message}\n".encode(errors="replace"))


def _run(control: socket.socket, doorbell: socket.socket) -> int:
    terminal = _open_terminal()
    hostname = socket.gethostname().encode()
    memory_total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cpus = len(os.sched_getaffinity(0))
    clock = HostClock()
    rings = Rings(ControlSocket(control, descriptors_max=SPARE_DESCRIPTORS_MAX), doorbell, clock, time.sleep)
    start = rings.await_start()
    kernel = Kernel(
        clock=clock,
        random=GuestRandom(start.random_key, start.pid),
        hostname=hostname,
        terminal=terminal,
        memory_total_bytes=memory_total,
        cpus=cpus,
        sleep=time.sleep,
        cpu_time_ns=time.process_time_ns,
        resident_bytes=lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
    )
    process = _make_process(rings, start)
    task = _load(kernel, process, start)
    watch_cpu_time(task)
    host.name_process(READY_NAME)
    return _end(_loop(task))


def _open_terminal() -> OpenFile | None:
    """The controlling terminal for the guest's /dev/tty; a worker can open nothing later."""
    try:
        return HostStream(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return None


def _make_process(rings: Rings, start: StartGuest) -> Process:
    """The first process: stdio of the caller, a working directory, the caller's limits."""
    timeout = start.server_timeout_ms / 1000 if start.server_timeout_ms else None
    files = FileServer(rings.client(SERVER_KIND_FILE, timeout))
    account = MemoryAccount(lambda: rings.client(SERVER_KIND_MEMORY, timeout))
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
    return Process(
        pid=start.pid,
        files=files,
        account=account,
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


def _load(kernel: Kernel, process: Process, start: StartGuest) -> Task:
    """Finds and maps the program. StartError: 127 not found, 126 not executable."""
    name = bytes(start.program)
    arguments, environment = list(start.arguments), list(start.environment)
    search = next((entry[5:] for entry in environment if entry.startswith(b"PATH=")), None)
    shown = name.decode(errors="backslashreplace")
    base = process.cwd.handle if isinstance(process.cwd, RemoteFile) else 0
    try:
        check_arguments(arguments, environment, process.limits[common.RLIMIT_STACK][0])
        program = find_program(process, base, name, search)
        entry, stack_pointer = load(process, program, arguments, environment, kernel.random)
    except BadElfError as error:
        raise StartError(f"{shown}: cannot execute: {error}", EXIT_NOT_EXECUTABLE) from None
    except Errno as error:
        missing = error.errno in (common.ENOENT, common.ENOTDIR)
        text = "not found" if missing else os.strerror(error.errno)
        raise StartError(f"{shown}: {text}", EXIT_NOT_FOUND if missing else EXIT_NOT_EXECUTABLE) from None
    architecture = program.image.architecture
    space = process.space
    cpu = Cpu(architecture, space.arena.address, space.arena.size_bytes, space.translate)
    space.flush_tlb, space.flush_code = cpu.flush_tlb, cpu.flush_code
    cpu.pc, cpu.sp = entry, stack_pointer
    return Task(kernel, process, architecture, cpu, GuestMemory(space), TABLE.dispatch(architecture))


def _loop(task: Task) -> GuestExit:
    """Runs until the guest ends."""
    cpu = task.cpu
    run = cpu.run
    try:
        while True:
            cause = run()
            if cause == CAUSE_TRAP:
                trap(task)
            elif cause == CAUSE_PREEMPTED:
                preempted(task)
            else:
                fault(task)
    except GuestExit as ended:
        return ended


def _end(ended: GuestExit) -> int:
    """The worker's exit status; a guest that died by a signal takes its worker along by the same one.

    What the process had open is freed by the servers, when they see its sessions end.
    """
    if not ended.signal:
        return ended.status
    if ended.signal not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(ended.signal, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {ended.signal})
    os.kill(os.getpid(), ended.signal)
    return 128 + ended.signal
