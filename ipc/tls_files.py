"""Which files hold credentials: the options of every command that speaks TLS, and their variables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

VARIABLES: Final = {
    "--tls-cert": "FARCALL_TLS_CERT",
    "--tls-key": "FARCALL_TLS_KEY",
    "--tls-ca": "FARCALL_TLS_CA",
}
"""The options, and what stands in for one that is not given; an empty variable does not."""


class TlsFilesError(Exception):
    """Some are named, others missing; one line."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: a certificate, its key, and the authority that stands behind the peers."""

    certificate: str
    key: str
    authority: str


def chosen_files(given: Mapping[str, str | None], environ: Mapping[str, str]) -> TlsFiles | None:
    """The files that the options name, or else the environment; None if none is named. TlsFilesError."""
    named = {option: given.get(option) or environ.get(variable, "") for option, variable in VARIABLES.items()}
    missing = [option for option, path in named.items() if not path]
    if len(missing) == len(VARIABLES):
        return None
    if missing:
        one = next(option for option, path in named.items() if path)
        source = one if given.get(one) else VARIABLES[one]
        raise TlsFilesError(f"{source} without {' and '.join(missing)}")
    return TlsFiles(*named.values())
