"""Redacts credentials in texts: conda's and pip's URLs, tokens, options of commands.

`redacted` is applied where a text leaves: to a terminal, into JSON, a record, a log, or over
the wire. It may take away too much, and never changes its own result.
"""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "***"

_SIGNS = re.compile(
    "://|%|/t/|akia|auth|bearer|cred|curl|gh[pousr]_|github_pat_|glpat-|hf_|key|pass|proxy|pwd"
    "|pypi-|secret|sig|tk-|token|user",
    re.IGNORECASE,
)
"""One of these is in every text that has something to hide (`credential_texts`); most have none."""
_USERS_ONLY = ("ssh", "git+ssh", "sftp", "rsync", "ssh+git")
_PASSES_MAX = 8
"""What is taken out may let what stood beside it look like one: once, as far as was ever seen."""


def redacted(text: str) -> str:
    """The text with `***` in the place of what looks like a credential."""
    if not _SIGNS.search(text):
        return text
    # Its patterns take 0.005 s to compile, and most contacts with a server never need them.
    from envsync.conda.credential_texts import without_credentials

    for _ in range(_PASSES_MAX):
        before, text = text, without_credentials(text)
        if text == before:
            break
    return text


def redacted_json(value: Any) -> Any:
    """JSON-ready values with every text in them redacted."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, (list, tuple)):
        return [redacted_json(part) for part in value]
    if isinstance(value, dict):
        return {redacted_json(key): redacted_json(part) for key, part in value.items()}
    return value


def user_that_may_stay(scheme: str, userinfo: str) -> str:
    """The name in an address that lets nobody in by itself, as `git` of ssh; else nothing."""
    return userinfo.partition(":")[0] if scheme.lower() in _USERS_ONLY else ""
