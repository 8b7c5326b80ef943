"""What already runs as a guest; the rest runs natively only, until the part it needs is there."""

from tests.e2e.lines import load

DYNAMIC: set[tuple[str, str]] = set()
"""(architecture, name) of programs/command_lines_dynamic.toml."""
EVERY_DYNAMIC = {(arch, line.name) for arch in ("x86_64", "arm64") for line in load()}
