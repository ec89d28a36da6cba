"""Pieces of work that processes share without speaking to each other: a claim is a lock on one byte of a file.

POSIX record locks work between hosts on file systems that pass them on (NFS 4, Lustre with `flock`, GPFS). The kernel, or
the file server, frees a dead process's locks, so that there is no lease to renew and no clock to compare. Where a file
system has no locks every claim is granted: then two processes may do one piece, with the same result.
"""

import errno
import fcntl
import hashlib
import logging
import os
from pathlib import Path

logger = logging.getLogger(__name__)

FILE = ".claims"


class Claims:
    """Of one process. A forked child holds none of them."""

    def __init__(self, folder: Path):
        self._path = folder / FILE
        # one descriptor for all: closing any descriptor of a file frees all locks that the process has on it
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
        self._warned = False
        self.held: set[str] = set()

    @property
    def are_locks(self) -> bool:
        """False once the file system has refused one, at first or later: other processes' claims are not seen any more."""
        return not self._warned

    def take(self, name: str, *, wait: bool = False) -> bool:
        """Claim this piece; False if another process has it, or this one already. `wait`: until the other one is done."""
        if name in self.held:
            return False
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, _byte(name))
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            self._warn(error)
        self.held.add(name)
        return True

    def give_back(self, name: str) -> None:
        self.held.discard(name)
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, _byte(name))
        except OSError as error:  # a file server that is gone, say
            self._warn(error)

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            logger.warning(
                "%s: this file system has no locks (%s); two processes may compute one piece, with one result",
                *(self._path, error.strerror),
            )
        self._warned = True


def _byte(name: str) -> int:
    """Its own place for each name, below 2**56; the file stays empty."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest(), "little")
