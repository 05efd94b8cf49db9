"""The records of an environment's packages: which files each has."""

from __future__ import annotations

import os
from typing import Optional

from envsync.agent.server.reading import read_start
from envsync.conda.ownership import is_record, only_files
from envsync.conda.packages import RECORD_MAX_BYTES


def record_at(environment: str, path: str) -> Optional[str]:
    """Return the files in a package's record (`only_files`); None if there is no such record.

    A server may ask for any `path`, so nothing but records is read.
    """
    name = os.fsencode(path)
    content = None
    if is_record(name):
        content = read_start(os.path.join(os.fsencode(environment), name), RECORD_MAX_BYTES)
    return None if content is None else only_files(name, content)
