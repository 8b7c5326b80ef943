"""Open file descriptions on their way between sessions: tickets, what keeps them, what ends them."""

import errno

import pytest

from farcall.v1.file_pb2 import LOCK_KIND_FLOCK, LOCK_TYPE_WRITE, LendRequest, LockRequest, RedeemRequest
from servers.file import lending
from servers.service import Session
from tests.unit.file.client import CREATE, READ, WRITE, Client


@pytest.fixture
def reader(client: Client) -> Session:
    """Another session of the same peer."""
    return client.as_user(0)


def lend(client: Client, handle: int) -> bytes:
    ticket: bytes = client.call(LendRequest(handle=handle)).ticket
    assert len(ticket) == lending.TICKET_BYTES
    return ticket


def counts(client: Client) -> tuple[int, int, int]:
    """(descriptions, handles, tickets) in the store."""
    store = client.service.tree.store
    found = [store.value(f"SELECT count(*) FROM {table}") for table in ("description", "handle", "lent")]
    return found[0], found[1], found[2]


def end(client: Client, session: Session) -> None:
    with client.service.ledger.transaction():
        client.service.session_ended(session)
        client.service.ledger.end_session(session.number)


def test_the_description_is_shared(client: Client, reader: Session) -> None:
    handle = client.open("/new", READ | WRITE | CREATE)
    client.call(LockRequest(handle=handle, kind=LOCK_KIND_FLOCK, type=LOCK_TYPE_WRITE))
    ticket = lend(client, handle)
    client.unlink("/new")
    client.write(handle, 0, b"before")
    client.close(handle)
    client.restart()
    with client.acting(reader):
        mode = client.call(RedeemRequest(ticket=ticket, handle=77)).mode
        assert mode & 0o170000 == 0o100000
        assert client.read(77) == b"before"
        client.call(LockRequest(handle=77, kind=LOCK_KIND_FLOCK, type=LOCK_TYPE_WRITE))
        with client.fails(errno.EINVAL):
            client.call(RedeemRequest(ticket=ticket, handle=78))
        client.close(77)
    assert counts(client) == (0, 0, 0)
    assert client.service.tree.store.value("SELECT count(*) FROM inode WHERE nlink = 0") == 0


def test_a_ticket_may_be_kept_or_thrown_away(client: Client, reader: Session) -> None:
    handle = client.open("/big")
    ticket = lend(client, handle)
    with client.acting(reader):
        client.call(RedeemRequest(ticket=ticket, handle=5, keep=True))
        client.call(RedeemRequest(ticket=ticket, handle=6, keep=True))
        assert client.read(5, 0, 3) == client.read(6, 0, 3)
        with client.fails(errno.EINVAL):
            client.call(RedeemRequest(ticket=ticket, handle=6))
    client.call(RedeemRequest(ticket=ticket))
    client.close(handle)
    assert counts(client) == (1, 2, 0)


def test_false_tickets(client: Client) -> None:
    handle = client.open("/big")
    ticket = lend(client, handle)
    for false in (b"", ticket[:-1], bytes(lending.TICKET_BYTES)):
        with client.fails(errno.EINVAL):
            client.call(RedeemRequest(ticket=false, handle=9))
    with client.fails(errno.EBADF):
        client.call(LendRequest(handle=99))
    with client.fails(errno.EBADF):
        client.read(9)


def test_a_lender_may_end(client: Client, reader: Session) -> None:
    lender = client.as_user(0)
    with client.acting(lender):
        ticket = lend(client, client.open("/big"))
    end(client, lender)
    client.restart()
    with client.acting(reader):
        client.call(RedeemRequest(ticket=ticket, handle=1))
        assert client.read(1, 0, 4) == bytes(range(4))


def test_no_more_than_so_many(client: Client, reader: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lending, "LENT_MAX", 3)
    monkeypatch.setattr(lending, "LEFT_MAX", 2)
    lender = client.as_user(0)
    with client.acting(lender):
        handle = client.open("/big")
        tickets = [lend(client, handle) for _ in range(3)]
        with client.fails(errno.ETOOMANYREFS):
            client.call(LendRequest(handle=handle))
    end(client, lender)
    with client.acting(reader):
        with client.fails(errno.EINVAL):
            client.call(RedeemRequest(ticket=tickets[0], handle=1))
        client.call(RedeemRequest(ticket=tickets[1], handle=1))
        client.close(1)
    assert counts(client) == (1, 1, 1)
    for session in client.service.ledger.sessions():
        end(client, session)
    assert counts(client) == (0, 0, 0)
