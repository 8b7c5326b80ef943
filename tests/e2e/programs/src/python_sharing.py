"""What Python's processes ask of their kernel: processes, shared memory, locks, waiting.

    python3 python_sharing.py [-v] [CLASS...]      run by the distribution's python3 as a guest, and natively

Everything stays in the current directory; a test's name tells what must hold.
"""

import contextlib
import errno
import fcntl
import mmap
import multiprocessing
import multiprocessing.shared_memory
import os
import select
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
import time
import unittest
from typing import Any

LIMIT_S = 60

PYTHON = sys.executable


def run(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(arguments, text=True, capture_output=True, timeout=LIMIT_S, check=False, **options)


def square(number: int) -> int:
    return number * number


def add(counter: Any, times: int) -> None:
    for _ in range(times):
        with counter.get_lock():
            counter.value += 1


def serve(connection: Any) -> None:
    while (item := connection.recv()) is not None:
        connection.send(item[::-1])
    connection.close()


def fill(name: str, at: int) -> None:
    memory = multiprocessing.shared_memory.SharedMemory(name)
    assert memory.buf is not None
    memory.buf[at] = at + 1
    memory.close()


class Processes:
    """multiprocessing; the start method is a subclass's."""

    method = ""

    def setUp(self) -> None:
        self.context: Any = multiprocessing.get_context(self.method)

    def test_a_pool_maps(self) -> None:
        with self.context.Pool(3) as pool:
            self.assertEqual(pool.map(square, range(20)), [n * n for n in range(20)])  # type: ignore[attr-defined]

    def test_a_shared_value_keeps_every_update(self) -> None:
        counter = self.context.Value("i", 0)
        processes = [self.context.Process(target=add, args=(counter, 300)) for _ in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(LIMIT_S)
        self.assertEqual([process.exitcode for process in processes], [0, 0, 0])  # type: ignore[attr-defined]
        self.assertEqual(counter.value, 900)  # type: ignore[attr-defined]

    def test_a_connection_goes_both_ways(self) -> None:
        mine, theirs = self.context.Pipe()
        process = self.context.Process(target=serve, args=(theirs,))
        process.start()
        for text in ("abc", "x" * 100000):
            mine.send(text)
            self.assertEqual(mine.recv(), text[::-1])  # type: ignore[attr-defined]
        mine.send(None)
        process.join(LIMIT_S)
        self.assertEqual(process.exitcode, 0)  # type: ignore[attr-defined]


class ForkedProcesses(Processes, unittest.TestCase):
    method = "fork"

    def test_events_and_queues(self) -> None:
        items, event = self.context.Queue(), self.context.Event()

        def work() -> None:
            event.wait(LIMIT_S)
            items.put("done")

        process = self.context.Process(target=work)
        process.start()
        event.set()
        self.assertEqual(items.get(timeout=LIMIT_S), "done")
        process.join(LIMIT_S)

    def test_terminate(self) -> None:
        process = self.context.Process(target=time.sleep, args=(60,))
        process.start()
        process.terminate()
        process.join(LIMIT_S)
        self.assertEqual(process.exitcode, -signal.SIGTERM)


class SpawnedProcesses(Processes, unittest.TestCase):
    method = "spawn"


class SharedMemory(unittest.TestCase):
    def test_anonymous_pages_are_shared_after_fork(self) -> None:
        shared = mmap.mmap(-1, 8192)
        pid = os.fork()
        if pid == 0:
            shared[:5] = b"child"
            shared[8191] = 7
            os._exit(0)
        os.waitpid(pid, 0)
        self.assertEqual((shared[:5], shared[8191]), (b"child", 7))
        shared.close()

    def test_a_private_mapping_is_not(self) -> None:
        private = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        private[0] = 1
        pid = os.fork()
        if pid == 0:
            private[0] = 2
            os._exit(private[0])
        self.assertEqual((os.waitpid(pid, 0)[1] >> 8, private[0]), (2, 1))

    def test_a_file_mapped_shared_agrees_with_read_and_write(self) -> None:
        with open("mapped", "wb+", buffering=0) as file:
            file.write(bytes(10000))
            mapped = mmap.mmap(file.fileno(), 10000)
            mapped[5000:5005] = b"store"
            self.assertEqual(os.pread(file.fileno(), 5, 5000), b"store")
            os.pwrite(file.fileno(), b"write", 100)
            self.assertEqual(mapped[100:105], b"write")
            done = run(
                PYTHON,
                "-c",
                "f = open('mapped', 'rb+'); f.seek(7000); f.write(b'other'); f.seek(5000); print(f.read(5))",
            )
            self.assertEqual(done.stdout, "b'store'\n")
            self.assertEqual(mapped[7000:7005], b"other")
            mapped.flush()
            mapped.close()

    def test_named_memory_between_processes(self) -> None:
        memory = multiprocessing.shared_memory.SharedMemory(create=True, size=4096)
        try:
            context = multiprocessing.get_context("fork")
            processes = [context.Process(target=fill, args=(memory.name, at)) for at in range(4)]
            for process in processes:
                process.start()
            for process in processes:
                process.join(LIMIT_S)
            assert memory.buf is not None
            self.assertEqual(bytes(memory.buf[:4]), b"\1\2\3\4")
        finally:
            memory.close()
            memory.unlink()

    def test_memfd_and_seals(self) -> None:
        descriptor = os.memfd_create("name", os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, 4096)
        mapped = mmap.mmap(descriptor, 4096)
        mapped[:3] = b"abc"
        self.assertEqual(os.pread(descriptor, 3, 0), b"abc")
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        with self.assertRaises(PermissionError):
            os.ftruncate(descriptor, 0)
        mapped.close()
        os.close(descriptor)


class Waiting(unittest.TestCase):
    def setUp(self) -> None:
        self.reader, self.writer = os.pipe()

    def tearDown(self) -> None:
        os.close(self.reader)
        os.close(self.writer)

    def test_poll_and_select(self) -> None:
        poll = select.poll()
        poll.register(self.reader, select.POLLIN)
        self.assertEqual(poll.poll(0), [])
        self.assertEqual(select.select([self.reader], [self.writer], [], 0)[1], [self.writer])
        os.write(self.writer, b"x")
        self.assertEqual(poll.poll(LIMIT_S * 1000), [(self.reader, select.POLLIN)])
        self.assertEqual(select.select([self.reader], [], [], LIMIT_S)[0], [self.reader])

    def test_epoll_level_edge_and_oneshot(self) -> None:
        with select.epoll() as epoll:
            epoll.register(self.reader, select.EPOLLIN)
            os.write(self.writer, b"x")
            self.assertEqual(epoll.poll(LIMIT_S), [(self.reader, select.EPOLLIN)])
            self.assertEqual(epoll.poll(0), [(self.reader, select.EPOLLIN)])
            epoll.modify(self.reader, select.EPOLLIN | select.EPOLLET)
            self.assertEqual([len(epoll.poll(0)), len(epoll.poll(0))], [1, 0])
            os.write(self.writer, b"y")
            self.assertEqual([len(epoll.poll(LIMIT_S)), len(epoll.poll(0))], [1, 0])
            epoll.modify(self.reader, select.EPOLLIN | select.EPOLLONESHOT)
            self.assertEqual([len(epoll.poll(0)), len(epoll.poll(0))], [1, 0])

    def test_eventfd_counts(self) -> None:
        descriptor = os.eventfd(3, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        os.eventfd_write(descriptor, 4)
        self.assertEqual(os.eventfd_read(descriptor), 7)
        with self.assertRaises(BlockingIOError):
            os.eventfd_read(descriptor)
        os.close(descriptor)

    def test_a_full_pipe_blocks_until_it_is_read(self) -> None:
        data = bytes(300_000)
        got: list[int] = []

        def drain() -> None:
            left = len(data)
            while left:
                got.append(len(os.read(self.reader, 65536)))
                left -= got[-1]

        thread = threading.Thread(target=drain)
        thread.start()
        self.assertEqual(os.write(self.writer, data), len(data))
        thread.join(LIMIT_S)
        self.assertEqual(sum(got), len(data))


OWNER = """
import fcntl, sys
f = open('lock', 'w+b')
fcntl.lockf(f, fcntl.LOCK_EX)
print('locked', flush=True)
sys.stdin.read()
"""

APPENDER = """
import os, sys
f = os.open('log', os.O_WRONLY | os.O_APPEND | os.O_CREAT)
for n in range(200):
    os.write(f, (sys.argv[1] * 60 + '\\n').encode())
"""


class Locks(unittest.TestCase):
    def child(self, code: str) -> str:
        return run(PYTHON, "-c", "import fcntl, os, struct\nf = open('lock', 'w+b')\n" + code).stdout

    def test_a_lock_keeps_others_out_until_it_is_freed(self) -> None:
        tries = "try: fcntl.{0}(f, {1}); print('taken')\nexcept OSError as e: print(e.errno)"
        flags = "fcntl.LOCK_EX | fcntl.LOCK_NB"
        with open("lock", "w+b") as file:
            for call in ("flock", "lockf"):
                getattr(fcntl, call)(file, fcntl.LOCK_EX)
                self.assertEqual(self.child(tries.format(call, flags)), f"{errno.EAGAIN}\n")
                getattr(fcntl, call)(file, fcntl.LOCK_UN)
                self.assertEqual(self.child(tries.format(call, flags)), "taken\n")

    def test_a_waiting_lock_is_granted_when_its_owner_ends(self) -> None:
        with subprocess.Popen([PYTHON, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
            assert owner.stdout is not None and owner.stdin is not None
            self.assertEqual(owner.stdout.readline(), b"locked\n")
            with open("lock", "w+b") as file:
                timer = threading.Timer(0.05, owner.stdin.close)
                timer.start()
                fcntl.lockf(file, fcntl.LOCK_EX)
                timer.join(LIMIT_S)
                self.assertEqual(owner.wait(LIMIT_S), 0)

    def test_who_holds_a_record(self) -> None:
        with open("lock", "w+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX, 10, 100)
            flock = "struct.pack('hhqqi4x', fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)"
            answer = self.child(f"print(struct.unpack('hhqqi4x', fcntl.fcntl(f, fcntl.F_GETLK, {flock})))")
            held = (fcntl.F_WRLCK, os.SEEK_SET, 100, 10, os.getpid())
            self.assertEqual(answer, f"{held}\n")
            self.assertEqual(struct.calcsize("hhqqi4x"), 32)

    def test_appends_of_two_processes_stay_whole(self) -> None:
        children = [subprocess.Popen([PYTHON, "-c", APPENDER, letter]) for letter in "ab"]
        self.assertEqual([child.wait(LIMIT_S) for child in children], [0, 0])
        with open("log") as file:
            lines = file.read().splitlines()
        self.assertEqual((lines.count("a" * 60), lines.count("b" * 60), len(lines)), (200, 200, 400))
        os.unlink("log")  # whose order is anybody's


class Sqlite(unittest.TestCase):
    CODE = """
import sqlite3, sys
connection = sqlite3.connect("two.db", timeout=60, isolation_level=None)
for number in range(int(sys.argv[2])):
    connection.execute("begin immediate")
    value = connection.execute("select n from total").fetchone()[0]
    connection.execute("update total set n = ?", (value + 1,))
    connection.execute("insert into log (who) values (?)", (sys.argv[1],))
    connection.execute("commit")
"""

    def two_writers(self, journal: str) -> None:
        for suffix in ("", "-wal", "-shm", "-journal"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink("two.db" + suffix)
        connection = sqlite3.connect("two.db", isolation_level=None)
        self.assertEqual(connection.execute(f"pragma journal_mode={journal}").fetchone(), (journal,))
        connection.execute("create table total (n integer)")
        connection.execute("create table log (who text)")
        connection.execute("insert into total values (0)")
        writers = [subprocess.Popen([PYTHON, "-c", self.CODE, name, "30"]) for name in ("a", "b")]
        self.assertEqual([writer.wait(LIMIT_S) for writer in writers], [0, 0])
        self.assertEqual(connection.execute("select n from total").fetchone(), (60,))
        counted = connection.execute("select who, count(*) from log group by who order by who").fetchall()
        self.assertEqual(counted, [("a", 30), ("b", 30)])
        self.assertEqual(connection.execute("pragma integrity_check").fetchone(), ("ok",))
        connection.close()
        os.unlink("two.db")

    def test_rollback_journal(self) -> None:
        self.two_writers("delete")

    def test_write_ahead_log(self) -> None:
        self.two_writers("wal")


if __name__ == "__main__":
    unittest.main(verbosity=2)
