"""The command `farcall`: its subcommands, each imported when it is asked for.

Messages of our own go to stderr, one line each, with "farcall: " before it; exit status 125 with them.
"""

import gc
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from client_vm.errors import EXIT_FAILURE, StartError

HELP: Final = """\
usage: farcall COMMAND [ARGUMENT...]

Runs unmodified x86-64 and ARM64 Linux programs whose files and memory are served by other processes, on this
host or on others.

  run [options] [--] PROG [ARG...]     runs a program
  serve file|memory|network --listen ADDR
                                       serves programs started elsewhere
  syscalls [--json]                    the table of system calls, and how each is supported
  bench [CASE...] [--json FILE]        measures; exit status 1 if a limit is missed
  doctor [ADDR]                        checks this host, and the server at ADDR
  certs DIR [--host HOST]...           makes certificates for servers and clients on other hosts
  --version                            the version
  --help                               this text; `farcall COMMAND --help` says more of each

ADDR is HOST:PORT or unix:PATH.
"""
SERVE_HELP: Final = """\
usage: farcall serve file    --listen ADDR [--state DIR] [--root DIR] [TLS]
       farcall serve memory  --listen ADDR [--quota BYTES] [TLS]
       farcall serve network --listen ADDR [--egress CIDR[:PORT]]... [--publish] [TLS]

Serves until SIGTERM, SIGINT or SIGHUP, and says "ready ADDR" on stdout once it does. ADDR is HOST:PORT or
unix:PATH; rings are served beside unix:PATH.

  --state DIR      keeps what guests write (default: nothing is kept)
  --root DIR       the guests' /, never written to (default: /)
  --quota BYTES    memory of all guests together (default: half of this host's)
  --egress CIDR    lets runs that ask for it reach that network, too, or one port of it: CIDR:PORT (default:
                   guests reach each other, and nothing else)
  --publish        lets runs take connections to ports of this host (run -p)
  --tls-cert FILE, --tls-key FILE, --tls-ca FILE
                   credentials at HOST:PORT: the server's certificate, its key, and the authority of the
                   clients (default: $FARCALL_TLS_CERT, $FARCALL_TLS_KEY, $FARCALL_TLS_CA)
  --insecure       listens beyond this host, without credentials
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status of `farcall ARGUMENTS...`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        # Ctrl-C during an import ends us without a traceback; runs have handlers of their own.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        status = _dispatch(words)
        if sys.stdout:  # None if the caller closed it
            sys.stdout.flush()
        return status
    except StartError as error:
        say(str(error))
        return error.status
    except BrokenPipeError:
        # Whoever read stdout has seen enough; Python's own flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_FAILURE
    except OSError as error:
        say(_one_line(error))
        return EXIT_FAILURE
    except Exception:
        # A bug: its place is worth more than one line.
        sys.excepthook(*sys.exc_info())
        return EXIT_FAILURE


def say(text: str) -> None:
    """Prints one line for the user. Nobody may be reading."""
    with suppress(OSError):
        os.write(2, f"farcall: {text}\n".encode(errors="surrogateescape"))


def _dispatch(words: list[str]) -> int:
    command, rest = (words[0], words[1:]) if words else ("", [])
    if command == "run":
        return _run(rest)
    if command == "serve":
        return _serve(rest)
    if command == "syscalls":
        from client_vm import syscall_table_page

        return syscall_table_page.main(rest)
    if command == "bench":
        from client_vm import bench

        return bench.main(rest)
    if command == "doctor":
        from client_vm import doctor

        return doctor.main(rest)
    if command == "certs":
        from client_vm import certificates
        from ipc.seams import HostClock

        return certificates.main(rest, HostClock())
    if command in ("--help", "-h", "help"):
        print(HELP, end="")
        return 0
    if command == "--version":
        from importlib import metadata

        print(f"farcall {metadata.version('farcall')}")
        return 0
    what = f"unknown command {command}" if command else "no command given"
    raise StartError(f"{what} (farcall --help)", EXIT_FAILURE)


def _run(words: list[str]) -> int:
    """Returns only if there is nothing to run."""
    # Modules are no garbage, and looking for some costs a tenth of their import. Each process of the run collects
    # from when it has all it needs, without them: it would visit, and so copy, every page its parent made.
    gc.disable()
    from client_vm.options import RUN_HELP, HelpWanted, parse_run

    try:
        options = parse_run(words, os.environ)
    except HelpWanted:
        print(RUN_HELP, end="")
        return 0
    from client_vm.kernel_process import run
    from ipc.seams import HostRandom

    status = run(options, HostRandom(), say)
    # Everything is ended already; taking the interpreter apart would add 30 ms to every run.
    os._exit(status)


def _serve(words: list[str]) -> int:  # noqa: RET503 - execv does not return
    """Becomes the server's process."""
    if not words:
        raise StartError("serve file, memory or network? (farcall serve --help)", EXIT_FAILURE)
    if "--help" in words or "-h" in words:
        print(SERVE_HELP, end="")
        return 0
    # -P: a file in the caller's directory must not stand in for a module.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "servers", *words])


def _one_line(error: OSError) -> str:
    name = f"{error.filename}: " if error.filename is not None else ""
    return name + (error.strerror or str(error))
