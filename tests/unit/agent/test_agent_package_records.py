"""The records of packages that a server asks for, which may be one that lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from envsync.agent.source.package_records import record_at

RECORD = "lib/python3.11/site-packages/six-1.16.dist-info/RECORD"


@pytest.mark.parametrize("path", ["conda-meta/six\0-1.16-0.json", RECORD.replace("six", "s\0x")])
def test_a_name_that_no_file_can_have_is_no_record(path: str, tmp_path: Path) -> None:
    (tmp_path / RECORD).parent.mkdir(parents=True)
    (tmp_path / RECORD).write_text("six.py,,")
    assert record_at(str(tmp_path), RECORD) == "six.py,,"
    assert record_at(str(tmp_path), path) is None
