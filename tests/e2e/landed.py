"""What already runs as a guest; the rest runs natively only, until the part it needs is there."""

DYNAMIC: set[tuple[str, str]] = set()
"""(architecture, name) of test_dynamic.py's lines."""
GUESTS: set[tuple[str, str]] = set()
"""(architecture, name) of tests/guests/cases.py's PROCESSES."""
LANGUAGES: set[tuple[str, str]] = set()
"""(architecture, name) of tests/guests/build_languages.py's PROGRAMS."""
