#!/bin/sh
# Builds the programs that farcall ships for both architectures, beside their sources or in the folder that is
# given: hello-x86_64 and hello-arm64 from hello.c, which greets, and bench-* from bench.c, which measures. The compiler (PyPI's ziglang) gives the same bytes everywhere, but not in every
# version: the committed files come from ziglang 0.17.0. Tests check freshness.
set -eu
out=$(realpath "${1:-$(dirname "$0")}")
PYTHON=$(realpath -s "${PYTHON:-$(dirname "$0")/../../.venv/bin/python}")
cd "$(dirname "$0")"
for program in hello:-Os bench:-O2; do for target in x86_64:x86_64 arm64:aarch64; do
  "$PYTHON" -m ziglang cc -target "${target#*:}-linux-musl" -std=c11 "${program#*:}" -g0 -s -Wall -Wextra -Werror \
    -ffreestanding -nostdlib -static -fno-builtin -fno-stack-protector -fno-sanitize=all -fno-unwind-tables \
    -fno-asynchronous-unwind-tables -Wl,--build-id=none "${program%:*}.c" -o "$out/${program%:*}-${target%:*}"
  chmod 755 "$out/${program%:*}-${target%:*}"
done; done
