"""The registers of kept_world: how each is written and read, and the run that checks them."""

import random
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import trio

from client_vm.caching_link import CachingLink
from farcall.v1 import file_pb2
from farcall.v1.file_pb2 import (
    OPEN_FLAG_CREATE,
    OPEN_FLAG_DIRECTORY,
    OPEN_FLAG_EXCLUSIVE,
    OPEN_FLAG_READ,
    OPEN_FLAG_WRITE,
)
from farcall.v1.session_pb2 import Credentials
from tests.contract.kept_world import PATIENCE_S, Actor, Register, Report, Server, SimLink, TrioClock

NUMBER_BYTES: Final = 16
T = TypeVar("T")
Write = Callable[[Actor, int], Awaitable[None]]
Read = Callable[[Actor], Awaitable[int]]


def prepare(root: Path) -> None:
    """The lower layer."""
    for name in ("data", "times", "mode", "names"):
        (root / "d" / name).mkdir(parents=True)
        (root / "d" / name / "file").write_bytes(b"0".zfill(NUMBER_BYTES))
    (root / "d" / "link").symlink_to("0")
    (root / "d" / "list").mkdir()


def place(path: bytes, follow: bool = True) -> file_pb2.Place:
    return file_pb2.Place(path=path, follow=follow)


async def write_data(actor: Actor, number: int) -> None:
    handle = await actor.open(b"/d/data/file", OPEN_FLAG_WRITE)
    await actor.pwrite(handle, 0, str(number).zfill(NUMBER_BYTES).encode())
    await actor.close(handle)


async def read_data(actor: Actor) -> int:
    handle = await actor.open(b"/d/data/file", OPEN_FLAG_READ)
    found = int(await actor.pread(handle, 0, NUMBER_BYTES))
    await actor.close(handle)
    return found


class KeptOpen:
    """Data and size read through a handle that stays open."""

    def __init__(self) -> None:
        self._handles: dict[Actor, int] = {}

    async def read(self, actor: Actor) -> int:
        if actor not in self._handles:
            self._handles[actor] = await actor.open(b"/d/data/file", OPEN_FLAG_READ)
        return int(await actor.pread(self._handles[actor], 0, NUMBER_BYTES))


async def write_times(actor: Actor, number: int) -> None:
    change = file_pb2.TimeChange(time_ns=number)
    await actor.ask(file_pb2.SetAttributesRequest(place=place(b"/d/times/file"), mtime=change))


async def read_times(actor: Actor) -> int:
    answer = await actor.ask(file_pb2.GetAttributesRequest(place=place(b"/d/times/file")))
    found: int = answer.attributes.mtime_ns
    return found if found < 1 << 32 else 0


async def write_link(actor: Actor, number: int) -> None:
    """A new symlink takes the old one's name."""
    new = b"/d/new%d" % number
    await actor.ask(file_pb2.MakeSymlinkRequest(place=place(new, False), target=b"%d" % number))
    await actor.ask(file_pb2.RenameRequest(source=place(new, False), target=place(b"/d/link", False)))


async def read_link(actor: Actor) -> int:
    answer = await actor.ask(file_pb2.ReadLinkRequest(place=place(b"/d/link", False)))
    return int(answer.target)


async def write_list(actor: Actor, number: int) -> None:
    flags = OPEN_FLAG_WRITE | OPEN_FLAG_CREATE | OPEN_FLAG_EXCLUSIVE
    await actor.close(await actor.open(b"/d/list/%d" % number, flags))


async def read_list(actor: Actor) -> int:
    handle = await actor.open(b"/d/list", OPEN_FLAG_READ | OPEN_FLAG_DIRECTORY)
    answer = await actor.ask(file_pb2.ReadDirectoryRequest(handle=handle, entries_max=512))
    await actor.close(handle)
    return max((int(entry.name) for entry in answer.entries if entry.name.isdigit()), default=0)


async def read_name(register: Register, actor: Actor) -> int:
    """Whether the name of the number written last is there."""
    number = register.begun
    try:
        await actor.ask(file_pb2.GetAttributesRequest(place=place(b"/d/list/%d" % number)))
    except FileNotFoundError:
        return max(0, number - 1)
    return number


class Run:
    """Kernel processes with two actors each, for so many seconds of virtual time."""

    def __init__(self, directory: Path, seed: int, *, kernels: int = 2, faults: bool = True) -> None:
        self._chances = random.Random(seed)
        self._directory = directory
        self._kernels = kernels
        self._faults = faults
        self.report = Report()
        self._registers = {name: Register() for name in ("data", "times", "link", "list")}
        self._writing = {name: trio.Lock() for name in self._registers}
        self._server: Server
        kept_open = KeptOpen()
        lists = self._registers["list"]
        self._ways: list[tuple[str, Write, list[Read]]] = [
            ("data", write_data, [read_data, kept_open.read]),
            ("times", write_times, [read_times]),
            ("link", write_link, [read_link]),
            ("list", write_list, [read_list, partial(read_name, lists)]),
        ]

    async def main(self, seconds: float) -> Report:
        (self._directory / "root").mkdir()
        (self._directory / "state").mkdir()
        prepare(self._directory / "root")
        self._server = Server(self._directory, self._chances)
        clock = TrioClock()
        try:
            async with trio.open_nursery() as tasks:
                tasks.start_soon(self._server.expire)
                with trio.move_on_after(seconds):
                    async with trio.open_nursery() as busy:
                        for _ in range(self._kernels):
                            link = SimLink(self._server, tasks, self._chances)
                            caching = CachingLink(link, clock)
                            tasks.start_soon(link.renew)
                            tasks.start_soon(caching.keep, link.hello, Credentials())
                            for _ in range(2):
                                busy.start_soon(self._act, Actor(caching, link, clock))
                            busy.start_soon(self._watch, Actor(caching, link, clock))
                        if self._faults:
                            busy.start_soon(self._harm_links)
                            busy.start_soon(self._kill)
                tasks.cancel_scope.cancel()
        finally:
            self._server.close()
        return self.report

    async def _act(self, actor: Actor) -> None:
        await actor.open_session()
        await trio.sleep(0.5)
        while True:
            name, write, reads = self._chances.choice(self._ways)
            if self._chances.random() < 0.15:
                await self._write(name, write, actor)
            else:
                for _ in range(self._chances.randrange(1, 4)):
                    await self._read(name, self._chances.choice(reads), actor)
            await trio.sleep(self._chances.choice((0.0, 0.01, 0.3, 1.5)))

    async def _watch(self, actor: Actor) -> None:
        """Reads what needs no server while it is kept, so that it goes on while the link is cut."""
        await actor.open_session()
        kept_open = KeptOpen()
        ways = [("data", kept_open.read), ("times", read_times), ("link", read_link)]
        while True:
            await trio.sleep(self._chances.choice((0.1, 0.3, 0.7)))
            await self._read(*self._chances.choice(ways), actor)

    async def _write(self, name: str, write: Write, actor: Actor) -> None:
        register = self._registers[name]
        async with self._writing[name]:  # numbers take effect in their order
            register.begun += 1
            number = register.begun
            await self._timed(actor, f"write {name}", write(actor, number))
            register.done = number
        self.report.writes += 1

    async def _read(self, name: str, read: Read, actor: Actor) -> None:
        register = self._registers[name]
        floor = register.done
        found = await self._timed(actor, f"read {name}", read(actor))
        self.report.reads += 1
        if not floor <= found <= register.begun:
            self.report.stale.append(f"{trio.current_time():.2f} {name}: {found}, {floor} had been written")

    async def _timed(self, actor: Actor, what: str, work: Awaitable[T]) -> T:
        """Slow are those whose own link was never cut meanwhile, and who had no restart to wait for."""
        begin, cuts = trio.current_time(), actor.link.cuts
        result = await work
        took_s = trio.current_time() - begin
        if took_s > PATIENCE_S and cuts == actor.link.cuts:
            self.report.slow.append(f"{what} took {took_s:.1f} s")
        return result

    async def _harm_links(self) -> None:
        """They break, and are cut."""
        while True:
            await trio.sleep(self._chances.uniform(0.5, 6.0))
            link = self._chances.choice(self._server.links)
            if self._chances.random() < 0.4:
                link.broken()
                continue
            link.cut = True
            link.cuts += 1
            await trio.sleep(self._chances.uniform(0.5, 9.0))
            link.mend()

    async def _kill(self) -> None:
        """The server dies, and as often as not a link with it, so that somebody does not hear of it."""
        while True:
            await trio.sleep(self._chances.uniform(6.0, 20.0))
            link = self._chances.choice(self._server.links)
            deaf = self._chances.random() < 0.7 and not link.cut
            if deaf:
                link.cut = True
                link.cuts += 1
            self._server.restart()
            if deaf:
                await trio.sleep(self._chances.uniform(0.5, 9.0))
                link.mend()
