"""A sample of files tells how well they compress, whatever became of some of them."""

from __future__ import annotations

import os
from pathlib import Path

from envsync.agent.source.sampling import sampled
from envsync.agent.trees.directory_read import opened_directory


def test_file_that_cannot_be_read_any_more_is_left_out_of_the_sample(tmp_path: Path) -> None:
    """Removed since it was listed, or a directory by now."""
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "became").mkdir()
    items = [(b"became", 10), (b"file", 7), (b"gone", 10)]
    with opened_directory(os.fsencode(tmp_path)) as top_fd:
        facts = sampled(top_fd, items, [("none", 0)])
    assert facts.content_bytes == 7
