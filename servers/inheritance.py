"""A session hands what it holds to that of a child (DESIGN section 1, Spares): who may."""

import errno
import hmac

from servers.service import ErrnoError, Ledger, Session


def heir(ledger: Ledger, session: Session, number: int, secret: bytes) -> Session:
    """The session of that number, proved by the secret of its Hello to be the caller's to give to.

    ErrnoError: EPERM (no such session, another peer's, or another secret); EINVAL (the caller itself).
    """
    target = ledger.session(number)
    if target is None or target.principal != session.principal:
        raise ErrnoError(errno.EPERM, "no session of this peer")
    if not hmac.compare_digest(target.secret, secret):
        raise ErrnoError(errno.EPERM, "not the secret")
    if target.number == session.number:
        raise ErrnoError(errno.EINVAL, "its own heir")
    return target
