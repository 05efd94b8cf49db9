"""Selects those of paramiko's algorithms that the ssh configuration allows.

A person who restricts them means every client: by a policy of the house, or because large
messages of a key exchange are lost on the way.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from paramiko.ssh_exception import IncompatiblePeer

# The same, or what is as good as that, by the names that an older OpenSSH has for it.
_OTHER_NAMES = {
    "curve25519-sha256@libssh.org": ("curve25519-sha256",),
    "mlkem768x25519-sha256": ("sntrup761x25519-sha512", "sntrup761x25519-sha512@openssh.com"),
}


class NoneAllowed(IncompatiblePeer):
    """The ssh configuration excludes all that paramiko has; the server was not even asked."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{key} of the ssh configuration leaves none that paramiko has")
        self.key = key


def allowed(own: Sequence[str], key: str, configured: str | None) -> tuple[str, ...]:
    """Those of `own`, in their order, that `configured` allows: a list of ssh_config, as
    `ssh -G` prints it, or as it is written there (`-aes*`).

    Raises `NoneAllowed` where none is left.
    """
    left = tuple(name for name in own if configured is None or _is_allowed(name, configured))
    if not left:
        raise NoneAllowed(key)
    return left


def _is_allowed(name: str, configured: str) -> bool:
    names = (name, *_OTHER_NAMES.get(name, ()))
    patterns = configured.lstrip("+-^").split(",")
    if configured.startswith("-"):
        return not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    # What "+" and "^" add, or put first, comes to what there is anyway.
    return configured.startswith(("+", "^")) or not set(patterns).isdisjoint(names)
