"""The kernel process's lease on answers of a remote file server: its own session, Consult, recalls.

`Consulting` asks on behalf of workers' sessions and says which answers may be kept (Answers keeps them);
what is asked and what for is caching_link's.
"""

import errno
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import trio
from google.protobuf.message import DecodeError

from client_vm.answers import Answers
from farcall.v1.file_pb2 import (
    AwaitRecallRequest,
    AwaitRecallResponse,
    Consulted,
    ConsultRequest,
    ConsultResponse,
    Question,
)
from farcall.v1.session_pb2 import (
    REFUSAL_MALFORMED,
    REFUSAL_NOT_READY,
    REFUSAL_OVERLOADED,
    REFUSAL_UNSUPPORTED,
    SERVER_KIND_FILE,
    Credentials,
    HelloRequest,
    HelloResponse,
)
from ipc.asking import Submits, ask
from ipc.endpoint import Peer
from ipc.greeting import ConnectError
from ipc.limits import PROTOCOL_MAX, PROTOCOL_MIN, REFUSAL_RETRY_S
from ipc.message import Call, Reply, encode_request
from ipc.operations import BY_NAME
from ipc.seams import Clock

RENEW_S: Final = 2.0
"""What is left of the lease when it is renewed, if anybody still asks."""
ERRNO_MAX: Final = 4095
OURS: Final = (BY_NAME["Consult"].opcode, BY_NAME["AwaitRecall"].opcode)
"""Operations that no worker is let use: it could make all others wait."""
GATEWAY_PEER: Final = Peer("kernel", "grpc")
"""Who makes the calls that no worker made; links do not look at it."""

Hello = Callable[[HelloRequest, float | None], Awaitable[HelloResponse]]


class Downlink(Submits, Protocol):
    """What GrpcLink is to us."""

    def closed(self, session: int, peer: Peer) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A worker's call."""

    call: Call
    peer: Peer
    complete: Callable[[Reply], None]
    into: memoryview | None


class Consulting:
    """One thread, trio's."""

    def __init__(self, link: Downlink, clock: Clock, answers: Answers, again: Callable[[Asked], None]) -> None:
        """`again` makes a call once more that waited for an answer."""
        self._link = link
        self._clock = clock
        self._answers = answers
        self._again = again
        self.holder = 0
        """Our own session, which has the lease; 0: none, nothing is kept."""
        self._coming: dict[Hashable, list[Asked]] = {}
        """Asked already -> who waits for the answer."""
        self._renewing = False

    # The lease

    async def hold(self, hello: Hello, credentials: Credentials) -> bool:
        """Has a session of our own, and forgets what the server recalls, until that session is lost. False: the
        server offers nothing of the kind."""
        request = HelloRequest(
            protocol_min=PROTOCOL_MIN, protocol_max=PROTOCOL_MAX, kind=SERVER_KIND_FILE, credentials=credentials
        )
        try:
            response = await hello(request, None)
        except ConnectError:
            return False
        if not set(OURS) <= set(response.opcodes):
            return False
        self.holder = response.session
        try:
            await self._heed_recalls()
        finally:
            self.holder = 0
            self._answers.reset()
        return True

    async def _heed_recalls(self) -> None:
        """Until the session is lost."""
        answers = self._answers
        while True:
            request = AwaitRecallRequest(grant=answers.grant, acknowledged=answers.recalls)
            reply = await self._ask(encode_request(request))
            if reply.refusal in (REFUSAL_OVERLOADED, REFUSAL_NOT_READY):
                await trio.sleep(REFUSAL_RETRY_S)
                continue
            if reply.refusal or reply.errno:
                return
            try:
                response = AwaitRecallResponse.FromString(reply.body)
            except DecodeError:
                return
            answers.recalled(response.grant, response.recalls, response.inodes)

    async def _ask(self, call: Call) -> Reply:
        """One call of our own session."""
        call.session = self.holder
        return await ask(self._link, call, GATEWAY_PEER)

    def renew(self, session: int) -> None:
        """The lease, if it is needed and about to end."""
        if self._renewing or self._answers.until_s - self._clock.monotonic_s() > RENEW_S:
            return
        self._renewing = True
        self.consult(session, (), self._renewed)

    def _renewed(self, _answered: list[Consulted] | Reply, _certain: bool) -> None:
        self._renewing = False

    # Consulting

    def consult(
        self,
        session: int,
        questions: Iterable[tuple[int, bytes]],
        done: Callable[[list[Consulted] | Reply, bool], None],
        coming: Hashable = None,
    ) -> None:
        """Asks on behalf of a session. `done` gets the answers, and whether they may be kept (those with inodes);
        or the refusal of all. Then those are heard who have waited for `coming`."""
        request = ConsultRequest(holder=self.holder, grant=self._answers.grant)
        for opcode, body in questions:
            request.questions.append(Question(opcode=opcode, body=body))
        call = encode_request(request)
        call.session = session
        sent_s = self._clock.monotonic_s()
        if coming is not None:
            self._coming[coming] = []

        def answered(reply: Reply) -> None:
            done(*self._taken(reply, len(request.questions), sent_s))
            for waiting in self._coming.pop(coming, ()) if coming is not None else ():
                self._again(waiting)

        self._link.submit(call, GATEWAY_PEER, answered)

    def _taken(self, reply: Reply, count: int, sent_s: float) -> tuple[list[Consulted] | Reply, bool]:
        """(answers, whether they may be kept), or (refusal, False)."""
        if reply.refusal or reply.errno:
            if reply.refusal == REFUSAL_UNSUPPORTED:
                self.holder = 0
            return reply, False
        try:
            response = ConsultResponse.FromString(reply.body)
        except DecodeError:
            return Reply(refusal=REFUSAL_MALFORMED), False
        answers = list(response.answers)
        if len(answers) != count or any(not 0 <= each.errno <= ERRNO_MAX for each in answers):
            return Reply(refusal=REFUSAL_MALFORMED), False
        certain = self._answers.heard(response.grant, response.recalls, response.lease_ms, sent_s)
        return answers, certain

    def remember(self, key: Hashable, answer: Consulted, body: bytes) -> None:
        """A certain answer."""
        if answer.inodes and answer.errno not in (errno.EBADF, errno.EMSGSIZE):
            self._answers.keep(key, answer.errno, body, answer.inodes, self._clock.monotonic_s())

    def is_coming(self, key: Hashable) -> bool:
        return key in self._coming

    def waits(self, asked: Asked, key: Hashable) -> bool:
        """Whether that was asked already: the call is made again when the answer is there."""
        waiting = self._coming.get(key)
        if waiting is None:
            return False
        waiting.append(asked)
        return True
