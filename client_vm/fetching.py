"""Chunks of remote files on their way, and the memfds made of them (caching_link asks, contents keeps)."""

import errno
import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from client_vm.consulting import GATEWAY_PEER, Downlink
from client_vm.contents import CHUNK_BYTES, Content, Contents
from farcall.v1.file_pb2 import Attributes, DonateResponse
from ipc.message import Reply, pack_call
from ipc.operations import BY_NAME

_PREAD: Final = BY_NAME["PRead"]


class Fetching:
    """One thread, trio's."""

    def __init__(self, link: Downlink, contents: Contents) -> None:
        self._link = link
        self._contents = contents

    def fetch(self, session: int, handle: int, content: Content, indices: range) -> None:
        """Asks for the chunks that are neither here nor on their way."""
        if content.memfd >= 0:
            return
        for index in indices:
            if index >= content.chunk_count or index in content.chunks or index in content.coming:
                continue
            content.coming[index] = []
            call = pack_call(_PREAD, handle, index * CHUNK_BYTES, content.room_of(index))
            call.session = session
            self._link.submit(call, GATEWAY_PEER, partial(self._fetched, content, index))

    def _fetched(self, content: Content, index: int, reply: Reply) -> None:
        if not reply.errno and not reply.refusal and len(reply.data) == content.room_of(index):
            self._contents.add(content, index, bytes(reply.data))
        for tell in content.coming.pop(index):
            tell()

    @staticmethod
    def when_here(content: Content, indices: Iterable[int], here: Callable[[], None]) -> None:
        """Calls `here` when none of the chunks is on its way any more."""
        awaited = [index for index in indices if index in content.coming]
        left = len(awaited)

        def one() -> None:
            nonlocal left
            left -= 1
            if not left:
                here()

        for index in awaited:
            content.coming[index].append(one)
        if not awaited:
            here()

    def donation(self, content: Content, attributes: Attributes) -> Reply:
        try:
            if content.memfd < 0 and not self._contents.seal(content):
                return Reply(errno.EOPNOTSUPP)
            descriptor = os.dup(content.memfd)
        except OSError:
            return Reply(errno.EOPNOTSUPP)  # no room for another descriptor: the file is read
        self._contents.touch(content, 0)
        return Reply(body=DonateResponse(attributes=attributes).SerializeToString(), descriptor=descriptor)
