"""`python -m servers file|memory|network --listen ADDR ...`: one server as a process. servers/README.md.

Exit status 0 after SIGTERM, SIGINT or SIGHUP; 125, with one line on stderr, for wrong usage or a server
that cannot start.
"""

import os

PARENT = os.getppid()
"""Read before the imports below: the sooner, the surer that it is still who started us."""

import argparse  # noqa: E402
import logging  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Final, NoReturn  # noqa: E402

from ipc.address import parse_address  # noqa: E402
from ipc.tls_files import VARIABLES, TlsFiles, TlsFilesError, chosen_files  # noqa: E402
from servers.entry import Options, StartError  # noqa: E402
from servers.process import Process, run  # noqa: E402
from servers.quota import QUOTA_BYTES_MAX  # noqa: E402

EXIT_FAILURE: Final = 125


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_FAILURE, f"farcall: {self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="serve", description="One of farcall's servers.", allow_abbrev=False)
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="file|memory|network", parser_class=_Parser)
    common = _Parser(add_help=False)
    common.add_argument("--listen", required=True, metavar="ADDR", help="HOST:PORT or unix:PATH")
    common.add_argument("--ring-only", action="store_true", help="no gRPC at unix:PATH, rings alone")
    common.add_argument("--insecure", action="store_true", help="listen beyond loopback without credentials")
    for option, variable in VARIABLES.items():
        common.add_argument(option, metavar="FILE", help=f"PEM; default: ${variable}")
    common.add_argument("--private", type=Path, metavar="DIR", help="end with the parent, remove DIR")
    common.add_argument("--parent", type=_natural, default=PARENT, metavar="PID", help="of --private")
    common.add_argument("--ready-fd", type=_natural, default=1, metavar="N", help='where to say "ready ADDR"')
    file = kinds.add_parser("file", parents=[common], allow_abbrev=False)
    file.add_argument("--state", type=Path, metavar="DIR", help="what guests write; default: temporary")
    file.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="read-only lower layer")
    memory = kinds.add_parser("memory", parents=[common], allow_abbrev=False)
    memory.add_argument("--quota", type=_natural, metavar="BYTES", help="default: half of the host's memory")
    network = kinds.add_parser("network", parents=[common], allow_abbrev=False)
    network.add_argument(
        "--egress",
        action="append",
        default=[],
        metavar="CIDR[:PORT]",
        help="what guests may reach; default: nothing",
    )
    network.add_argument("--publish", action="store_true", help="guests may have ports of this host")
    return parser


def _natural(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > QUOTA_BYTES_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to {QUOTA_BYTES_MAX}")
    return int(text)


def _tls(parser: argparse.ArgumentParser, options: argparse.Namespace) -> TlsFiles | None:
    given = {"--tls-cert": options.tls_cert, "--tls-key": options.tls_key, "--tls-ca": options.tls_ca}
    try:
        files = chosen_files(given, os.environ)
    except TlsFilesError as error:
        parser.error(str(error))
    if files is not None and options.insecure:
        parser.error("--insecure together with --tls-cert: with credentials or without?")
    return files


def main(arguments: list[str] | None = None) -> int:
    """The exit status. SystemExit on wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        address = parse_address(options.listen, listening=True)
    except ValueError as error:
        parser.error(f"--listen {error}")
    if options.ring_only and not address.is_unix:
        parser.error("--ring-only needs --listen unix:PATH")
    tls = _tls(parser, options)
    if not (address.is_loopback or options.insecure or tls is not None):
        parser.error(
            f"--listen {address} is beyond loopback: give --tls-cert, --tls-key and --tls-ca, "
            "or say --insecure if anyone may use this server"
        )
    logging.basicConfig(level=logging.WARNING, format=f"farcall: {options.kind} server: %(message)s")
    process = Process(
        kind=options.kind,
        address=address,
        options=_service(options),
        parent=options.parent,
        ring_only=options.ring_only,
        private=options.private,
        ready_fd=options.ready_fd,
        tls=tls,
    )
    try:
        run(process)
    except StartError as error:
        print(f"farcall: {options.kind} server: {error}", file=sys.stderr)
        return EXIT_FAILURE
    return 0


def _service(options: argparse.Namespace) -> Options:
    """What the service is made of."""
    if options.kind == "file":
        return Options(options.state, options.root)
    if options.kind == "memory":
        return Options(quota_bytes=options.quota)
    return Options(egress=tuple(options.egress), may_publish=options.publish)


if __name__ == "__main__":
    sys.exit(main())
