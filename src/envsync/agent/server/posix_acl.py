"""POSIX ACLs, which a directory may hand down to everything that is made in it.

Where there is one, the group bits of a mode are only a mask: the owning group has of these what its
own entry of the ACL grants, which no chmod changes.
"""

from __future__ import annotations

import contextlib
import os
import struct
from typing import Iterator, Tuple, Union

_ACCESS, _DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
_VERSION = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
_OWNING_GROUP = 0x04

Target = Union[bytes, int]
"""A path, or a file descriptor."""


def has_acl(path: bytes) -> bool:
    """Return whether there is an ACL on a file or directory, or one that it hands down."""
    names = []
    with contextlib.suppress(OSError):
        names = os.listxattr(path)
    return _ACCESS in names or _DEFAULT in names


def grants(path: bytes, bits: int) -> bool:
    """Return whether the mode alone decides if the owning group has `bits` (of 7)."""
    return not any(bits & ~entry for entry, _, _ in _entries(path, _ACCESS))


def grant(target: Target, bits: int) -> bool:
    """Let the mode alone decide whether the owning group has `bits`; return whether it did not.

    So it is for what will be made in a directory, too. What the ACL says of others stays.
    """
    is_changed = False
    for name in (_ACCESS, _DEFAULT):
        for entry, at, acl in _entries(target, name):
            if bits & ~entry:
                changed = bytearray(acl)
                _ENTRY.pack_into(changed, at, _OWNING_GROUP, entry | bits, 0xFFFFFFFF)
                os.setxattr(target, name, bytes(changed))
                is_changed = True
    return is_changed


def _entries(target: Target, name: str) -> Iterator[Tuple[int, int, bytes]]:
    """Yield what the owning group's entry grants, where that is, and the ACL, if there is one."""
    acl = b""
    with contextlib.suppress(OSError):
        acl = os.getxattr(target, name)
    for at in range(_VERSION.size, len(acl) - _ENTRY.size + 1, _ENTRY.size):
        tag, bits, _ = _ENTRY.unpack_from(acl, at)
        if tag == _OWNING_GROUP:
            yield bits, at, acl
