#!/bin/sh
# Keeps the protocol as it is now as the description of a release: proto/release.sh 0.2. What a release has, all
# later versions understand (tests/style/test_released.py). Ring and gRPC between kernel process and workers
# (kernel.proto) are left out: both are the same program.
set -eu
cd "$(dirname "$0")/.."
BUF=${BUF:-.venv/bin/buf}
"$BUF" build --exclude-path proto/farcall/v1/kernel.proto --exclude-source-info -o "proto/released/$1.binpb"
