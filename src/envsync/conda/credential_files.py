"""Finds credentials in the files of an environment in which tools keep them."""

from __future__ import annotations

import re

from envsync.conda.metadata import is_conda_record
from envsync.texts.assigned_secrets import GLUED, SECRETS, without_parameters

CREDENTIAL_FILE_MAX_BYTES = 64 << 20
"""Far above the largest of these files: a conda record that lists many files has some MB."""

_FILES = (
    re.compile(rb"conda-meta/(?:history|state|[^/]+\.json)\Z"),
    re.compile(rb"(?:.*/)?[^/]+\.dist-info/direct_url\.json\Z"),
    re.compile(rb"(?:pip\.(?:conf|ini)|etc/pip\.conf|\.netrc|\.pypirc|\.npmrc|etc/npmrc)\Z"),
    re.compile(rb"(?:\.?condarc|condarc\.d/[^/]+)\Z"),
    re.compile(rb"etc/conda/.*\.(?:sh|csh|fish|xsh|ps1|bat|json)\Z", re.DOTALL),
)
_NAMED = (
    rb"(?:%s|[_-]pwd|(?<![a-z])%s?pass(?![0-9]{0,9}[ \t]*[=:][ \t]*[0-9]{1,3}(?:[\s;]|\Z)))"
    % (SECRETS.encode(), GLUED.encode())
)
# A value that is empty, a switch, or a reference to a variable or command is no credential.
_VALUE_GIVEN = (
    rb"(?![\"'\s$%#;,=`(<]|\*\*\*"
    rb"|(?:true|false|yes|no|on|off|null|none|~)(?:[\"'\s;,#&)}]|\Z))\S"
)
_GIVEN = rb"[\"']?" + _VALUE_GIVEN
# Each begins with literal text, so that searching records of many megabytes stays fast.
_IN_ADDRESSES = (
    re.compile(rb"://[^\s\"'<>\\/?#@]*:[^\s\"'<>\\/?#]+@"),
    re.compile(rb"https?://[^\s\"'<>\\/?#]+@"),
    re.compile(rb"://[^\s\"'<>\\/]+(?:/[^\s\"'<>\\/]+){0,3}/t/[A-Za-z0-9_-]{4,}"),
)
_REFERRED = re.compile(rb"=(?!\w|%[0-9A-Fa-f]{2})[^&;#]*")
_PARAMETERS = re.compile(rb"://[^\s\"'<>\\?]{0,2000}\?([^\s\"'<>\\]+)")
_IN_SETTINGS = (
    re.compile(rb"(?m)^[ \t]*(?:machine[ \t]+\S+.{0,500}[ \t])?password[ \t]+\S"),
    # In settings, and in scripts that run when the environment is activated.
    re.compile(
        rb"(?im)(?:^[ \t]*|\bexport[ \t]+|\$(?:env:)?)[\w-]{0,60}%s[0-9]{0,9}[ \t]*[=:][ \t]*%s"
        % (_NAMED, _GIVEN)
    ),
    re.compile(
        rb"(?im)\b(?:setenv|set[ \t]+-\w{1,9})[ \t]+[\w-]{0,60}%s[0-9]{0,9}[ \t]+%s"
        % (_NAMED, _GIVEN)
    ),
    # npm puts the registry first: //HOST/:_authToken=...
    re.compile(
        rb"(?im)^[ \t]*(?://\S{1,500}:)?_(?:auth|authToken|password)[ \t]*=[ \t]*%s" % _GIVEN
    ),
    # conda keeps an environment's variables in JSON.
    re.compile(rb"(?i)\"[\w-]{0,60}%s[0-9]{0,9}\"\s{0,9}:\s{0,9}\"%s" % (_NAMED, _VALUE_GIVEN)),
)


def may_hold_credentials(path: bytes) -> bool:
    """Return whether a relative path is a file in which tools keep URLs and tokens."""
    return any(pattern.match(path) for pattern in _FILES)


def may_be_in(directory: bytes) -> bool:
    """Return whether a directory can hold a file that `may_hold_credentials`."""
    named = directory in (b"", b"conda-meta", b"condarc.d", b"etc", b"etc/conda")
    return named or directory.endswith(b".dist-info") or directory.startswith(b"etc/conda/")


def holds_credentials(path: bytes, content: bytes) -> bool:
    """Return whether one of these files holds credentials; in conda records only URLs can."""
    patterns = _IN_ADDRESSES if is_conda_record(path) else (*_IN_ADDRESSES, *_IN_SETTINGS)
    return any(pattern.search(content) for pattern in patterns) or _has_secret_parameter(content)


def _has_secret_parameter(content: bytes) -> bool:
    """Return whether an address has a parameter that would be hidden in an output.

    An output may hide too much. In a file, a reference to a variable is how a secret is kept out.
    """
    queries = (_REFERRED.sub(b"", match.group(1)) for match in _PARAMETERS.finditer(content))
    texts = (query.decode("latin-1") for query in queries)
    return any(without_parameters(text) != text for text in texts)
