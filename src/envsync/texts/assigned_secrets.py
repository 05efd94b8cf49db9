"""Hides what a text assigns to a name that says it is secret.

That is VALUE in NAME=VALUE, NAME: VALUE and --NAME VALUE.
"""

from __future__ import annotations

import re
from typing import Match, NamedTuple

HIDDEN = "***"
END = r"\s\"'<>\\"
"""Characters, for a class in a pattern, of which none is in a value without quotes."""
QUOTED = r"(?:'[^'\n]*'?|\"[^\"\n]*\"?)"
"""A quoted value; what is joined to its closing quote belongs to it, too, as in a shell."""

# A name and what assigns its value. It matches only at the start of a word, so that no text
# takes long.
_ASSIGNED = re.compile(
    r"(?<![\w.-])([\w.-]+)"
    r"(=(?!=)|\\?[\"']?[ \t]*:(?!:)[ \t]*(?:\\(?=[\"']))?|[ \t]+=(?!=)[ \t]*)"
)
_OPTION = re.compile(rf"(?<![\w-])(--[\w-]+)([ \t]+)({QUOTED}[^{END}]*|[^{END}]+)")
_VALUE = re.compile(rf"{QUOTED}[^{END}&;#]*|[^{END}&;#]+")

# Names.
_NAME = re.compile(
    r"(?<![a-z])(?:access[_-]?key|access[_-]?token|api[_-]?key|auth|auth[_-]?token|credential"
    r"|passphrase|passw(?:or)?d|private[_-]?key|pwd|secret|sig|signature|token)s?(?![a-z])",
    re.IGNORECASE,
)
# Endings of names, where a word begins inside the name: PGPASSWORD, clientSecret, not tiktoken.
SECRETS = (
    r"(?:passw(?:or)?d|passphrase|secret|token"
    r"|(?:secret|api|access|auth|account|private)[_-]?key)"
)
GLUED = (
    r"(?:access|admin|api|app|auth|bot|client|csrf|db|hub|id|login|my|mysql|pg|refresh|root"
    r"|session|user)"
)
_WORD_BEGINS = r"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]))"
_NAME_END = re.compile(rf"{_WORD_BEGINS}(?i:{GLUED}?(?:{SECRETS}|pass|pwd))[0-9]*\Z")
# Names of passwords. No package has a name like these, so what follows is never a version.
_PASSWORD_END = re.compile(
    rf"{_WORD_BEGINS}(?i:{GLUED}?(?:passw(?:or)?d|passphrase|pass|pwd))[0-9]*\Z"
)
_PASSWORD = re.compile(r"passw|passphrase|pwd|pass[0-9]*\Z", re.IGNORECASE)
# Other meanings of "pass": `multipass`, `first_pass`.
_OTHER_PASS = re.compile(
    rf"{_WORD_BEGINS}(?i:all|backward|by|first|forward|full|last|multi|next|one|render|second|single|test|third|two)"
    r"[_.-]?(?i:pass)[0-9]*\Z"
)
_PASS = re.compile(r"(?i:-*pass)\Z")
_OF_A_PLACE = re.compile(r"(?i:-*(?:(?:old)?pwd|(?:[\w.-]{0,60}[_.-])?private[_-]?key))\Z")

# Values.
_ENDS = r"(?(1)\1)\.?(?=[\s\"'`;&#)\]}]|,(?:[\s\"'<>=!]|[\w.-]{1,60}=|\Z)|:\s|:?\Z)"
_SWITCH = re.compile(rf"([\"'])?(?i:true|false|yes|no|on|off|null|none){_ENDS}")
# A package's version (the name of a package can end with `auth` or `api-key`), or a small number.
_VERSION = re.compile(
    r"([\"'])?[~^<>=!]{0,2}"
    r"(?:[0-9]+(?:\.[0-9]+)+(?:\.?(?:a|b|rc|post|dev)[0-9]+)*(?:\.\*)?"
    r"|[0-9]+\.\*|[0-9]{1,5}|[0-9]+(?==\w)|\*)"
    rf"(?:=[\w.*]{{1,40}}|-\w{{1,40}}_[0-9]+)?{_ENDS}"
)
_COUNT = re.compile(r"[0-9]{1,5}(?![^\s,;)])")
_PLACES = ("/", "~/", "'/", '"/', "'~/", '"~/')
_PLACE = re.compile(r"(?:~|\.{1,2})?/[a-z]+[0-9]*/|[a-z][a-z+]{0,20}://")
# Source code after ` = `, as tracebacks show it: a name or a call.
_EXPRESSION = re.compile(r"[A-Za-z_][A-Za-z_.]*(?:[(\[{].*)?\Z")
_DIGIT, _LETTER = re.compile(r"[0-9]"), re.compile(r"[A-Za-z]")
_SECRET_MIN, _PASSWORD_MIN = 8, 5
"""After a colon, a shorter value counts as a word of a sentence; passwords can be short."""


class Assigned(NamedTuple):
    """What a text assigns to a name: the value begins `at` in the text.

    `between` is what stands between the two, and `before` the character before the name.
    """

    name: str
    between: str
    text: str
    at: int = 0
    before: str = ""

    @property
    def is_named_secret(self) -> bool:
        """Whether the name says that the value is secret.

        Only what stands before a plain `=` is certainly a name. Elsewhere it has to end like that
        of a secret, and neither it nor the value may be a path, as in `/etc/token: ...`.
        """
        if self.between == "=":
            return bool(_NAME.search(self.name)) or self._ends_as_secret
        is_path = self.before == "/" or _PLACE.match(self.text, self.at)
        return not is_path and self._ends_as_secret

    @property
    def _ends_as_secret(self) -> bool:
        return bool(_NAME_END.search(self.name)) and not _OTHER_PASS.search(self.name)

    @property
    def is_harmless(self) -> bool:
        """Whether the value cannot be a secret: a switch, a path, a count or a version."""
        if _PASSWORD_END.search(self.name):
            return self._is_switch or self._is_path or self._is_count
        return self._is_switch or self._is_path or self._is_version

    @property
    def _is_switch(self) -> bool:
        return _SWITCH.match(self.text, self.at) is not None

    @property
    def _is_path(self) -> bool:
        """Whether it is a path, and the name can mean one: `pwd=/home/x`."""
        return bool(_OF_A_PLACE.match(self.name)) and self.text.startswith(_PLACES, self.at)

    @property
    def _is_count(self) -> bool:
        """Whether it counts tests: `pass=3 fail=0`."""
        is_pass = self.name.islower() and _PASS.match(self.name)
        return bool(is_pass and _COUNT.match(self.text, self.at))

    @property
    def _is_version(self) -> bool:
        """Whether it is a version, as in `google-auth=2.29.0`."""
        if self.name != self.name.lower():
            return False
        version = _VERSION.match(self.text, self.at)
        return version is not None and ("." in version.group() or not _PASSWORD.search(self.name))

    def may_be(self, value: str) -> bool:
        """Return whether `value`, which begins `at`, can be a secret.

        After a colon it has to look like one, because `password: Permission denied` is a sentence.
        So is `unexpected token: 'identifier'`, but a `token` in quotes is a name, as in JSON.
        """
        if ":" not in self.between:
            return self.between == "=" or not _EXPRESSION.match(value)
        is_sentence = self.name.lower() == "token" and self.before not in ("'", '"')
        if _is_quoted(value) and not is_sentence:
            return True
        if _PASS.match(self.name) and not _is_quoted(value):
            return False  # `PASS: test_1`
        return _is_mixed(value, _PASSWORD_MIN if _PASSWORD.search(self.name) else _SECRET_MIN)


def without_assigned(text: str) -> str:
    """Return the text with `***` in place of secret values of names and options, after one pass."""
    return _OPTION.sub(_without_value, without_parameters(text))


def without_parameters(text: str) -> str:
    """Hide VALUE in NAME=VALUE and NAME: VALUE if the name says it is secret, also inside a URL."""
    parts, end, plain_end = [], 0, 0
    for match in _ASSIGNED.finditer(text):
        name, between = match.groups()
        # The rest of a value that is not secret is not searched again, which could take long.
        if match.start() < end or (between != "=" and match.end() < plain_end):
            continue
        before = text[max(0, match.start() - 1) : match.start()]
        assigned = Assigned(name, between, text, match.end(), before)
        if not assigned.is_named_secret or assigned.is_harmless:
            continue
        value = _VALUE.match(text, match.end())
        if value is None:
            continue
        if assigned.may_be(value.group()):
            parts += [text[end : match.end()], HIDDEN]
            end = value.end()
        elif ":" in between and not _is_quoted(value.group()):
            plain_end = value.end()
    return "".join([*parts, text[end:]])


def _without_value(option: Match[str]) -> str:
    name, blanks, value = option.groups()
    assigned = Assigned(name, "=", value)
    is_secret = assigned.is_named_secret and not assigned.is_harmless
    return name + blanks + (HIDDEN if is_secret and not name.startswith("--no-") else value)


def _is_quoted(value: str) -> bool:
    return value.startswith(("'", '"'))


def _is_mixed(value: str, characters_min: int) -> bool:
    """Return whether `value` has letters and digits and is long, not counting hidden parts."""
    is_long = len(value.strip("'\"").replace("*", "")) >= characters_min
    return is_long and bool(_DIGIT.search(value) and _LETTER.search(value))
