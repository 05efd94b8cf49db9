"""Where things stand on a target, and how they are written so that a crash leaves them whole.

ENVS/NAME                              the live tree, or a link to where it stands
ENVS/.envsync/NAME/                    0700
    lock                               held exclusively for the whole of a push
    writers                            held shared by each process that fills the staging
    staging.json                       which tree is being built, and for what
    intent.json                        only while the switch is under way
    held.json                          revisions refused here, and why
    history.jsonl                      a line for each publish and rollback
    generations/NNNNNN.json            the record of one published version
    generations/NNNNNN.manifest        its manifest, as published here
    trees/TOKEN/                       staging, and earlier versions
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from typing import Any, NamedTuple, Optional

from envsync.agent.filesystem import sync_directory
from envsync.errors import NotFound, PreflightRefused
from envsync.tree.safety import is_environment_name

STATE_DIRECTORY = b".envsync"


class Layout(NamedTuple):
    """The paths of one environment on one server.

    `live` is what users see; `home` the resolved directory's parent, beside which
    everything is staged, so that a switch never crosses a filesystem.
    """

    name: str
    live: bytes
    state: bytes

    @property
    def generations(self) -> bytes:
        return os.path.join(self.state, b"generations")

    @property
    def trees(self) -> bytes:
        return os.path.join(self.state, b"trees")

    def file(self, name: str) -> bytes:
        return os.path.join(self.state, name.encode())

    def tree(self, token: str) -> bytes:
        return os.path.join(self.trees, token.encode())

    def create(self) -> None:
        """Make the state directory, private to the user."""
        for path in (self.state, self.generations, self.trees):
            os.makedirs(path, mode=0o700, exist_ok=True)
        os.chmod(self.state, 0o700)


def layout(prefix: str, name: str) -> Layout:
    """The environment's paths below a prefix; a symbolic link is resolved once.

    Raises `PreflightRefused` for a name that no environment can have.
    """
    if not is_environment_name(name):
        reason = "not an environment's name: %r" % name
        if name == "base":
            reason = "base is conda itself and cannot be pushed: other environments hang on it"
        raise PreflightRefused(reason, hint="create an environment and push that")
    live = os.path.join(os.fsencode(prefix), b"envs", os.fsencode(name))
    if os.path.islink(live):
        resolved = os.path.realpath(live)
        if os.path.isdir(resolved) and STATE_DIRECTORY not in resolved.split(b"/"):
            live = resolved
    parent, base = os.path.split(live)
    return Layout(name, live, os.path.join(parent, STATE_DIRECTORY, base))


def require_live(places: Layout) -> None:
    """Raise `NotFound` where no environment of that name stands."""
    if not os.path.isdir(places.live):
        raise NotFound(
            "there is no environment %r" % places.name,
            hint="`envsync list` shows what there is",
            details=[os.fsdecode(places.live)],
        )


def write_whole(path: bytes, *parts: bytes) -> None:
    """Replace a file so that a reader, or a crash, finds the old bytes or the new."""
    directory = os.path.dirname(path)
    fd, temporary = tempfile.mkstemp(dir=directory)
    try:
        with os.fdopen(fd, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_directory(directory)


def write_json(path: bytes, document: Any) -> None:
    write_whole(path, json.dumps(document, indent=1, sort_keys=True).encode() + b"\n")


def read_json(path: bytes) -> Optional[Any]:
    """The document, or None where there is none or it is damaged.

    OSError where the disk does not give it: it may be whole.
    """
    try:
        with open(path, "rb") as file:
            return json.loads(file.read())
    except (FileNotFoundError, NotADirectoryError, PermissionError, ValueError, RecursionError):
        return None


def remove(path: bytes) -> None:
    """Remove a file whose absence is fine, for good."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
        sync_directory(os.path.dirname(path))
