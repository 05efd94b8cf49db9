"""The state file that says which tree is the staging tree, or a spare one set aside."""

from __future__ import annotations

from typing import Any, Dict, NamedTuple, Optional

from envsync.agent.places.layout import Layout
from envsync.agent.places.state_files import read_json, remove_file, write_json

_FILE = "staging.json"
_SET_ASIDE = "is_set_aside"


class StagingNote(NamedTuple):
    """A tree, identified by its inode: its name changes with each push, so no late writer finds it.

    One that `is_set_aside` is whole and verified, and nobody writes to it.
    """

    inode: int
    is_set_aside: bool


def note_staging(layout: Layout, token: str, inode: int, *, is_set_aside: bool = False) -> None:
    """Write the note durably. Whoever writes there for a push has to present the token."""
    document: Dict[str, Any] = {"token": token, "inode": inode}
    if is_set_aside:
        document[_SET_ASIDE] = True
    write_json(layout.file(_FILE), document)


def find_staging(layout: Layout) -> Optional[StagingNote]:
    """Return the note; None if there is none, it is damaged, or this user may not read it."""
    document: Any = read_json(layout.file(_FILE))
    inode = document.get("inode") if isinstance(document, dict) else None
    if not isinstance(inode, int):
        return None
    return StagingNote(inode, document.get(_SET_ASIDE) is True)


def note_path(layout: Layout) -> bytes:
    """Return the path of the note, which may not exist."""
    return layout.file(_FILE)


def forget_staging(layout: Layout) -> None:
    """Remove the note: nobody builds on the tree any more, which is then merely unfinished."""
    remove_file(layout.file(_FILE))
