"""Memory: brk, mmap and what changes mappings (man 2 of each)."""

from typing import Final

from client_vm.abi import common
from client_vm.abi.common import EACCES, EBADF, EEXIST, EFAULT, EINVAL, ENODEV, ENOMEM, EOPNOTSUPP, EOVERFLOW
from client_vm.arena import PAGE_BYTES
from client_vm.arguments import OutBuffer
from client_vm.cpu import EXECUTE, READ, WRITE
from client_vm.descriptors import OFFSET_MAX, OpenFile, RemoteFile
from client_vm.errors import Errno
from client_vm.memory_files import MemoryFile, make_memory_file
from client_vm.nodes import ZeroFile
from client_vm.process import INFINITY, Task
from client_vm.segments import anonymous, of_file, private_backing
from client_vm.vma import ADDRESS_MAX, ADDRESS_MIN, PAGE_MASK, AtFork, Backing, Vma, page_down, page_up

_PROTECTIONS: Final = common.PROT_READ | common.PROT_WRITE | common.PROT_EXEC | common.PROT_SEM
_KNOWN_FLAGS: Final = 0xFFFFF & ~common.MAP_SYNC
"""What MAP_SHARED_VALIDATE accepts."""
_PROT_GROWS: Final = common.PROT_GROWSDOWN | common.PROT_GROWSUP


def _protection(prot: int) -> int:
    """The CPU's bits; x86-64 and ARM64 writes imply reads."""
    return (
        (READ if prot & (common.PROT_READ | common.PROT_WRITE) else 0)
        | (WRITE if prot & common.PROT_WRITE else 0)
        | (EXECUTE if prot & common.PROT_EXEC else 0)
    )


def brk(task: Task, address: int) -> int:
    """The break after the call; a request that cannot be met leaves it where it was (brk(2))."""
    process = task.process
    space = process.space
    if address < process.break_start or address > ADDRESS_MAX:
        return process.break_end
    old, new = page_up(process.break_end), page_up(address)
    try:
        if new > old:
            if new - process.break_start > process.limits[common.RLIMIT_DATA][0]:
                return process.break_end
            _grow_break(task, old, new)
        elif new < old:
            space.unmap(new, old)
    except Errno:
        return process.break_end
    process.break_end = address
    return address


def _grow_break(task: Task, old: int, new: int) -> None:
    process = task.process
    space = process.space
    if not space.is_free(old, new):
        raise Errno(ENOMEM)
    _check_address_space(task, new - old)
    heap = space.find(old - 1) if old > process.break_start else None
    if heap is not None and heap.name == b"[heap]":
        space.extend(heap, new - old)
    else:
        space.map_anonymous(old, new - old, READ | WRITE, b"[heap]")


def mmap(task: Task, address: int, size: int, prot: int, flags: int, fd: int, offset: int) -> int:
    process = task.process
    if offset & PAGE_MASK:
        raise Errno(EINVAL)
    described = None if flags & common.MAP_ANONYMOUS else _described(task, fd)
    if not size:
        raise Errno(EINVAL)
    length = page_up(size)
    if length > ADDRESS_MAX:
        raise Errno(ENOMEM)
    file = _mappable(described, prot, flags) if described is not None else None
    if isinstance(file, RemoteFile) and offset + length > OFFSET_MAX:
        raise Errno(EOVERFLOW)
    sharing = flags & common.MAP_TYPE
    shared = sharing in (common.MAP_SHARED, common.MAP_SHARED_VALIDATE)
    if not shared and sharing != common.MAP_PRIVATE:
        raise Errno(EINVAL)
    if sharing == common.MAP_SHARED_VALIDATE and flags & ~_KNOWN_FLAGS:
        raise Errno(EOPNOTSUPP)
    _check_address_space(task, length)
    if shared:
        try:
            return _map_shared(task, address, length, prot, flags, file, offset)
        except Errno as error:
            if error.errno != ENODEV or not isinstance(file, RemoteFile) or file.may_write:
                raise
        # By a carrier that passes no descriptors a mapping that is only read shows the file as it is now.
    start = _choose(task, address, length, flags)
    protection = _protection(prot)
    if isinstance(file, RemoteFile | MemoryFile):
        backing = private_backing(file) if isinstance(file, RemoteFile) else _backing_of_memory(file)
        try:
            process.space.map_file(start, length, protection, backing, offset)
        except Errno:
            backing.close()
            raise
        finally:
            backing.settle()
    else:
        reserved = bool(flags & common.MAP_NORESERVE)
        process.space.map_anonymous(start, length, protection, reserved=reserved)
    return start


def _map_shared(
    task: Task, address: int, length: int, prot: int, flags: int, file: OpenFile | None, offset: int
) -> int:
    """MAP_SHARED: of a file, a memfd, or of nothing, to be shared with children."""
    process = task.process
    if isinstance(file, RemoteFile):
        segment, may_write = of_file(process, file, bool(prot & common.PROT_WRITE)), file.may_write
    elif isinstance(file, MemoryFile):
        segment, may_write = file.segment(), True
    else:
        segment, offset, may_write = anonymous(process, length), 0, True
    segment.users += 1  # ours, until the mapping has its own
    try:
        start = _choose(task, address, length, flags)
        process.space.map_shared(start, length, _protection(prot), segment, offset, may_write)
    finally:
        segment.drop()
    process.tell_of_locks()
    return start


def _described(task: Task, fd: int) -> OpenFile:
    file = task.process.fds.get(fd)
    if file.is_path:
        raise Errno(EBADF)
    return file


def _mappable(file: OpenFile, prot: int, flags: int) -> OpenFile:
    """The description to map. EACCES (rights), ENODEV (a kind that has no pages)."""
    access = file.flags & common.O_ACCMODE
    shared = flags & common.MAP_TYPE in (common.MAP_SHARED, common.MAP_SHARED_VALIDATE)
    if access == common.O_WRONLY or (shared and prot & common.PROT_WRITE and access != common.O_RDWR):
        raise Errno(EACCES)
    if not isinstance(file, RemoteFile | ZeroFile | MemoryFile) or (
        isinstance(file, RemoteFile) and file.is_directory
    ):
        raise Errno(ENODEV)
    return file


def _check_address_space(task: Task, growth: int) -> None:
    limit = task.process.limits[common.RLIMIT_AS][0]
    if limit != INFINITY and growth + sum(vma.size_bytes for vma in task.process.space.vmas) > limit:
        raise Errno(ENOMEM)


def _choose(task: Task, address: int, length: int, flags: int) -> int:
    """Where the mapping goes; MAP_FIXED clears the range."""
    space = task.process.space
    if flags & (common.MAP_FIXED | common.MAP_FIXED_NOREPLACE):
        if address & PAGE_MASK:
            raise Errno(EINVAL)
        if address + length > ADDRESS_MAX:
            raise Errno(ENOMEM)
        if address < ADDRESS_MIN:
            raise Errno(common.EPERM)
        if flags & common.MAP_FIXED_NOREPLACE:
            if any(True for _ in space.overlapping(address, address + length)):
                raise Errno(EEXIST)
        else:
            space.unmap(address, address + length)
        return address
    hint = page_down(address)
    return space.free_range(length, hint, task.process.mmap_top)


def _backing_of_memory(file: MemoryFile) -> Backing:
    found, name = file.attributes(), file.path()
    file.users += 1
    return Backing(
        fill=lambda offset, room: file.pread([room], offset),
        size_bytes=found.size,
        name=name,
        ino=found.ino,
        dev=found.dev,
        close=file.drop,
    )


def munmap(task: Task, address: int, size: int) -> int:
    if address & PAGE_MASK or not size or address + page_up(size) > ADDRESS_MAX or size > ADDRESS_MAX:
        raise Errno(EINVAL)
    task.process.space.unmap(address, address + page_up(size))
    return 0


def mprotect(task: Task, address: int, size: int, prot: int) -> int:
    if prot & ~(_PROTECTIONS | _PROT_GROWS) or prot & _PROT_GROWS == _PROT_GROWS or address & PAGE_MASK:
        raise Errno(EINVAL)
    if not size:
        return 0
    end = address + page_up(size)
    space = task.process.space
    if size > ADDRESS_MAX or end > ADDRESS_MAX:
        raise Errno(ENOMEM)
    if prot & _PROT_GROWS:
        address = _grown_start(task, address, prot)
    mapped_end = space.covered_end(address, end)
    if mapped_end > address:
        space.protect(address, mapped_end, _protection(prot))
    if mapped_end < end:
        raise Errno(ENOMEM)  # what lies before the hole was changed, as on Linux
    return 0


def _grown_start(task: Task, address: int, prot: int) -> int:
    """PROT_GROWSDOWN reaches down to where a stack begins. EINVAL: it is none; none grows upwards."""
    vma = task.process.space.find(address)
    if vma is None:
        raise Errno(ENOMEM)
    if prot & common.PROT_GROWSUP or not vma.floor:
        raise Errno(EINVAL)
    return vma.start


_MREMAP_FLAGS: Final = common.MREMAP_MAYMOVE | common.MREMAP_FIXED | common.MREMAP_DONTUNMAP


def mremap(task: Task, address: int, old_size: int, new_size: int, flags: int, target: int) -> int:
    space = task.process.space
    moves = flags & common.MREMAP_MAYMOVE
    if flags & ~_MREMAP_FLAGS or address & PAGE_MASK or not new_size:
        raise Errno(EINVAL)
    if flags & (common.MREMAP_FIXED | common.MREMAP_DONTUNMAP) and not moves:
        raise Errno(EINVAL)
    if flags & common.MREMAP_DONTUNMAP:
        raise Errno(EINVAL)
    old, new = page_up(old_size), page_up(new_size)
    if new > ADDRESS_MAX:
        raise Errno(EINVAL)
    if not old:
        return _map_again(task, address, new, flags, target)
    vma = space.find(address)
    shrinks = new <= old and not flags & common.MREMAP_FIXED
    if vma is None or (not shrinks and address + old > space.alike_end(vma)):
        raise Errno(EFAULT)
    if flags & common.MREMAP_FIXED:
        return _move_to(task, address, old, new, target)
    if shrinks:
        if new < old:
            space.unmap(address + new, address + old)
        return address
    _check_address_space(task, new - old)
    end = address + old
    last = space.find(end - 1)
    private = last is not None and last.backing is None and last.segment is None
    if last is not None and last.end == end and private and space.is_free(end, address + new):
        space.extend(last, new - old)
        return address
    if not moves:
        raise Errno(ENOMEM)
    start = space.free_range(new, 0, task.process.mmap_top)
    _relocate(task, vma, address, old, new, start)
    return start


def _map_again(task: Task, address: int, size: int, flags: int, target: int) -> int:
    """mremap(2) with an old size of 0: a second mapping of shared memory, which is all that it is good for."""
    process = task.process
    space = process.space
    vma = space.find(address)
    if vma is None:
        raise Errno(EFAULT)
    if vma.segment is None or not flags & common.MREMAP_MAYMOVE:
        raise Errno(EINVAL if vma.segment is None else ENOMEM)
    fixed = flags & common.MREMAP_FIXED
    if fixed and (target & PAGE_MASK or target + size > ADDRESS_MAX or target < ADDRESS_MIN):
        raise Errno(EINVAL)
    _check_address_space(task, size)
    segment, protection, may_write = vma.segment, vma.protection, vma.may_write
    offset = vma.offset + address - vma.start
    segment.users += 1  # ours, should the target lie over the only other mapping
    try:
        if fixed:
            space.unmap(target, target + size)
        else:
            target = space.free_range(size, 0, process.mmap_top)
        space.map_shared(target, size, protection, segment, offset, may_write)
    finally:
        segment.drop()
    return target


def _move_to(task: Task, address: int, old: int, new: int, target: int) -> int:
    space = task.process.space
    if target & PAGE_MASK or target + new > ADDRESS_MAX or target < ADDRESS_MIN:
        raise Errno(EINVAL)
    if target < address + old and address < target + new:
        raise Errno(EINVAL)
    space.unmap(target, target + new)
    if new < old:
        space.unmap(address + new, address + old)
        old = new
    vma = space.find(address)
    assert vma is not None
    _relocate(task, vma, address, old, new, target)
    return target


def _relocate(task: Task, vma: Vma, address: int, old: int, new: int, target: int) -> None:
    """Gives the pages their new address and, if asked for more, what follows them."""
    space = task.process.space
    protection, backing, name, segment = vma.protection, vma.backing, vma.name, vma.segment
    offset = vma.offset + address - vma.start
    space.split(address)
    space.split(address + old)
    if new > old:
        # Granted first: after this nothing can fail.
        if segment is not None:
            space.map_shared(target + old, new - old, protection, segment, offset + old, vma.may_write)
        elif backing is None:
            space.map_anonymous(target + old, new - old, protection, name, vma.reserved)
        else:
            space.map_file(target + old, new - old, protection, backing, offset + old)
        for grown in space.overlapping(target + old, target + new):
            grown.at_fork = vma.at_fork
    space.move(address, old, target)


_NO_EFFECT_ADVICE: Final = frozenset(
    (
        common.MADV_NORMAL, common.MADV_RANDOM, common.MADV_SEQUENTIAL, common.MADV_WILLNEED,
        common.MADV_MERGEABLE, common.MADV_UNMERGEABLE, common.MADV_HUGEPAGE, common.MADV_NOHUGEPAGE,
        common.MADV_DONTDUMP, common.MADV_DODUMP, common.MADV_COLD, common.MADV_PAGEOUT,
        common.MADV_FREE,
    )
)  # fmt: skip
"""Hints that may be taken or not (madvise(2)); MADV_FREE keeps the data, as an unpressed kernel does."""


_AT_FORK: Final = {
    common.MADV_DOFORK: AtFork.COPY, common.MADV_DONTFORK: AtFork.NOTHING,
    common.MADV_KEEPONFORK: AtFork.COPY, common.MADV_WIPEONFORK: AtFork.ZEROS,
}  # fmt: skip


def madvise(task: Task, address: int, size: int, advice: int) -> int:
    known = advice == common.MADV_DONTNEED or advice in _AT_FORK or advice in _NO_EFFECT_ADVICE
    if address & PAGE_MASK or not known:
        raise Errno(EINVAL)
    length = page_up(size)
    if address + length >= 1 << 64:
        raise Errno(EINVAL)
    space = task.process.space
    if advice == common.MADV_DONTNEED:
        space.discard(address, address + length)
    elif advice in _AT_FORK and length:
        affected = space.overlapping(address, address + length)
        if advice == common.MADV_WIPEONFORK and any(vma.backing or vma.segment for vma in affected):
            raise Errno(EINVAL)  # only private memory that shows no file
        space.set_at_fork(address, address + length, _AT_FORK[advice])
    if length and not space.covered(address, address + length):
        raise Errno(ENOMEM)
    return 0


def msync(task: Task, address: int, size: int, flags: int) -> int:
    """Private mappings have nothing to write back; shared ones of files are (msync(2))."""
    known = common.MS_ASYNC | common.MS_INVALIDATE | common.MS_SYNC
    both = common.MS_ASYNC | common.MS_SYNC
    if flags & ~known or flags & both == both or address & PAGE_MASK:
        raise Errno(EINVAL)
    if size and not task.process.space.covered(address, address + page_up(size)):
        raise Errno(ENOMEM)
    for vma in task.process.space.overlapping(address, address + page_up(size)):
        if vma.segment is not None and flags & common.MS_SYNC:
            low, high = max(address, vma.start), min(address + page_up(size), vma.end)
            vma.segment.sync(low - vma.start + vma.offset, high - low)
    return 0


def mlock(task: Task, address: int, size: int) -> int:
    """Pages of the arena are never paged out by farcall; only the range is checked (mlock(2))."""
    start, end = page_down(address), page_up(address + size)
    if end < start:
        raise Errno(EINVAL)
    if size and not task.process.space.covered(start, end):
        raise Errno(ENOMEM)
    return 0


def munlock(task: Task, address: int, size: int) -> int:
    return mlock(task, address, size)


def mincore(task: Task, address: int, size: int, vector: OutBuffer) -> int:
    """What the host has of the arena; of a mapped file it is what was read of it."""
    if address & PAGE_MASK:
        raise Errno(EINVAL)
    length = page_up(size)
    space = task.process.space
    if length > ADDRESS_MAX or not space.covered(address, address + length):
        raise Errno(ENOMEM)
    vector.check(length // PAGE_BYTES)  # bounds what is asked of the host, too
    seen = []
    for vma in space.overlapping(address, address + length):
        start, end = max(vma.start, address), min(vma.end, address + length)
        seen.append(space.arena.residency(start - vma.start + vma.physical, end - start))
    vector.put(b"".join(seen))
    return 0


def memfd_create(task: Task, name: bytes, flags: int) -> int:
    """A file without a name, in memory (memfd_create(2)). MFD_HUGETLB is EINVAL."""
    if flags & ~(common.MFD_CLOEXEC | common.MFD_ALLOW_SEALING):
        raise Errno(EINVAL)
    fds = task.process.fds
    fd = fds.lowest_free()
    fds.install(fd, make_memory_file(name, flags), bool(flags & common.MFD_CLOEXEC))
    return fd
