"""How calls travel; README.md says what is where."""

import os

# gRPC writes reports of its own to stderr, several for each connection that fails, where farcall says one line.
# It reads this when it is imported: INFO shows the handshakes that a server refuses.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
