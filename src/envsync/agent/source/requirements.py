"""Reads an environment's requirements from conda's and pip's records, for a rebuild."""

from __future__ import annotations

import re
from typing import Iterator

from envsync.agent.source.version import SourceVersion
from envsync.conda.packages import RECORD_MAX_BYTES
from envsync.conda.requirements import Requirements, requirements
from envsync.conda.site_packages import SITE_PACKAGES
from envsync.tree.entry import join

_WITH_RECORDS = re.compile(rb"conda-meta|" + SITE_PACKAGES + rb"(?:/[^/]+\.(?:dist|egg)-info)?")


def source_requirements(source: SourceVersion) -> Requirements:
    """Return the requirements for rebuilding this version elsewhere."""
    return requirements(_paths(source), lambda path: source.read(path, RECORD_MAX_BYTES))


def _paths(source: SourceVersion) -> Iterator[bytes]:
    manifest = source.manifest()
    for directory in manifest.directories:
        if _WITH_RECORDS.fullmatch(directory):
            yield directory
            for entry in manifest.entries(directory):
                yield join(directory, entry.name)
