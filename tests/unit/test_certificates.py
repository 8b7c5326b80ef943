"""`farcall certs`: what it makes, keeps and makes anew; and who a certificate says that one is."""

import stat
from pathlib import Path

import pytest
from cryptography import x509

from client_vm.certificates import AUTHORITY_DAYS, DAYS, Order, main, make
from client_vm.errors import StartError
from ipc.credentials import (
    CredentialsError,
    dns_names,
    load,
    principal_of,
    role_name,
    role_trouble,
    roles_in,
)
from ipc.seams import HostClock
from ipc.tls_files import TlsFiles, TlsFilesError, chosen_files

DAY_NS = 86400 * 10**9
ROLES = ("file", "memory", "network", "client")


class Days(HostClock):
    """The host's clock, so many days later."""

    def __init__(self, days: float) -> None:
        self._ns = int(days * DAY_NS)

    def realtime_ns(self) -> int:
        return super().realtime_ns() + self._ns


def files(folder: Path) -> TlsFiles:
    return TlsFiles(str(folder / "tls.crt"), str(folder / "tls.key"), str(folder / "ca.crt"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> set[str]:
    return set(dns_names(x509.load_pem_x509_certificate((folder / "tls.crt").read_bytes())))


def whats(lines: list[str]) -> dict[str, str]:
    """Whether each was made or kept, by role."""
    return {Path(line.split()[1].rstrip(",")).name: line.split()[0] for line in lines}


@pytest.mark.parametrize("role", ROLES)
def test_each_role_has_what_it_needs(tmp_path: Path, role: str) -> None:
    make(Order(tmp_path, {}), HostClock())
    load(files(tmp_path / role), role, HostClock())
    load(files(tmp_path / role), "", HostClock())
    for other in set(ROLES) - {role}:
        with pytest.raises(CredentialsError, match=f"it has the role {role}, not {other}"):
            load(files(tmp_path / role), other, HostClock())


def test_keys_are_their_owners_alone(tmp_path: Path) -> None:
    make(Order(tmp_path / "a" / "b", {}), HostClock())
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()}
    assert modes == {"tls.key": 0o600, "tls.crt": 0o644, "ca.crt": 0o644}
    assert all(
        stat.S_IMODE(path.stat().st_mode) == 0o700 for path in (tmp_path / "a").rglob("*") if path.is_dir()
    )
    assert len(contents(tmp_path)) == 2 + 3 * len(ROLES)


def test_again_is_nothing_new(tmp_path: Path) -> None:
    assert set(whats(make(Order(tmp_path, {}), HostClock())).values()) == {"made"}
    before = contents(tmp_path)
    assert set(whats(make(Order(tmp_path, {}), HostClock())).values()) == {"kept"}
    assert contents(tmp_path) == before


def test_more_names_extend(tmp_path: Path) -> None:
    make(Order(tmp_path, {"file": ("a.example",)}), HostClock())
    before = contents(tmp_path)
    lines = make(Order(tmp_path, {"file": ("10.0.0.7", "fd00::7")}, ("client", "alice")), HostClock())
    assert whats(lines) == {
        "file": "made",
        "memory": "kept",
        "network": "kept",
        "client": "kept",
        "alice": "made",
    }
    hosts = {"localhost", "127.0.0.1", "::1", "a.example", "10.0.0.7", "fd00::7"}
    assert {role_name(host, "file") for host in hosts} <= names(tmp_path / "file")
    after = contents(tmp_path)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"file/tls.crt", "file/tls.key"}
    load(files(tmp_path / "file"), "file", HostClock())


def test_what_is_broken_or_ends_soon_is_made_again(tmp_path: Path) -> None:
    make(Order(tmp_path, {}), HostClock())
    (tmp_path / "file" / "tls.key").write_bytes((tmp_path / "memory" / "tls.key").read_bytes())
    (tmp_path / "memory" / "tls.crt").write_bytes(b"nonsense")
    (tmp_path / "network" / "tls.key").unlink()
    lines = make(Order(tmp_path, {}), HostClock())
    assert whats(lines) == {"file": "made", "memory": "made", "network": "made", "client": "kept"}
    assert set(whats(make(Order(tmp_path, {}), Days(0.6 * DAYS))).values()) == {"kept"}
    assert set(whats(make(Order(tmp_path, {}), Days(0.7 * DAYS))).values()) == {"made"}


def test_dates(tmp_path: Path) -> None:
    make(Order(tmp_path, {}, days=3), HostClock())
    load(files(tmp_path / "client"), "client", Days(2.9))
    with pytest.raises(CredentialsError, match=r"tls.crt: expired on \d{4}-\d\d-\d\d"):
        load(files(tmp_path / "client"), "client", Days(3.1))
    with pytest.raises(CredentialsError, match="not valid before"):
        load(files(tmp_path / "client"), "client", Days(-1))


def test_an_authority_ends(tmp_path: Path) -> None:
    """No certificate outlives it, and after it nothing is made."""
    make(Order(tmp_path, {}), HostClock())
    late = Days(AUTHORITY_DAYS - 10)
    make(Order(tmp_path, {}), late)
    load(files(tmp_path / "client"), "client", late)
    with pytest.raises(CredentialsError, match="expired"):
        load(files(tmp_path / "client"), "client", Days(AUTHORITY_DAYS + 1))
    before = contents(tmp_path)
    with pytest.raises(StartError, match=r"expired on .*: begin another directory"):
        make(Order(tmp_path, {}), Days(AUTHORITY_DAYS + 1))
    assert contents(tmp_path) == before


def test_an_authority_without_its_key_is_left_alone(tmp_path: Path) -> None:
    make(Order(tmp_path, {}), HostClock())
    (tmp_path / "ca" / "tls.key").unlink()
    before = contents(tmp_path)
    with pytest.raises(StartError, match="not a certificate and its key"):
        make(Order(tmp_path, {}), HostClock())
    assert contents(tmp_path) == before


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--host", "b.example", "--host=memory=10.0.0.9", "--client", "Bob", "--days", "30", str(tmp_path)]
    assert main(words, HostClock()) == 0
    assert whats(capsys.readouterr().out.splitlines()).keys() == {"file", "memory", "network", "bob"}
    assert role_name("b.example", "network") in names(tmp_path / "network")
    assert role_name("10.0.0.9", "memory") in names(tmp_path / "memory")
    assert role_name("10.0.0.9", "file") not in names(tmp_path / "file")
    assert names(tmp_path / "bob") == {"bob.client.farcall"}


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["a", "b"],
        ["--hosts", "x", "a"],
        ["a", "--host"],
        ["a", "--host", "client=x"],
        ["a", "--host", "../x"],
        ["a", "--host", ""],
        ["a", "--client", "ca"],
        ["a", "--client", "File"],
        ["a", "--client", "x/y"],
        ["a", "--client", ".."],
        ["a", "--client", "x" * 300],
        ["a", "--days", "0"],
        ["a", "--days", "1e3"],
        ["a", "--days", "99999999"],
    ],
)
def test_wrong_usage_makes_nothing(tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StartError):
        main(words, HostClock())
    assert list(tmp_path.iterdir()) == []


def test_roles_stand_in_names() -> None:
    assert role_name("File.Example", "file") == "file.example.file.farcall"
    assert role_name("127.0.0.1", "memory") == "127-0-0-1.memory.farcall"
    assert role_name("::1", "file") == "0000-0000-0000-0000-0000-0000-0000-0001.file.farcall"
    found = roles_in(["a", "a.b.file.farcall", "c.file.farcall", "file.farcall", "d.king.farcall", "e.farcall"])
    assert found == {"file": ["a.b", "c"]}
    assert principal_of(["x", "alice.client.farcall"]) == "client:alice"
    assert principal_of(["a.client.farcall", "b.client.farcall"]) == principal_of(["a.file.farcall"]) == ""
    assert role_trouble(["a.client.farcall", "b.client.farcall"], "client") == "it names 2 clients"
    assert role_trouble(["example"], "client") == "it has no role of farcall's"


def test_options_before_variables() -> None:
    variables = {"FARCALL_TLS_CERT": "a", "FARCALL_TLS_KEY": "b", "FARCALL_TLS_CA": "c"}
    assert chosen_files({}, {}) is chosen_files({}, {"FARCALL_TLS_CERT": ""}) is None
    assert chosen_files({"--tls-key": "x"}, variables) == TlsFiles("a", "x", "c")
    with pytest.raises(TlsFilesError, match="FARCALL_TLS_KEY without --tls-cert and --tls-ca"):
        chosen_files({"--tls-cert": None}, {"FARCALL_TLS_KEY": "b"})
