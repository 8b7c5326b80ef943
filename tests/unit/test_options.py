"""The command line of `farcall run`, and where it puts each server."""

import os

import pytest

from client_vm.errors import StartError
from client_vm.options import HelpWanted, Published, RunOptions, merge_environment, parse_run
from client_vm.placement import Placement, place
from ipc.address import Address, parse_address

UNIX = "unix:/run/f"
TCP = "127.0.0.1:7"


def parse(line: str, **environ: str) -> RunOptions:
    return parse_run(line.split(), environ)


def test_a_program_alone() -> None:
    assert parse("prog") == RunOptions(b"prog", (b"prog",))


def test_options_end_at_the_first_word_that_is_none() -> None:
    options = parse("-w /a prog -w /b --root /c -- --help")
    assert (options.directory, options.root) == (b"/a", None)
    assert options.arguments == (b"prog", b"-w", b"/b", b"--root", b"/c", b"--", b"--help")


def test_options_end_at_two_dashes() -> None:
    assert parse("-w /a -- -w x").arguments == (b"-w", b"x")
    assert parse("-- --").arguments == (b"--",)
    assert parse("-").program == b"-"


def test_every_option() -> None:
    line = "--root r --state s -e A=1 -e B -w /w --transport grpc --seed 7 --server-timeout 2.5 -- p a"
    assert parse(line) == RunOptions(
        program=b"p",
        arguments=(b"p", b"a"),
        transport="grpc",
        root="r",
        state="s",
        environment=((b"A", b"1"), (b"B", None)),
        directory=b"/w",
        seed=7,
        server_timeout_ms=2500,
    )


@pytest.mark.parametrize("line", ["--root=/x p", "--root /x p", "--root /y --root /x p"])
def test_ways_to_give_a_value(line: str) -> None:
    assert parse(line).root == "/x"


@pytest.mark.parametrize("line", ["-e A=b=c p", "-eA=b=c p", "--env A=b=c p", "--env=A=b=c p"])
def test_ways_to_give_a_variable(line: str) -> None:
    assert parse(line).environment == ((b"A", b"b=c"),)


def test_a_value_may_look_like_an_option() -> None:
    assert parse("--root --state p").root == "--state"
    assert parse_run(["-e", "A=", "p"], {}).environment == ((b"A", b""),)


def test_bytes_that_are_no_text_survive() -> None:
    word = os.fsdecode(b"\xff\xfe")
    options = parse_run(["-e", f"A={word}", word, word], {})
    assert (options.program, options.arguments[1]) == (b"\xff\xfe", b"\xff\xfe")
    assert options.environment == ((b"A", b"\xff\xfe"),)


@pytest.mark.parametrize("line", ["--help", "-h", "-w /a --help prog", "--help --bogus"])
def test_help(line: str) -> None:
    with pytest.raises(HelpWanted):
        parse(line)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "no program given"),
        ("--", "no program given"),
        ("-e A=b", "no program given"),
        ("--bogus p", "unknown option --bogus"),
        ("--bogus=x p", "unknown option --bogus"),
        ("-x p", "unknown option -x"),
        ("-v /a:/b p", "unknown option -v"),
        ("--roo /a p", "unknown option --roo"),
        ("--root", "--root needs a value"),
        ("-e", "-e needs a value"),
        ("-e =x p", "no variable's name"),
        ("--root= p", "--root: an empty path"),
        ("--state= p", "--state: an empty path"),
        ("-w a p", "-w 'a': not an absolute path"),
        ("--insecure=yes p", "--insecure takes no value"),
        ("--transport tcp p", "--transport tcp: not one of ring, grpc, inproc"),
        ("--seed -1 p", "--seed '-1': not a number from 0 to"),
        ("--seed 99999999999999999999 p", "--seed '99999999999999999999': not a number"),
        ("--seed x p", "--seed 'x': not a number"),
        ("--server-timeout 0 p", "--server-timeout '0': not a number of seconds"),
        ("--server-timeout nan p", "--server-timeout 'nan': not a number"),
        ("--server-timeout inf p", "--server-timeout 'inf': not a number"),
        ("--server-timeout -3 p", "--server-timeout '-3': not a number"),
        (f"--root /a --file {UNIX} p", "--root together with --file"),
        (f"--state /a --file {UNIX} p", "--state together with --file"),
        (f"--transport ring --file {TCP} p", "--transport ring with --file 127.0.0.1:7: rings need unix:PATH"),
        (f"--transport ring --memory {TCP} p", "--transport ring with --memory 127.0.0.1:7"),
        (f"--transport inproc --memory {UNIX} p", "--transport inproc together with --memory"),
        ("--file nowhere p", "--file 'nowhere': not an address"),
        ("--memory 10.0.0.1:7 p", "--memory 10.0.0.1:7 is beyond this host"),
        ("-p 80 p", "-p '80': not [ADDR:]HOSTPORT:GUESTPORT"),
        ("-p :80 p", "-p ':80': not"),
        ("-p x:80 p", "-p 'x:80': x is no port"),
        ("-p 65536:80 p", "is no port"),
        ("-p 80:0 p", "guests do not listen at port 0"),
        ("-p 1.2.3:80:80 p", "1.2.3 is no address"),
        ("-p ::80:80 p", "is no address"),
        ("--egress 10.0.0.1/8 p", "--egress 10.0.0.1/8"),
        ("--egress 10.0.0.0/8: p", "nothing is no port"),
        ("--egress 10.0.0.0/8:0 p", "0 is no port"),
        (f"--transport inproc --network {UNIX} p", "--transport inproc together with --network"),
    ],
)
def test_wrong_usage(line: str, message: str) -> None:
    with pytest.raises(StartError) as caught:
        parse(line)
    assert caught.value.status == 125
    assert str(caught.value).startswith(message) or message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_variables_stand_in_for_addresses() -> None:
    options = parse("p", FARCALL_FILE=UNIX, FARCALL_MEMORY=TCP)
    assert (options.file, options.memory) == (parse_address(UNIX), parse_address(TCP))
    assert parse(f"--file {TCP} p", FARCALL_FILE=UNIX).file == parse_address(TCP)
    assert parse("p", FARCALL_FILE="").file is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--root /a p", "--root together with FARCALL_FILE"),
        ("--transport inproc p", "--transport inproc together with FARCALL_FILE"),
    ],
)
def test_errors_name_the_variable(line: str, message: str) -> None:
    with pytest.raises(StartError, match=message):
        parse(line, FARCALL_FILE=UNIX)


@pytest.mark.parametrize(
    ("text", "published"),
    [
        ("8080:80", Published(b"", 8080, 80)),
        ("0:80", Published(b"", 0, 80)),
        ("10.1.2.3:8080:80", Published(bytes((10, 1, 2, 3)), 8080, 80)),
        ("[::1]:8080:80", Published(bytes(15) + b"\x01", 8080, 80)),
    ],
)
def test_ports_of_the_host(text: str, published: Published) -> None:
    assert parse(f"-p {text} -p1:2 p").publish == (published, Published(b"", 1, 2))


def test_what_guests_may_reach() -> None:
    assert parse("--egress 10.0.0.0/8 --egress=[::/0]:443 p").egress == ("10.0.0.0/8", "[::/0]:443")


def test_beyond_this_host_if_said_aloud() -> None:
    assert parse("--insecure --file 10.0.0.1:7 p").file == Address(host="10.0.0.1", port=7)


@pytest.mark.parametrize(
    ("line", "placed"),
    [
        ("p", [("ring", None), ("ring", None), ("ring", None)]),
        ("--transport ring p", [("ring", None), ("ring", None), ("ring", None)]),
        ("--transport grpc p", [("grpc", None), ("grpc", None), ("grpc", None)]),
        ("--transport inproc p", [("inproc", None), ("inproc", None), ("inproc", None)]),
        (f"--file {UNIX} p", [("ring", UNIX), ("ring", None), ("ring", None)]),
        (f"--file {TCP} p", [("grpc", TCP), ("ring", None), ("ring", None)]),
        (f"--memory {TCP} p", [("ring", None), ("grpc", TCP), ("ring", None)]),
        (f"--network {TCP} p", [("ring", None), ("ring", None), ("grpc", TCP)]),
        (f"--transport grpc --file {UNIX} p", [("grpc", UNIX), ("grpc", None), ("grpc", None)]),
        (f"--transport ring --file {UNIX} --memory {UNIX} p", [("ring", UNIX), ("ring", UNIX), ("ring", None)]),
    ],
)
def test_placement(line: str, placed: list[tuple[str, str | None]]) -> None:
    def placement(kind: str, transport: str, address: str | None) -> Placement:
        return Placement(kind, transport, parse_address(address) if address else None)

    kinds = ("file", "memory", "network")
    assert place(parse(line)) == tuple(placement(kind, *each) for kind, each in zip(kinds, placed, strict=True))


def test_processes_are_started_for_servers_without_address() -> None:
    assert [each.is_process for each in place(parse(f"--file {UNIX} p"))] == [False, True, True]
    assert not any(each.is_process for each in place(parse("--transport inproc p")))


def test_environment() -> None:
    caller = {b"A": b"1", b"B": b"2", b"C": b"3"}
    changes = [(b"B", b"x=y"), (b"D", b""), (b"A", None), (b"E", None), (b"D", b"4")]
    assert merge_environment(caller, changes) == [b"A=1", b"B=x=y", b"C=3", b"D=4"]
    assert caller[b"B"] == b"2"
