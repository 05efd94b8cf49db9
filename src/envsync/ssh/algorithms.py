"""Selects the paramiko algorithms that the ssh configuration allows.

Whoever restricts them means every client: because of a site policy, or because large key exchange
messages get lost on the network.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from paramiko.ssh_exception import IncompatiblePeer

# The same algorithm, or one as good, under the name that an older OpenSSH has for it.
_OTHER_NAMES = {
    "curve25519-sha256@libssh.org": ("curve25519-sha256",),
    "mlkem768x25519-sha256": ("sntrup761x25519-sha512", "sntrup761x25519-sha512@openssh.com"),
}


class NoneAllowed(IncompatiblePeer):
    """The ssh configuration excludes all that paramiko has; nothing was sent to the server."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{key} of the ssh configuration allows none that paramiko supports")
        self.key = key


def allowed(own: Sequence[str], key: str, configured: str | None) -> tuple[str, ...]:
    """Return the names in `own` that `configured` allows, in their order.

    `configured` is a list of ssh_config, as `ssh -G` prints it or as the file has it (`-aes*`);
    None allows all. Raises `NoneAllowed` if nothing is left.
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
    # "+" and "^" only add names or put them first, so they exclude nothing.
    return configured.startswith(("+", "^")) or not set(patterns).isdisjoint(names)
