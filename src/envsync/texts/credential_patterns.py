"""Hides what looks like a credential in a text: in URLs, headers, options and named values.

Called by `redaction.redacted`.
"""

from __future__ import annotations

import re
from typing import Match

HIDDEN = "***"
_USERS_ONLY = ("ssh", "git+ssh", "sftp", "rsync", "ssh+git")

_END = r"\s\"'<>\\"
_NAME = re.compile(
    r"(?<![a-z])(?:access[_-]?key|access[_-]?token|api[_-]?key|auth|auth[_-]?token|credential"
    r"|passphrase|passw(?:or)?d|private[_-]?key|pwd|secret|sig|signature|token)s?(?![a-z])",
    re.IGNORECASE,
)

# The userinfo of a URL, up to the last @ before the path. A bare user name stays only with ssh.
_USERINFO = re.compile(rf"(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]*)://([^{_END}/?#]*)@")
# conda's tokens: https://HOST/t/TOKEN/CHANNEL
_URL = re.compile(rf"://[^{_END}]+")
_TOKEN_IN_PATH = re.compile(r"(/t/)([^/?#]+)")
_TOKEN_WITHOUT_SCHEME = re.compile(
    r"((?:[A-Za-z0-9-]\.[A-Za-z]{2,24}(?::[0-9]{1,5})?|[A-Za-z0-9\]-]:[0-9]{1,5}"
    rf"|(?<![0-9.])(?:[0-9]{{1,3}}\.){{3}}[0-9]{{1,3}})/t/)([^{_END}/?#]+)"
)
# A URL that is percent-encoded inside another URL.
_ENCODED = rf"(?:[^{_END}%/?#&=]|%(?!2F|3F|23)[0-9A-F]{{2}})"
_ENCODED_USERINFO = re.compile(rf"(%3A%2F%2F){_ENCODED}+(?=%40)", re.IGNORECASE)
_ENCODED_TOKEN = re.compile(rf"(%2Ft%2F){_ENCODED}+", re.IGNORECASE)
# A name and what assigns its value. It matches only at the start of a word, so that no text
# takes long.
_ASSIGNED = re.compile(
    r"(?<![\w.-])([\w.-]+)"
    r"(=(?!=)|\\?[\"']?[ \t]*:(?!:)[ \t]*(?:\\(?=[\"']))?|[ \t]+=(?!=)[ \t]*)"
)
# Endings of names, where a word begins inside the name: PGPASSWORD, clientSecret, not tiktoken.
SECRETS = (
    r"(?:passw(?:or)?d|passphrase|secret|token"
    r"|(?:secret|api|access|auth|account|private)[_-]?key)"
)
_WORD_BEGINS = r"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]))"
GLUED = (
    r"(?:access|admin|api|app|auth|bot|client|csrf|db|hub|id|login|my|mysql|pg|refresh|root"
    r"|session|user)"
)
_NAME_END = re.compile(rf"{_WORD_BEGINS}(?i:{GLUED}?(?:{SECRETS}|pass|pwd))[0-9]*\Z")
# Names of passwords. No package has a name like these, so what follows is never a version.
_PASSWORD_END = re.compile(
    rf"{_WORD_BEGINS}(?i:{GLUED}?(?:passw(?:or)?d|passphrase|pass|pwd))[0-9]*\Z"
)
# Other meanings of "pass": `multipass`, `first_pass`.
_OTHER_PASS = re.compile(
    rf"{_WORD_BEGINS}(?i:all|backward|by|first|forward|full|last|multi|next|one|render|second|single|test|third|two)"
    r"[_.-]?(?i:pass)[0-9]*\Z"
)
_PASS = re.compile(r"(?i:-*pass)\Z")
_OF_A_PLACE = re.compile(r"(?i:-*(?:(?:old)?pwd|(?:[\w.-]{0,60}[_.-])?private[_-]?key))\Z")
_PLACES = ("/", "~/", "'/", '"/', "'~/", '"~/')
_COUNT = re.compile(r"[0-9]{1,5}(?![^\s,;)])")
_ENDS = r"(?(1)\1)\.?(?=[\s\"'`;&#)\]}]|,(?:[\s\"'<>=!]|[\w.-]{1,60}=|\Z)|:\s|:?\Z)"
_SWITCH = re.compile(rf"([\"'])?(?i:true|false|yes|no|on|off|null|none){_ENDS}")
# A package's version (the name of a package can end with `auth` or `api-key`), or a small number.
_VERSION = re.compile(
    r"([\"'])?[~^<>=!]{0,2}"
    r"(?:[0-9]+(?:\.[0-9]+)+(?:\.?(?:a|b|rc|post|dev)[0-9]+)*(?:\.\*)?"
    r"|[0-9]+\.\*|[0-9]{1,5}|[0-9]+(?==\w)|\*)"
    rf"(?:=[\w.*]{{1,40}}|-\w{{1,40}}_[0-9]+)?{_ENDS}"
)
_PASSWORD = re.compile(r"passw|passphrase|pwd|pass[0-9]*\Z", re.IGNORECASE)
_PLACE = re.compile(r"(?:~|\.{1,2})?/[a-z]+[0-9]*/|[a-z][a-z+]{0,20}://")
# Source code after ` = `, as tracebacks show it: a name or a call.
_EXPRESSION = re.compile(r"[A-Za-z_][A-Za-z_.]*(?:[(\[{].*)?\Z")
_DIGIT, _LETTER = re.compile(r"[0-9]"), re.compile(r"[A-Za-z]")
_SECRET_MIN, _PASSWORD_MIN = 8, 5
"""After a colon, a shorter value counts as a word of a sentence; passwords can be short."""
# A quoted value ends at the closing quote; what is joined to that belongs to it, as in a shell.
_QUOTED = r"(?:'[^'\n]*'?|\"[^\"\n]*\"?)"
_VALUE = re.compile(rf"{_QUOTED}[^{_END}&;#]*|[^{_END}&;#]+")
_OPTION = re.compile(rf"(?<![\w-])(--[\w-]+)([ \t]+)({_QUOTED}[^{_END}]*|[^{_END}]+)")
_USER_OPTION = re.compile(
    r"((?:(?<![\w-])--(?:proxy-)?user[ \t=]+"
    rf"|\bcurl[ \t](?:[^\n|;]{{0,300}}?[ \t])?-[A-Za-z]{{0,8}}[uU][ \t]*)[\"']?[^{_END}:]{{1,64}}:)"
    rf"(?!//|[0-9]+(?:\s|\Z))([^{_END}]+)"
)
_PROXY_OPTION = re.compile(
    rf"((?<![\w-])--proxy[ \t=]+[\"']?[^{_END}:/@]{{1,64}}:)[^{_END}]{{1,1000}}(?=@)"
)
_HEADER = re.compile(
    r"\b((?:Authorization:[ \t]*\w+|Bearer)[ \t]+)([A-Za-z0-9._~+/-]{8,}=*)", re.IGNORECASE
)
_KNOWN_TOKEN = re.compile(
    r"\b(?:gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|pypi-[\w-]{16,}"
    r"|hf_[A-Za-z0-9]{16,}|tk-[0-9a-f]{8}-[0-9a-f-]{16,}|AKIA[0-9A-Z]{16})"
)


def without_credentials(text: str) -> str:
    """Return the text with `***` in place of what looks like a credential, after one pass."""
    text = _USERINFO.sub(_without_password, text)
    text = _URL.sub(lambda url: _TOKEN_IN_PATH.sub(_without_value, url.group()), text)
    for pattern in (_ENCODED_USERINFO, _ENCODED_TOKEN):
        text = pattern.sub(lambda found: found.group(1) + HIDDEN, text)
    for pattern in (_TOKEN_WITHOUT_SCHEME, _USER_OPTION, _PROXY_OPTION, _HEADER):
        text = pattern.sub(_without_value, text)
    text = _KNOWN_TOKEN.sub(HIDDEN, text)
    return _OPTION.sub(_without_named_value, without_parameters(text))


def _without_password(match: Match[str]) -> str:
    scheme, userinfo = match.groups()
    user = user_that_may_stay(scheme, userinfo)
    if userinfo != user:
        user = f"{user}:{HIDDEN}" if user else HIDDEN
    return f"{scheme}://{user}@"


def _without_value(match: Match[str]) -> str:
    return match.group(1) + HIDDEN


def without_parameters(text: str) -> str:
    """Hide VALUE in NAME=VALUE and NAME: VALUE if the name says it is secret, also inside a URL."""
    parts, end, plain_end = [], 0, 0
    for match in _ASSIGNED.finditer(text):
        # The rest of a value that is not secret is not searched again, which could take long.
        is_done = match.start() < end or (match.group(2) != "=" and match.end() < plain_end)
        value = None if is_done or not _names_secret(match) else _VALUE.match(text, match.end())
        if value is None:
            continue
        if _may_be_secret(match, value.group()):
            parts += [text[end : match.end()], HIDDEN]
            end = value.end()
        elif ":" in match.group(2) and not _is_quoted(value.group()):
            plain_end = value.end()
    return "".join([*parts, text[end:]])


def _names_secret(match: Match[str]) -> bool:
    """Return whether the name of an assignment says that its value is secret, and the value may be.

    A path with a colon after it is no name, and a switch, a version or a path is no secret.
    """
    name, between = match.groups()
    if between == "=":
        is_named = _is_secret(name)
    else:
        is_named = _before(match) != "/" and _ends_as_secret(name)
        is_named = is_named and not _PLACE.match(match.string, match.end())
    return is_named and not _is_harmless(name, match.string, match.end())


def _is_harmless(name: str, text: str, at: int) -> bool:
    """Return whether the value at `at` is a switch, a version (`google-auth=2.29.0`) or a path.

    A path is harmless only if the name can mean one: `pwd=/home/x`.
    """
    if _SWITCH.match(text, at):
        return True
    if _OF_A_PLACE.match(name) and text.startswith(_PLACES, at):
        return True
    if _PASSWORD_END.search(name):
        # `pass=3 fail=0` counts tests.
        return bool(name == name.lower() and _PASS.match(name) and _COUNT.match(text, at))
    version = _VERSION.match(text, at) if name == name.lower() else None
    return version is not None and ("." in version.group() or not _PASSWORD.search(name))


def _may_be_secret(match: Match[str], value: str) -> bool:
    """Return whether the value of a name that `_names_secret` can be a secret.

    After a colon it has to look like one, because `password: Permission denied` is a sentence.
    So is `unexpected token: 'identifier'`, but a `token` in quotes is a name, as in JSON.
    """
    name, between = match.groups()
    if ":" not in between:
        return between == "=" or not _EXPRESSION.match(value)
    is_sentence = name.lower() == "token" and _before(match) not in ("'", '"')
    if _PASS.match(name) and not _is_quoted(value):
        return False  # `PASS: test_1`
    characters_min = _PASSWORD_MIN if _PASSWORD.search(name) else _SECRET_MIN
    return (_is_quoted(value) and not is_sentence) or _is_mixed(value, characters_min)


def _is_quoted(value: str) -> bool:
    return value.startswith(("'", '"'))


def _is_mixed(value: str, characters_min: int) -> bool:
    """Return whether `value` has letters and digits and is long, not counting hidden parts."""
    is_long = len(value.strip("'\"").replace("*", "")) >= characters_min
    return is_long and bool(_DIGIT.search(value) and _LETTER.search(value))


def _before(match: Match[str]) -> str:
    return match.string[max(0, match.start() - 1) : match.start()]


def _is_secret(name: str) -> bool:
    return bool(_NAME.search(name)) or _ends_as_secret(name)


def _ends_as_secret(name: str) -> bool:
    return bool(_NAME_END.search(name)) and not _OTHER_PASS.search(name)


def _without_named_value(match: Match[str]) -> str:
    name, between, value = match.groups()
    is_hidden = _is_secret(name) and not name.startswith("--no-")
    is_hidden = is_hidden and not _is_harmless(name, value, 0)
    return name + between + (HIDDEN if is_hidden else value)


def user_that_may_stay(scheme: str, userinfo: str) -> str:
    """Return a URL's user if it lets nobody in by itself (`git` of ssh), else an empty text."""
    return userinfo.partition(":")[0] if scheme.lower() in _USERS_ONLY else ""
