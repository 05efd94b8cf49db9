"""Starts rsync's receiver on a server, if the staging tree is still the expected one.

This file is a program of its own: its text is put, in hex, into the command line of an
interpreter there. It takes the lock that writers hold (`agent.places.locks.writers_kept_out`),
enters the staging tree, and becomes rsync, which keeps both. A receiver that starts late, for a
push that is over, finds another token and writes nothing.

Arguments: the state directory in hex, the token, rsync's path in hex, rsync's arguments.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from typing import List

REFUSED_EXIT_CODE = 76
_GROUP_WRITES = 0o2020
REFUSED = "envsync: this transfer is over: "
"""The start of a refusal on stderr; needed because rsync does not pass on ssh's exit status."""


def main(arguments: List[str]) -> None:
    """Become rsync, or exit."""
    state, token, rsync = bytes.fromhex(arguments[0]), arguments[1], bytes.fromhex(arguments[2])
    os.umask(0o077)
    try:
        fd = os.open(os.path.join(state, b"writers"), os.O_RDWR | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        with open(os.path.join(state, b"staging.json"), "rb") as file:
            expected = json.loads(file.read()).get("token")
    except (OSError, ValueError, AttributeError) as error:
        _refuse(str(error))
    if expected != token:
        _refuse("another one has begun")
    os.chdir(os.path.join(state, b"trees", token.encode()))
    for name, is_kept in ((b"rsync-partial", True), (b"rsync-temporary", False)):
        path = os.path.join(state, name)
        if os.path.islink(path):
            # Made by another member, it would have files written wherever it leads.
            os.unlink(path)
        elif not is_kept or _is_foreign(path):
            shutil.rmtree(path, ignore_errors=True)
        os.makedirs(path, exist_ok=True)
        if os.stat(state).st_mode & _GROUP_WRITES == _GROUP_WRITES:
            # The next member of the group to push must be able to remove it.
            _open_to_group(path)
    os.set_inheritable(fd, True)
    # Untranslated, because a program parses rsync's messages.
    environment = {**os.environ, "LC_ALL": "C"}
    os.execve(rsync, ["rsync", *arguments[3:]], environment)  # noqa: S606


def _is_foreign(path: bytes) -> bool:
    return os.path.isdir(path) and os.stat(path).st_uid != os.geteuid()


def _open_to_group(directory: bytes) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(fd, 0o2770)
    finally:
        os.close(fd)


def _refuse(reason: str) -> None:
    sys.stderr.write(REFUSED + reason + "\n")
    sys.exit(REFUSED_EXIT_CODE)


if __name__ == "__main__":
    main(sys.argv[1:])
