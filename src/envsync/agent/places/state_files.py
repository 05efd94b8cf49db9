"""Reads and writes the files of the state, so that a crash leaves them whole.

The files are those that `agent.places.layout` lists.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shlex
import stat
from typing import Any, Dict, Optional

from envsync.agent.server.accounts import is_own, user_name
from envsync.agent.server.filesystem import mount_of
from envsync.errors import PreflightRefused
from envsync.files.whole import sync_directory, whole_file

NONE_FOR_THIS_USER = FileNotFoundError, NotADirectoryError, PermissionError
"""What may count as "there is none"; after any other OSError, there may be something."""
_DAMAGE = frozenset((errno.EIO, errno.EISDIR, errno.ELOOP, errno.EUCLEAN, errno.EBADMSG))
"""What makes a file count as damaged: a bad block, or something else in its place. After any other
OSError, a later try may return it."""
_DIGEST = "digest"


def group_writes(status: os.stat_result) -> bool:
    """Return whether a group can write in a directory and owns what is created there."""
    return bool(status.st_mode & stat.S_ISGID and status.st_mode & stat.S_IWGRP)


def _closed(path: bytes) -> PreflightRefused:
    """Return the error for a file that another user left there, such as root by a push."""
    owner, user = user_name(os.stat(path).st_uid), user_name()
    return PreflightRefused(
        f"{os.fsdecode(path)} there belongs to {owner} and is closed to {user}",
        hint="have it given back there: "
        f"sudo chown {shlex.quote(user)} {shlex.quote(os.fsdecode(path))}",
    )


def open_state_file(path: bytes, flags: int) -> int:
    """Open a permanent file of the state and return its descriptor.

    A new file is private, or the group's if the group publishes. Raises `PreflightRefused` if the
    file is a link (through one, a member could have any file written to), a directory, or closed to
    this user.
    """
    try:
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR):
            what = "link" if error.errno == errno.ELOOP else "directory"
            raise PreflightRefused(
                f"{os.fsdecode(path)} there is a {what}, but must be envsync's own file",
                hint="see who made it (ls -l), then remove it there",
            ) from error
        if error.errno == errno.EACCES and os.path.isfile(path):
            raise _closed(path) from error
        raise
    try:
        _let_group(fd, os.path.dirname(path))
    except BaseException:
        os.close(fd)
        raise
    return fd


def _let_group(fd: int, directory: bytes) -> None:
    status = os.fstat(fd)
    if is_own(status) and group_writes(os.stat(directory)):
        os.fchmod(fd, 0o660)


def write_whole(path: bytes, *parts: bytes) -> None:
    """Replace a file so that a reader, or a crash, finds either the old bytes or the new ones.

    The group can write the file if it publishes here.
    """
    with whole_file(path, sync=True) as file:
        _let_group(file.fileno(), os.path.dirname(path))
        file.writelines(parts)


def append_line(fd: int, line: bytes) -> None:
    """Add a line to a file, durably. It is one write, so lines of several processes never mix."""
    size_bytes = os.fstat(fd).st_size
    # A full disk or a power cut left half a line, so this one begins on a new line.
    is_cut = size_bytes and os.pread(fd, 1, size_bytes - 1) != b"\n"
    line = b"\n%s\n" % line if is_cut else line + b"\n"
    if os.write(fd, line) != len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(fd)


def write_json(path: bytes, document: Any) -> None:
    write_whole(path, json.dumps(document, indent=1, sort_keys=True).encode() + b"\n")


def read_json(path: bytes) -> Optional[Any]:
    """Return the document; None if there is none, it is damaged, or this user may not read it.

    Raises OSError if the disk does not return it, because it may be intact.
    """
    try:
        with open(path, "rb") as file:
            return json.loads(file.read())
    except (*NONE_FOR_THIS_USER, ValueError, RecursionError):
        return None


def read_if_undamaged(path: bytes) -> Optional[Any]:
    """Return the document like `read_json`; None as well if no later try can return it."""
    try:
        return read_json(path)
    except OSError as error:
        # From a network filesystem, it may also be a connection that was lost for a moment.
        if error.errno not in _DAMAGE or (error.errno == errno.EIO and mount_of(path).is_network):
            raise
        return None


def write_checked(path: bytes, document: Dict[str, Any]) -> None:
    """Write a document with a checksum of its content, so that damage on the disk is noticed.

    One wrong digit in an inode would make a switch look as if it had never happened; one in a
    revision would hold another version.
    """
    write_json(path, {**document, _DIGEST: _digest(document)})


def read_checked(path: bytes) -> Dict[str, Any]:
    """Return the content of a document that `write_checked` wrote.

    Raises ValueError if there is none, it is damaged, or this user may not read it, and OSError
    like `read_json`.
    """
    return verified(read_json(path))


def verified(document: Any) -> Dict[str, Any]:
    """Return the content of a document. Raises ValueError if its checksum is wrong or missing."""
    if not isinstance(document, dict):
        raise ValueError("no document")  # noqa: TRY004 - it came from a file
    content = {name: value for name, value in document.items() if name != _DIGEST}
    if document.get(_DIGEST) != _digest(content):
        raise ValueError("a damaged document")
    return content


def _digest(content: Dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def remove_file(path: bytes) -> None:
    """Remove a file, durably; it may be absent."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
        sync_directory(os.path.dirname(path))
