"""Hides what looks like a credential in a text: in URLs, headers, options and named values.

Called by `redaction.redacted`.
"""

from __future__ import annotations

import re
from typing import Callable, Match, NamedTuple, Tuple, Union

from envsync.texts.assigned_secrets import END, HIDDEN, without_assigned

_USERS_ONLY = ("ssh", "git+ssh", "sftp", "rsync", "ssh+git")


class Rule(NamedTuple):
    """What hides credentials of one kind, such as the SECRET in `example`.

    By default, what follows the pattern's first group is hidden.
    """

    example: str
    pattern: str
    replacement: Union[str, Callable[[Match[str]], str]] = rf"\g<1>{HIDDEN}"

    def applied(self, text: str) -> str:
        return re.sub(self.pattern, self.replacement, text)


def without_credentials(text: str) -> str:
    """Return the text with `***` in place of what looks like a credential, after one pass."""
    for rule in RULES:
        text = rule.applied(text)
    return without_assigned(text)


def _without_password(match: Match[str]) -> str:
    scheme, userinfo = match.groups()
    user = user_that_may_stay(scheme, userinfo)
    if userinfo != user:
        user = f"{user}:{HIDDEN}" if user else HIDDEN
    return f"{scheme}://{user}@"


def user_that_may_stay(scheme: str, userinfo: str) -> str:
    """Return a URL's user if it lets nobody in by itself (`git` of ssh), else an empty text."""
    return userinfo.partition(":")[0] if scheme.lower() in _USERS_ONLY else ""


def _without_tokens(url: Match[str]) -> str:
    return re.sub(r"(/t/)[^/?#]+", rf"\g<1>{HIDDEN}", url.group())


# A character of a URL that is percent-encoded inside another URL.
_ENCODED = rf"(?:[^{END}%/?#&=]|%(?!2F|3F|23)[0-9A-F]{{2}})"

RULES: Tuple[Rule, ...] = (
    Rule(  # the userinfo of a URL, up to the last @ before the path
        "https://alice:SECRET@host/path",
        rf"(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]*)://([^{END}/?#]*)@",
        _without_password,
    ),
    Rule(  # conda's tokens; what follows file:// is a path
        "https://host/t/SECRET/channel", rf"(?i:(?<!\bfile))://[^{END}]+", _without_tokens
    ),
    Rule("%3A%2F%2Falice:SECRET%40host", rf"(?i)(%3A%2F%2F){_ENCODED}+(?=%40)"),
    Rule("%2Ft%2FSECRET%2Fchannel", rf"(?i)(%2Ft%2F){_ENCODED}+"),
    Rule(
        "host.example:8080/t/SECRET/channel",
        r"((?:[A-Za-z0-9-]\.[A-Za-z]{2,24}(?::[0-9]{1,5})?|[A-Za-z0-9\]-]:[0-9]{1,5}"
        rf"|(?<![0-9.])(?:[0-9]{{1,3}}\.){{3}}[0-9]{{1,3}})/t/)[^{END}/?#]+",
    ),
    Rule(
        "curl -u alice:SECRET",
        r"((?:(?<![\w-])--(?:proxy-)?user[ \t=]+"
        r"|\bcurl[ \t](?:[^\n|;]{0,300}?[ \t])?-[A-Za-z]{0,8}[uU][ \t]*)"
        rf"[\"']?[^{END}:]{{1,64}}:)(?!//|[0-9]+(?:\s|\Z))[^{END}]+",
    ),
    Rule(
        "--proxy alice:SECRET@host",
        rf"((?<![\w-])--proxy[ \t=]+[\"']?[^{END}:/@]{{1,64}}:)[^{END}]{{1,1000}}(?=@)",
    ),
    Rule(
        "Authorization: Basic SECRETSECRET==",
        r"(?i)\b((?:Authorization:[ \t]*\w+|Bearer)[ \t]+)[A-Za-z0-9._~+/-]{8,}=*",
    ),
    Rule(
        "ghp_SECRETSECRETSECRET",
        r"\b(?:gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|pypi-[\w-]{16,}"
        r"|hf_[A-Za-z0-9]{16,}|tk-[0-9a-f]{8}-[0-9a-f-]{16,}|AKIA[0-9A-Z]{16})",
        HIDDEN,
    ),
)
"""In the order in which they are applied."""
