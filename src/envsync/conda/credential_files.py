"""Files of an environment in which tools keep credentials, and whether one holds some."""

from __future__ import annotations

import re

from envsync.conda.credential_texts import GLUED, SECRETS

FILE_MAX_BYTES = 64 << 20
"""A record of conda's that lists many files has some megabytes."""

_FILES = (
    re.compile(rb"conda-meta/(?:history|state|[^/]+\.json)\Z"),
    re.compile(rb"(?:.*/)?[^/]+\.dist-info/direct_url\.json\Z"),
    re.compile(rb"(?:pip\.(?:conf|ini)|etc/pip\.conf|\.netrc|\.pypirc|\.npmrc|etc/npmrc)\Z"),
    re.compile(rb"(?:\.?condarc|condarc\.d/[^/]+)\Z"),
    re.compile(rb"etc/conda/.*\.(?:sh|csh|fish|xsh|ps1|bat|json)\Z", re.DOTALL),
)
_RECORD = re.compile(rb"conda-meta/[^/]+\.json\Z")
_NAMED = (
    rb"(?:%s|[_-]pwd|(?<![a-z])%s?pass(?![0-9]{0,9}[ \t]*[=:][ \t]*[0-9]{1,3}(?:[\s;]|\Z)))"
    % (SECRETS.encode(), GLUED.encode())
)
# What refers to another variable or a command is none, nor is a switch, or what is empty.
_VALUE_GIVEN = (
    rb"(?![\"'\s$%#;,=`(<]|\*\*\*"
    rb"|(?:true|false|yes|no|on|off|null|none|~)(?:[\"'\s;,#&)}]|\Z))\S"
)
_GIVEN = rb"[\"']?" + _VALUE_GIVEN
# Each begins with plain text, which is found at once in records of many megabytes.
_IN_ADDRESSES = (
    re.compile(rb"://[^\s\"'<>\\/?#@]*:[^\s\"'<>\\/?#]+@"),
    re.compile(rb"https?://[^\s\"'<>\\/?#]+@"),
    re.compile(rb"://[^\s\"'<>\\/]+(?:/[^\s\"'<>\\/]+){0,3}/t/[A-Za-z0-9_-]{4,}"),
    re.compile(
        rb"://[^\s\"'<>\\]{0,500}?[?&][\w-]{0,20}(?:token|signature|api_?key|secret)[\w-]{0,20}=\w"
    ),
)
_IN_SETTINGS = (
    re.compile(rb"(?m)^[ \t]*(?:machine[ \t]+\S+.{0,500}[ \t])?password[ \t]+\S"),
    # In settings, and in scripts that are run when the environment is activated.
    re.compile(
        rb"(?im)(?:^[ \t]*|\bexport[ \t]+|\$(?:env:)?)[\w-]{0,60}%s[0-9]{0,9}[ \t]*[=:][ \t]*%s"
        % (_NAMED, _GIVEN)
    ),
    re.compile(
        rb"(?im)\b(?:setenv|set[ \t]+-\w{1,9})[ \t]+[\w-]{0,60}%s[0-9]{0,9}[ \t]+%s"
        % (_NAMED, _GIVEN)
    ),
    # npm's name the registry before it: //HOST/:_authToken=...
    re.compile(
        rb"(?im)^[ \t]*(?://\S{1,500}:)?_(?:auth|authToken|password)[ \t]*=[ \t]*%s" % _GIVEN
    ),
    # conda's own variables are in JSON.
    re.compile(rb"(?i)\"[\w-]{0,60}%s[0-9]{0,9}\"\s{0,9}:\s{0,9}\"%s" % (_NAMED, _VALUE_GIVEN)),
)


def may_hold_credentials(path: bytes) -> bool:
    """Whether a file of an environment is one of those in which tools keep URLs and tokens."""
    return any(pattern.match(path) for pattern in _FILES)


def may_be_in(directory: bytes) -> bool:
    """Whether a directory may have such a file, so that its entries are worth a look."""
    named = directory in (b"", b"conda-meta", b"condarc.d", b"etc", b"etc/conda")
    return named or directory.endswith(b".dist-info") or directory.startswith(b"etc/conda/")


def holds_credentials(path: bytes, content: bytes) -> bool:
    """Whether one of these files has some; of a record it is only the addresses that may."""
    patterns = _IN_ADDRESSES if _RECORD.match(path) else (*_IN_ADDRESSES, *_IN_SETTINGS)
    return any(pattern.search(content) for pattern in patterns)
