"""What a Python program asks of its kernel: threads, children, signals, shared memory, locks, waiting.

    python3 python_features.py [-v] [CLASS...]      run by the distribution's python3 as a guest, and natively

Everything stays in the current directory; a test's name tells what must hold.
"""

import asyncio
import concurrent.futures
import concurrent.futures.process
import contextlib
import ctypes
import errno
import faulthandler
import multiprocessing
import multiprocessing.shared_memory
import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from collections.abc import Iterator
from types import FrameType
from typing import Any

LIMIT_S = 60

PYTHON = sys.executable

ROUNDS = 50


def run(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(arguments, text=True, capture_output=True, timeout=LIMIT_S, check=False, **options)


class Threads(unittest.TestCase):
    def test_a_lock_keeps_every_update(self) -> None:
        total, lock = [0], threading.Lock()

        def work() -> None:
            for _ in range(2000):
                with lock:
                    total[0] += 1

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT_S)
        self.assertEqual(total[0], 16000)

    def test_a_queue_passes_everything_on(self) -> None:
        items: queue.Queue[int | None] = queue.Queue(4)
        seen: list[int] = []

        def consume() -> None:
            while (item := items.get(timeout=LIMIT_S)) is not None:
                seen.append(item)

        thread = threading.Thread(target=consume)
        thread.start()
        for number in range(500):
            items.put(number, timeout=LIMIT_S)
        items.put(None)
        thread.join(LIMIT_S)
        self.assertEqual(seen, list(range(500)))

    def test_conditions_events_barriers_and_timeouts(self) -> None:
        barrier = threading.Barrier(5)
        event = threading.Event()
        order: list[str] = []

        def work() -> None:
            barrier.wait(LIMIT_S)
            event.wait(LIMIT_S)
            order.append("after")

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        barrier.wait(LIMIT_S)
        order.append("before")
        event.set()
        for thread in threads:
            thread.join(LIMIT_S)
        self.assertEqual(order, ["before"] + ["after"] * 4)
        begin = time.monotonic()
        self.assertFalse(threading.Event().wait(0.05))
        self.assertGreaterEqual(time.monotonic() - begin, 0.05)
        self.assertFalse(threading.Semaphore(0).acquire(timeout=0.01))

    def test_a_computing_thread_does_not_stop_the_others(self) -> None:
        ended = threading.Event()
        counts = [0]

        def compute() -> None:
            while not ended.is_set():
                counts[0] += 1

        thread = threading.Thread(target=compute)
        thread.start()
        for _ in range(5):
            time.sleep(0.01)
        ended.set()
        thread.join(LIMIT_S)
        self.assertGreater(counts[0], 0)

    def test_a_blocking_read_stops_only_its_thread(self) -> None:
        reader, writer = os.pipe()
        got: list[bytes] = []
        thread = threading.Thread(target=lambda: got.append(os.read(reader, 100)))
        thread.start()
        self.assertEqual(sum(range(100000)), 4999950000)
        os.write(writer, b"for the thread")
        thread.join(LIMIT_S)
        self.assertEqual(got, [b"for the thread"])
        os.close(reader)
        os.close(writer)

    def test_locals_and_native_ids_are_a_threads_own(self) -> None:
        local = threading.local()
        seen: set[int] = set()
        values: list[int] = []
        barrier = threading.Barrier(6)

        def work(number: int) -> None:
            local.value = number
            barrier.wait(LIMIT_S)
            seen.add(threading.get_native_id())
            values.append(local.value)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT_S)
        self.assertEqual((len(seen), sorted(values)), (6, list(range(6))))
        self.assertEqual(threading.get_native_id(), os.getpid())


class Children(unittest.TestCase):
    def test_output_and_status(self) -> None:
        done = run("sh", "-c", "echo out; echo err >&2; exit 3")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (3, "out\n", "err\n"))
        self.assertEqual(run("sh", "-c", "kill -9 $$").returncode, -9)

    def test_much_goes_both_ways(self) -> None:
        text = "a line of text\n" * 40000
        done = run("tr", "a-z", "A-Z", input=text)
        self.assertEqual((done.returncode, done.stdout), (0, text.upper()))

    def test_a_missing_program_is_reported_by_the_parent(self) -> None:
        with self.assertRaises(FileNotFoundError) as raised:
            run("/missing/program")
        self.assertEqual(raised.exception.errno, errno.ENOENT)
        with self.assertRaises(PermissionError):
            run("/")
        with self.assertRaises(NotADirectoryError):
            run("true", cwd=__file__)

    def test_a_timeout_kills(self) -> None:
        with self.assertRaises(subprocess.TimeoutExpired):
            subprocess.run(["sleep", "30"], timeout=0.1, check=False)

    def test_only_what_is_passed_is_inherited(self) -> None:
        reader, writer = os.pipe()
        code = f"import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[-2:]); os.write({writer}, b'x')"
        done = run(PYTHON, "-c", code, pass_fds=[writer])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(os.read(reader, 10), b"x")
        self.assertNotEqual(run(PYTHON, "-c", f"import os; os.write({writer}, b'x')").returncode, 0)
        os.close(reader)
        os.close(writer)

    def test_environment_directory_session_and_group(self) -> None:
        done = run("sh", "-c", "echo $A-$HOME; pwd", env={"A": "1", "PATH": os.environ["PATH"]}, cwd="/")
        self.assertEqual(done.stdout, "1-\n/\n")
        code = "import os; print(os.getpid() == os.getsid(0) == os.getpgid(0))"
        self.assertEqual(run(PYTHON, "-c", code, start_new_session=True).stdout, "True\n")
        self.assertEqual(
            run(PYTHON, "-c", "import os; os.setpgid(0, 0); print(os.getpgrp() == os.getpid())").stdout, "True\n"
        )

    def test_fork_and_wait(self) -> None:
        reader, writer = os.pipe()
        pids = []
        for number in range(10):
            pid = os.fork()
            if pid == 0:
                os.write(writer, bytes([number]))
                os._exit(number)
            pids.append(pid)
        statuses = {}
        for _ in pids:
            pid, status = os.wait()
            statuses[pid] = os.waitstatus_to_exitcode(status)
        self.assertEqual([statuses[pid] for pid in pids], list(range(10)))
        self.assertEqual(sorted(os.read(reader, 100)), list(range(10)))
        with self.assertRaises(ChildProcessError):
            os.wait()
        os.close(reader)
        os.close(writer)

    def test_waitid_leaves_the_child_if_asked(self) -> None:
        pid = os.spawnlp(os.P_NOWAIT, "sh", "sh", "-c", "exit 5")
        for options in (os.WEXITED | os.WNOWAIT, os.WEXITED):
            info = os.waitid(os.P_PID, pid, options)
            assert info is not None
            self.assertEqual((info.si_pid, info.si_status, info.si_code), (pid, 5, os.CLD_EXITED))

    def test_posix_spawn_with_file_actions(self) -> None:
        actions = [(os.POSIX_SPAWN_OPEN, 1, "spawned", os.O_WRONLY | os.O_CREAT, 0o644)]
        pid = os.posix_spawnp("echo", ["echo", "hello"], dict(os.environ), file_actions=actions)
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        with open("spawned") as file:
            self.assertEqual(file.read(), "hello\n")
        with self.assertRaises(FileNotFoundError):
            os.posix_spawn("/missing", ["missing"], {})

    def test_an_offset_is_shared_after_fork(self) -> None:
        with open("shared", "wb+", buffering=0) as file:
            for number in range(5):
                pid = os.fork()
                if pid == 0:
                    file.write(b"child %d\n" % number)
                    os._exit(0)
                os.waitpid(pid, 0)
                file.write(b"parent %d\n" % number)
            self.assertEqual(file.tell(), 5 * (8 + 9))
            file.seek(0)
            lines = file.read().split(b"\n")
        self.assertEqual(lines[:2] + lines[-3:], [b"child 0", b"parent 0", b"child 4", b"parent 4", b""])

    def test_a_pipeline_with_sigpipe(self) -> None:
        first = subprocess.Popen(["yes"], stdout=subprocess.PIPE)
        second = subprocess.Popen(["head", "-n", "2"], stdin=first.stdout, stdout=subprocess.PIPE)
        assert first.stdout is not None
        first.stdout.close()
        self.assertEqual(second.communicate(timeout=LIMIT_S)[0], b"y\ny\n")
        self.assertEqual(first.wait(LIMIT_S), -signal.SIGPIPE)

    def test_fork_in_a_program_with_threads(self) -> None:
        stop = threading.Event()
        thread = threading.Thread(target=stop.wait, args=(LIMIT_S,))
        thread.start()
        for number in range(5):
            self.assertEqual(run("sh", "-c", f"exit {number}").returncode, number)
        stop.set()
        thread.join(LIMIT_S)


def square(number: int) -> int:
    return number * number


class Asynchronous(unittest.TestCase):
    def test_children_that_talk(self) -> None:
        async def talk(word: str) -> tuple[bytes, int | None]:
            pipe = asyncio.subprocess.PIPE
            child = await asyncio.create_subprocess_exec("tr", "a-z", "A-Z", stdin=pipe, stdout=pipe)
            output, _ = await child.communicate(word.encode())
            return output, child.returncode

        async def main() -> list[tuple[bytes, int | None]]:
            return await asyncio.wait_for(asyncio.gather(*map(talk, ("one", "two", "three"))), LIMIT_S)

        self.assertEqual(asyncio.run(main()), [(b"ONE", 0), (b"TWO", 0), (b"THREE", 0)])

    def test_a_shell_that_is_killed(self) -> None:
        async def main() -> int | None:
            child = await asyncio.create_subprocess_shell("exec sleep 60")
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(child.wait(), 0.05)
            child.kill()
            return await asyncio.wait_for(child.wait(), LIMIT_S)

        self.assertEqual(asyncio.run(main()), -signal.SIGKILL)

    def test_threads_timers_and_signals(self) -> None:
        async def main() -> list[str]:
            loop = asyncio.get_running_loop()
            order: list[str] = []
            got = asyncio.Event()
            loop.add_signal_handler(signal.SIGUSR1, got.set)
            loop.call_later(0.02, order.append, "later")
            order.append(await asyncio.to_thread(lambda: "thread"))
            os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.wait_for(got.wait(), LIMIT_S)
            await asyncio.sleep(0.03)
            loop.remove_signal_handler(signal.SIGUSR1)
            return sorted(order)

        self.assertEqual(asyncio.run(main()), ["later", "thread"])


class Futures(unittest.TestCase):
    def test_threads(self) -> None:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            self.assertEqual(list(pool.map(square, range(50))), [n * n for n in range(50)])
            with self.assertRaises(ZeroDivisionError):
                pool.submit(divmod, 1, 0).result(LIMIT_S)

    def test_processes(self) -> None:
        context = multiprocessing.get_context("fork")
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
            self.assertEqual(list(pool.map(square, range(20), chunksize=3)), [n * n for n in range(20)])

    def test_a_process_that_dies_breaks_the_pool(self) -> None:
        context = multiprocessing.get_context("fork")
        broken = concurrent.futures.process.BrokenProcessPool
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool, self.assertRaises(broken):
            pool.submit(os._exit, 3).result(LIMIT_S)


class Signals(unittest.TestCase):
    def setUp(self) -> None:
        self.seen: list[int] = []

    @contextlib.contextmanager
    def handling(self, number: signal.Signals) -> Iterator[None]:
        def handler(received: int, frame: FrameType | None) -> None:
            self.seen.append(received)

        old = signal.signal(number, handler)
        try:
            yield
        finally:
            signal.signal(number, old)

    def test_each_signal_is_handled_once(self) -> None:
        with self.handling(signal.SIGUSR1), self.handling(signal.SIGUSR2):
            for _ in range(ROUNDS):
                os.kill(os.getpid(), signal.SIGUSR1)
                signal.raise_signal(signal.SIGUSR2)
        self.assertEqual((self.seen.count(signal.SIGUSR1), self.seen.count(signal.SIGUSR2)), (ROUNDS, ROUNDS))

    def test_a_timer_interrupts_a_sleep_that_goes_on(self) -> None:
        with self.handling(signal.SIGALRM):
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            begin = time.monotonic()
            time.sleep(0.1)
            self.assertGreaterEqual(time.monotonic() - begin, 0.1)
        self.assertEqual(self.seen, [signal.SIGALRM])

    def test_a_handler_that_raises_ends_a_read(self) -> None:
        def handler(number: int, frame: FrameType | None) -> None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise InterruptedError("by the handler")

        reader, writer = os.pipe()
        old = signal.signal(signal.SIGALRM, handler)
        try:
            for _ in range(5):
                with self.assertRaises(InterruptedError):
                    # Again and again: what comes right before the read is noticed only after it.
                    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
                    os.read(reader, 1)
        finally:
            signal.signal(signal.SIGALRM, old)
            os.close(reader)
            os.close(writer)

    def test_blocked_signals_wait(self) -> None:
        with self.handling(signal.SIGUSR1):
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
            os.kill(os.getpid(), signal.SIGUSR1)
            self.assertEqual(signal.sigpending(), {signal.SIGUSR1})
            self.assertEqual(self.seen, [])
            info = signal.sigtimedwait([signal.SIGUSR1], LIMIT_S)
            assert info is not None
            self.assertEqual((info.si_signo, info.si_pid), (signal.SIGUSR1, os.getpid()))
            self.assertIsNone(signal.sigtimedwait([signal.SIGUSR1], 0))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
        self.assertEqual(self.seen, [])

    def test_sigchld_and_a_wakeup_descriptor(self) -> None:
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with self.handling(signal.SIGCHLD):
            old = signal.set_wakeup_fd(writer)
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            ready, _, _ = select.select([reader], [], [], LIMIT_S)
            signal.set_wakeup_fd(old)
            self.assertEqual(os.read(reader, 10) if ready else b"", bytes([signal.SIGCHLD]))
            os.waitpid(pid, 0)
        os.close(reader)
        os.close(writer)
        self.assertEqual(self.seen, [signal.SIGCHLD])

    def test_a_fault_ends_the_process_and_is_told(self) -> None:
        done = run(PYTHON, "-X", "faulthandler", "-c", "import ctypes; ctypes.string_at(0)")
        self.assertEqual(done.returncode, -signal.SIGSEGV)
        self.assertIn("Fatal Python error: Segmentation fault", done.stderr)
        self.assertFalse(faulthandler.is_enabled())

    def test_keyboard_interrupt(self) -> None:
        # Short sleeps: a signal right before one is noticed only after it.
        code = "import time; print('up', flush=True)\nwhile True: time.sleep(0.1)"
        with subprocess.Popen([PYTHON, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
            assert child.stdout is not None
            self.assertEqual(child.stdout.readline(), b"up\n")
            child.send_signal(signal.SIGINT)
            _, stderr = child.communicate(timeout=LIMIT_S)
        self.assertEqual(child.returncode, -signal.SIGINT)
        self.assertIn(b"KeyboardInterrupt", stderr)

    def test_a_thread_can_be_meant(self) -> None:
        with self.handling(signal.SIGUSR1):
            ident = threading.main_thread().ident
            assert ident is not None
            thread = threading.Thread(target=signal.pthread_kill, args=(ident, signal.SIGUSR1))
            thread.start()
            thread.join(LIMIT_S)
        self.assertEqual(self.seen, [signal.SIGUSR1])


class Ask(unittest.TestCase):
    def test_who_and_where(self) -> None:
        self.assertEqual(os.readlink("/proc/self/exe"), os.path.realpath(PYTHON))
        with open("/proc/self/cmdline", "rb") as file:
            self.assertIn(b"python_features.py", file.read())
        self.assertIn(os.getpid(), (int(name) for name in os.listdir("/proc") if name.isdigit()))
        self.assertGreater(len(os.sched_getaffinity(0)), 0)
        self.assertGreater(os.times().elapsed, 0)
        self.assertEqual(ctypes.CDLL(None).getpid(), os.getpid())
        with tempfile.TemporaryDirectory(dir=".") as folder:
            self.assertEqual(os.listdir(folder), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
