"""Redacts credentials in texts: conda's and pip's URLs, tokens, options of commands.

`redacted` is applied wherever text leaves the program: to a terminal, into JSON, a record or a
log, or over the wire. It can hide too much. What a person reads is `escaped`, too. Applied to their
own results they change nothing.
"""

from __future__ import annotations

import re
from typing import Any

_SIGNS = re.compile(
    "://|%|/t/|akia|auth|bearer|cred|curl|gh[pousr]_|github_pat_|glpat-|hf_|key|pass|proxy|pwd"
    "|pypi-|secret|sig|tk-|token|user",
    re.IGNORECASE,
)
"""Every text with something to hide (`credential_patterns`) has one of these; most have none."""
_SURROGATE_FIRST, _SURROGATE_LAST = 0xDC80, 0xDCFF
_PASSES_MAX = 8
"""Hiding a value can make its neighbour look like a credential; no text was seen that needed
more than one further pass."""


def redacted(text: str) -> str:
    """Return the text with `***` in place of what looks like a credential."""
    if not _SIGNS.search(text):
        return text
    # The patterns take 0.005 s to compile, and most contacts with a server never need them.
    from envsync.texts.credential_patterns import without_credentials

    for _ in range(_PASSES_MAX):
        before, text = text, without_credentials(text)
        if text == before:
            break
    return text


def escaped(text: str) -> str:
    """Return the text without credentials and with unprintable characters as backslash escapes."""
    text = redacted(text)
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else _backslashed(character) for character in text
    )


def _backslashed(character: str) -> str:
    point = ord(character)
    if _SURROGATE_FIRST <= point <= _SURROGATE_LAST:
        return f"\\x{point - 0xDC00:02x}"  # a byte that is not UTF-8
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def redacted_json(value: Any) -> Any:
    """Return a JSON-ready value with every string in it redacted, keys included."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, (list, tuple)):
        return [redacted_json(part) for part in value]
    if isinstance(value, dict):
        return {redacted_json(key): redacted_json(part) for key, part in value.items()}
    return value
