#!/bin/sh
# Generates farcall.v1.*_pb2 beside the .proto files. Run from anywhere; tests check freshness.
set -eu
cd "$(dirname "$0")"
PYTHON=${PYTHON:-../.venv/bin/python}
OUT=${1:-.}
"$PYTHON" -m grpc_tools.protoc -I . --python_out="$OUT" --pyi_out="$OUT" farcall/v1/*.proto
