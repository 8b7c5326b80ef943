"""A child's session gets its parent's handles, and shares their open file descriptions."""

import errno

import pytest

from farcall.v1.file_pb2 import InheritRequest, OpenRequest, ReadDirectoryRequest
from servers.service import Session
from tests.unit.file.client import CREATE, DIRECTORY, READ, WRITE, Client, at


def inherit(client: Client, heir: Session, secret: bytes = b"s" * 16) -> None:
    client.call(InheritRequest(target_session=heir.number, target_secret=secret))


@pytest.fixture
def heir(client: Client) -> Session:
    return client.as_user(0)


def descriptions(client: Client) -> int:
    rows: int = client.service.tree.store.value("SELECT count(*) FROM description")
    return rows


def test_handles_have_the_same_numbers_and_rights(client: Client, heir: Session) -> None:
    reader, writer = client.open("/big"), client.open("/new", WRITE | CREATE)
    inherit(client, heir)
    with client.acting(heir):
        assert client.read(reader, 0, 4) == bytes(range(4))
        client.append(writer, b"child")
        with client.fails(errno.EBADF):
            client.read(writer)
        with client.fails(errno.EINVAL):
            client.call(OpenRequest(place=at("/big"), handle=reader, flags=READ))
    assert client.get("/new") == b"child"
    assert descriptions(client) == 2


def test_a_description_lives_as_long_as_any_of_its_handles(client: Client, heir: Session) -> None:
    handle = client.open("/doomed", READ | WRITE | CREATE)
    client.write(handle, 0, b"still there")
    client.unlink("/doomed")
    inherit(client, heir)
    client.close(handle)
    client.restart()
    with client.acting(heir):
        assert client.read(handle) == b"still there"
        client.close(handle)
        with client.fails(errno.EBADF):
            client.read(handle)
    assert descriptions(client) == 0
    assert client.service.tree.store.value("SELECT count(*) FROM inode WHERE nlink = 0") == 0


def test_the_end_of_one_session_leaves_the_other_its_handles(client: Client, heir: Session) -> None:
    handle, listing = client.open("/a/f"), client.open("/a", READ | DIRECTORY)
    client.rename("/a/f", "/a/g")
    inherit(client, heir)
    with client.service.ledger.transaction():
        client.service.session_ended(client.session)
        client.service.ledger.end_session(client.session.number)
    with client.acting(heir):
        assert client.path_of(handle) == b"/a/g"
        assert client.read(handle) == b"lower data"
        assert [entry.name for entry in client.entries(listing)] == [b".", b"..", b"deep", b"g"]
    with client.service.ledger.transaction():
        client.service.session_ended(heir)
    assert descriptions(client) == 0
    with client.acting(heir), client.fails(errno.EBADF):
        client.call(ReadDirectoryRequest(handle=listing, entries_max=1))


def test_only_a_fresh_session_of_the_same_peer_inherits(client: Client, heir: Session) -> None:
    client.open("/a/f")
    with client.fails(errno.EPERM):
        inherit(client, heir, b"t" * 16)
    with client.fails(errno.EPERM):
        inherit(client, client.as_user(7))
    with client.fails(errno.EPERM):
        client.call(InheritRequest(target_session=1 << 40, target_secret=b"s" * 16))
    with client.fails(errno.EINVAL):
        inherit(client, client.session)
    inherit(client, heir)
    with client.fails(errno.EINVAL):
        inherit(client, heir)


def test_nothing_to_inherit_is_no_error(client: Client, heir: Session) -> None:
    inherit(client, heir)
    client.open("/a/f")
    inherit(client, heir)


def test_a_rolled_back_inheritance_leaves_nothing(client: Client, heir: Session) -> None:
    handle = client.open("/a/f")
    with pytest.raises(ZeroDivisionError), client.service.ledger.transaction():
        client.service.handlers[125](
            client.session, InheritRequest(target_session=heir.number, target_secret=heir.secret)
        )
        client.service.session_ended(client.session)
        raise ZeroDivisionError
    with client.acting(heir), client.fails(errno.EBADF):
        client.read(handle)
    inherit(client, heir)
    client.close(handle)
    with client.acting(heir):
        assert client.read(handle) == b"lower data"
        client.close(handle)
    assert descriptions(client) == 0
