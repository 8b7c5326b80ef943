"""Every limit of the transport, in one place. Full is an ordinary answer (STYLE: house rule 9)."""

from typing import Final

PROTOCOL_MIN: Final = 1
PROTOCOL_MAX: Final = 1

MAPPED_SIZE_AT: Final = 1 << 60
"""Where a mapped file's memfd (file.proto, FetchMapping) has the file's size, beyond every byte of the file."""

SOCKET_PATH_BYTES_MAX: Final = 107 - len(".ring")
"""Of unix:PATH: sun_path holds 108 bytes with its NUL (unix(7)); the ring's socket has a longer name."""
PORT_MAX: Final = 65_535
"""Of TCP and UDP."""
CAPABILITY_BYTES: Final = 16
"""Of the name of a socket at the network server: random, and good for who knows it."""

DATA_BYTES_MAX: Final = 1 << 20
"""Of one call's or reply's data."""
BODY_BYTES_MAX: Final = 64 << 10
"""Of one call's or reply's other fields, encoded."""
SLOTS_MAX: Final = 64
"""Of one session: calls that may be in flight with an identity."""
GROUPS_MAX: Final = 64
"""Supplementary groups in Credentials."""
EGRESS_RULES_MAX: Final = 256
"""In one Hello."""
DEFERRED_MAX: Final = 32
"""Of one session: deferred calls that wait at its server. One more, and the oldest is refused as OVERLOADED."""
UNARY_DEFERRED_MAX: Final = 512
"""Of one gRPC server: deferred calls that wait, each in an rpc of its own. More are OVERLOADED."""
STREAM_DEFERRED_MAX: Final = 4096
"""Of one Carry stream, beside the calls in execution. More are OVERLOADED."""
BATCH_CALLS_MAX: Final = 1024
"""Calls in one CarryRequest."""

RING_ENTRIES: Final = 64
"""Submissions (and completions) a ring holds; a power of two."""
RING_ARENA_BYTES: Final = 4 << 20
"""Bodies and data of the calls in flight on one ring."""
RING_SPIN_WORKER_US: Final = 50
RING_SPIN_SERVER_US: Final = 20
IDLE_SPIN_US: Final = 40
"""Of a worker that has nothing to do, before it sleeps."""

HELLO_TIMEOUT_S: Final = 5.0
"""How long a client waits for a server to appear."""
LEASE_MS: Final = 15_000
"""Life of a session that no control socket keeps alive."""
RENEW_INTERVAL_S: Final = 5.0
ANSWER_LEASE_MS: Final = 5_000
"""How long a client may believe answers that it keeps without another word of the server's. Below LEASE_MS."""
ANSWERS_LEASED_MAX: Final = 65_536
"""Inodes that the answers which one client keeps depend upon; beyond that answers are not to be kept."""
QUESTIONS_MAX: Final = 8
"""In one Consult."""
REFUSAL_RETRY_S: Final = 0.01
"""Pause before a call is offered again that was refused as OVERLOADED or NOT_READY."""
