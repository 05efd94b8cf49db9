"""The keys that the ssh configuration names, as far as their public halves tell.

The public half is in the file beside the key, and can be read without a passphrase.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path


def is_file(path: Path) -> bool:
    """Return whether a file is there; False in a directory that this user may not look into."""
    return os.path.isfile(path)  # noqa: PTH113 - Path's raises there before Python 3.14


def is_readable(identity: Path) -> bool:
    """Return whether either half can be read; that of a key in an agent may be here alone."""
    return os.access(identity, os.R_OK) or os.access(_public_half(identity), os.R_OK)


def kind(identity: Path) -> str | None:
    """Return the key's type (`ssh-ed25519`): None without a key, "unknown" without public half."""
    fields = _public_fields(identity)
    if fields:
        return fields[0].decode(errors="replace")
    return "unknown" if is_file(identity) else None


def public_blob(identity: Path) -> bytes | None:
    """Return the public half as an agent has it; None if there is no such file."""
    try:
        return base64.b64decode(_public_fields(identity)[1], validate=True)
    except (IndexError, ValueError):
        return None


def _public_fields(identity: Path) -> list[bytes]:
    try:
        return _public_half(identity).read_bytes().split()
    except OSError:
        return []


def _public_half(identity: Path) -> Path:
    return identity if identity.suffix == ".pub" else Path(f"{identity}.pub")
