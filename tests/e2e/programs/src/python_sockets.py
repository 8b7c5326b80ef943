"""What Python programs do with unix sockets: servers, pools, journals, descriptors passed along.

    python3 python_sockets.py [-v] [CLASS...]      run by the distribution's python3 as a guest, and natively

Everything stays in the current directory; a test's name tells what must hold.
"""

import array
import asyncio
import contextlib
import logging
import logging.handlers
import multiprocessing
import os
import selectors
import socket
import socketserver
import subprocess
import sys
import threading
import unittest
from multiprocessing.connection import Client, Listener
from typing import Any

LIMIT_S = 60


def answer(address: str, key: bytes) -> None:
    """A child that talks to a listener."""
    with Client(address, authkey=key) as connection:
        connection.send({"numbers": list(range(5000))})
        os._exit(connection.recv() != sum(range(5000)))


class Upper(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


class UnixServers(unittest.TestCase):
    def test_asyncio(self) -> None:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while line := await reader.readline():
                writer.write(line[::-1])
                await writer.drain()
            writer.close()

        async def ask(number: int) -> int:
            reader, writer = await asyncio.open_unix_connection("asyncio.socket")
            for turn in range(10):
                writer.write(b"%d %d\n" % (number, turn))
                self.assertEqual(await reader.readexactly(4), b"\n%d %d" % (turn, number))
            writer.close()
            await writer.wait_closed()
            return number

        async def serve() -> None:
            server = await asyncio.start_unix_server(handle, "asyncio.socket")
            async with server:
                self.assertEqual(await asyncio.gather(*map(ask, range(8))), list(range(8)))

        asyncio.run(asyncio.wait_for(serve(), LIMIT_S))
        os.unlink("asyncio.socket")

    def test_a_process_for_each_connection(self) -> None:
        class Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
            pass

        with Server("forking.socket", Upper) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            for text in (b"one\n", b"two\n", b"three\n"):
                with socket.socket(socket.AF_UNIX) as own, own.makefile("rb") as answers:
                    own.connect("forking.socket")
                    own.sendall(text)
                    own.shutdown(socket.SHUT_WR)  # the server's children have the socket, too
                    self.assertEqual(answers.readline(), text.upper())
            server.shutdown()
            thread.join(LIMIT_S)
        os.unlink("forking.socket")

    def test_a_selector_over_many(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening, contextlib.ExitStack() as open_:
            listening.bind(b"\0selector-%d" % os.getpid())
            listening.listen(20)
            listening.setblocking(False)
            owns = [open_.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) for _ in range(20)]
            for own in owns:
                own.connect(listening.getsockname())
                own.send(b"%d" % own.fileno())
            selector = open_.enter_context(selectors.DefaultSelector())
            selector.register(listening, selectors.EVENT_READ)
            heard: set[int] = set()
            while len(heard) < len(owns):
                for key, _ in selector.select(LIMIT_S):
                    if key.fileobj is listening:
                        taken = open_.enter_context(listening.accept()[0])
                        selector.register(taken, selectors.EVENT_READ)
                    else:
                        assert isinstance(key.fileobj, socket.socket)
                        heard.add(int(key.fileobj.recv(9)))
            self.assertEqual(heard, {own.fileno() for own in owns})


class UnixConnections(unittest.TestCase):
    def test_multiprocessing_with_a_key(self) -> None:
        with Listener("listener.socket", "AF_UNIX", authkey=b"secret") as listener:
            child = multiprocessing.Process(target=answer, args=(listener.address, b"secret"))
            child.start()
            with listener.accept() as connection:
                connection.send(sum(connection.recv()["numbers"]))
            child.join(LIMIT_S)
            self.assertEqual(child.exitcode, 0)

    def test_a_fork_server_passes_its_children_what_they_need(self) -> None:
        context = multiprocessing.get_context("forkserver")
        with context.Pool(2) as pool:
            self.assertEqual(pool.map(abs, range(-5, 0)), [5, 4, 3, 2, 1])

    def test_a_manager(self) -> None:
        with multiprocessing.Manager() as manager:
            shared: Any = manager.dict()
            shared["list"] = [1, 2]
            self.assertEqual(shared.copy(), {"list": [1, 2]})

    def test_open_files_are_passed(self) -> None:
        code = (
            "import os, socket, sys\n"
            "own = socket.socket(fileno=int(sys.argv[1]))\n"
            "_, (file, pipe), _, _ = socket.recv_fds(own, 9, 2)\n"
            "os.write(pipe, os.read(file, 5).upper())\n"
        )
        ours, theirs = socket.socketpair()
        reader, writer = os.pipe()
        with ours, theirs, open("passed.txt", "w+b", buffering=0) as file:
            file.write(b"first second")
            file.seek(0)
            child = subprocess.Popen(
                [sys.executable, "-c", code, str(theirs.fileno())], pass_fds=[theirs.fileno()]
            )
            socket.send_fds(ours, [b"!"], [file.fileno(), writer])
            os.close(writer)
            self.assertEqual(child.wait(LIMIT_S), 0)
            self.assertEqual(os.read(reader, 99), b"FIRST")
            self.assertEqual(os.read(reader, 99), b"")
            self.assertEqual(file.tell(), 5)
        os.close(reader)
        os.unlink("passed.txt")


class UnixDatagrams(unittest.TestCase):
    def test_a_journal(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
            journal.bind("journal.socket")
            handler = logging.handlers.SysLogHandler("journal.socket")
            logger = logging.getLogger("journal")
            logger.addHandler(handler)
            logger.error("disk %s is full", "sda")
            self.assertEqual(journal.recv(99), b"<11>disk sda is full\0")
            handler.close()
        os.unlink("journal.socket")

    def test_who_sends_is_told(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
            notified.bind(b"\0notify-%d" % os.getpid())
            notified.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            pid = os.fork()
            if not pid:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
                    own.sendto(b"READY=1", notified.getsockname())
                os._exit(0)
            os.waitpid(pid, 0)
            data, control, _, address = notified.recvmsg(99, socket.CMSG_SPACE(12))
            self.assertEqual(data, b"READY=1")
            self.assertEqual(address, None)
            ((_, kind, credentials),) = control
            self.assertEqual(kind, socket.SCM_CREDENTIALS)
            self.assertEqual(list(array.array("i", credentials)), [pid, os.getuid(), os.getgid()])


if __name__ == "__main__":
    unittest.main(verbosity=2)
