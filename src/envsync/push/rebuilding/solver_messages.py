"""Parses what conda, mamba, micromamba and pip print when they cannot install something.

Only the cause is read: which packages, and whether they are missing or in conflict, or whether the
channel or the network is the cause, which relaxing cannot help.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from envsync.conda.requirements import spec_name

UNAVAILABLE, CONFLICT, CHANNEL, NETWORK, SPACE, OTHER = (
    "unavailable",
    "conflict",
    "channel",
    "network",
    "space",
    "other",
)
"""Kinds of failure: no such package or version; versions that conflict; a channel that does not
exist; no way to a server; a full disk; anything else."""

_NOT_FOUND = re.compile(r"PackagesNotFound\w*Error|ResolvePackageNotFound")
_UNSATISFIABLE = re.compile(r"Unsatisfiable\w*Error|incompatible|conflict", re.IGNORECASE)
_LISTED = re.compile(r"^[^\S\n]*- (?P<spec>\S.*)$", re.MULTILINE)
_NAME = r"(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*)"
_STEM = r"(?P<stem>[A-Za-z0-9_][A-Za-z0-9_.!+-]*-[^-\s]+-[^-\s,]+)"
_TREE = re.compile(rf"^(?P<indent>[ │|]*)[├└]─+ *{_NAME}(?P<rest>[^\n]*)$", re.MULTILINE)
_REQUESTED = re.compile(rf"nothing provides requested {_NAME}")
_NEEDED_BY = re.compile(rf"nothing provides \S.* needed by {_STEM}")
_PACKAGE_REQUIRES = re.compile(rf"package {_STEM} (?:requires|conflicts|has constraint)")
_NO_CANDIDATES = re.compile(rf"No candidates were found for {_NAME}")
_WORD = re.compile(r"(?<!\S)[a-z0-9_][a-z0-9_.-]*")
_VERSION = re.compile(r"-\d[^-]*(?:-[^-]+)?\Z")
_GONE = "does not exist"

_NETWORK = re.compile(
    r"CondaHTTPError: HTTP 000|CONNECTION FAILED|Could not resolve host|Name or service not known"
    r"|Temporary failure in name resolution|Network is unreachable|No route to host"
    r"|Failed to establish a new connection|Connection refused|NewConnectionError"
    r"|ConnectTimeout|Download error \((?:6|7|28|35)\)|error sending request"
)
_CHANNEL = re.compile(r"UnavailableInvalidChannel: |repodata\.json[^\n]*(?:404|Not Found)")
_SPACE = re.compile(r"No space left on device|NoSpaceLeftError|Disk quota exceeded")

_PIP_ERROR = re.compile(r"^ *(?:ERROR|error): (?P<what>.*)$", re.MULTILINE)
_PIP_NAMES = (
    re.compile(rf"No matching distribution found for {_NAME}"),
    re.compile(rf"Could not find a version that satisfies the requirement {_NAME}"),
    re.compile(rf"Failed building (?:wheel|editable) for {_NAME}"),
    re.compile(rf"Could not build wheels for {_NAME}"),
    re.compile(rf"Failed to build installable wheels[^\n]*\({_NAME}"),
    re.compile(rf"ERROR: Package '?{_NAME}'? requires a different Python"),
    re.compile(r"ERROR: (?P<name>\w[\w.]*)-[^ ]*\.whl is not a supported wheel on this platform"),
)
_PIP_ADDRESSES = (
    # ERROR: [NAME@ URL from] URL [(from -r FILE (line 1))] does not appear to be ...
    re.compile(
        r"ERROR: (?:\S+ \S+ from )?(?P<address>\S+)(?: \(from -r [^\n]*?\))?"
        r" (?:is not a valid editable requirement|does not appear)"
    ),
    re.compile(r"No such file or directory: '(?P<address>[^']+)'"),
    re.compile(r"ERROR: (?P<address>\S+) does not exist"),
    re.compile(r"ERROR: HTTP error \d+ while getting (?P<address>\S+)"),
    re.compile(r"git clone [^\n]*?(?P<address>\w+://[^\s']+)"),
)


@dataclass(frozen=True, slots=True)
class ToolFailure:
    """Why a tool failed. `names` are packages in lower case; `addresses` include paths.

    `reasons` are what was said of a package in particular, by its name.
    """

    kind: str
    names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    summary: str = ""
    reasons: dict[str, str] = field(default_factory=dict)

    def reason(self, name: str) -> str:
        """Return what was said of that package; of nothing in particular, the summary."""
        return self.reasons.get(name, self.summary)


def read_conda(output: str) -> ToolFailure:
    """Return why conda, mamba or micromamba failed."""
    document = _document(output)
    text = output
    if document is not None:
        messages = [document.get(key) or "" for key in ("error", "message")]
        text = "\n".join(map(str, [*messages, *_problems(document)]))
    for kind, pattern in ((SPACE, _SPACE), (CHANNEL, _CHANNEL), (NETWORK, _NETWORK)):
        match = pattern.search(text)
        if match:
            return ToolFailure(kind, summary=_line_of(text, match.start()))
    return _of_packages(document, text)


def lines(output: str) -> list[str]:
    """Return what a tool said to people, each line once; of JSON, only the messages in it."""
    document = _document(output) or {}
    message = document.get("message") or document.get("error") or ""
    text = "\n".join(map(str, [message, *_problems(document)]))
    if not text.strip():
        text = output
    return list(dict.fromkeys(line.rstrip() for line in text.splitlines() if line.strip()))


def _problems(document: dict[str, Any]) -> list[Any]:
    """Return what mamba's solver says."""
    problems = document.get("solver_problems")
    return problems if isinstance(problems, list) else []


def _of_packages(document: dict[str, Any] | None, text: str) -> ToolFailure:
    listed = [] if document is None else document.get("packages")
    if isinstance(listed, list) and listed:
        return _unavailable([str(spec) for spec in listed])
    not_found = _NOT_FOUND.search(text)
    if not_found:
        return _unavailable(list(_block(text[not_found.end() :])))
    missing = _missing(text)
    if missing:
        return _said(UNAVAILABLE, missing, text)
    named = [match["name"] for match in _TREE.finditer(text)]
    blamed = [
        match["stem"].rsplit("-", 2)[0]
        for pattern in (_NEEDED_BY, _PACKAGE_REQUIRES)
        for match in pattern.finditer(text)
    ]
    if named or blamed or _UNSATISFIABLE.search(text):
        return _said(CONFLICT, _names([*named, *blamed]), text)
    return ToolFailure(OTHER, summary=_last_line(text))


def _unavailable(specs: list[str]) -> ToolFailure:
    """Return the failure of a tool that only lists what is not there."""
    reasons = {spec_name(spec): spec for spec in reversed(specs)}
    return ToolFailure(UNAVAILABLE, _names(specs), summary=", ".join(specs), reasons=reasons)


def _said(kind: str, names: tuple[str, ...], text: str) -> ToolFailure:
    """Return the failure of a tool that says something of each package."""
    reasons = _lines_about(names, text)
    summary = next(iter(reasons.values()), "") or _last_line(text)
    return ToolFailure(kind, names, summary=summary, reasons=reasons)


def _missing(text: str) -> tuple[str, ...]:
    """Return the requested packages of which no candidate fits."""
    requested = [match["name"] for match in _REQUESTED.finditer(text)]
    requested += [match["name"] for match in _NO_CANDIDATES.finditer(text)]
    requested += [name for name, rest in _branches(text) if _GONE in rest]
    return _names(requested)


def _branches(text: str) -> list[tuple[str, str]]:
    """Return the branches of a solver's tree that start at its root: what was asked for."""
    branches = [(len(m["indent"]), m["name"], m["rest"]) for m in _TREE.finditer(text)]
    root = min((indent for indent, _, _ in branches), default=0)
    return [(name, rest) for indent, name, rest in branches if indent == root]


def _block(text: str) -> Iterator[str]:
    """Yield the specs of a list, which ends where something else begins."""
    begun = False
    for line in text.splitlines()[1:]:
        match = _LISTED.match(line)
        if match:
            begun = True
            yield match["spec"]
        elif begun:
            return


def read_pip(output: str) -> ToolFailure:
    """Return why pip failed."""
    for kind, pattern in ((SPACE, _SPACE), (NETWORK, _NETWORK)):
        match = pattern.search(output)
        if match:
            return ToolFailure(kind, summary=_line_of(output, match.start()))
    names = _names(m["name"] for p in _PIP_NAMES for m in p.finditer(output))
    addresses = tuple(
        dict.fromkeys(m["address"] for p in _PIP_ADDRESSES for m in p.finditer(output))
    )
    errors = [match["what"].strip() for match in _PIP_ERROR.finditer(output)]
    summary = errors[-1] if errors else _last_line(output)
    return ToolFailure(UNAVAILABLE if names or addresses else OTHER, names, addresses, summary)


def _document(output: str) -> dict[str, Any] | None:
    """Return the JSON document in a tool's output, whatever is printed around it."""
    start, end = output.find("{"), output.rfind("}")
    try:
        document = json.loads(output[start : end + 1])
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _names(specs: Any) -> tuple[str, ...]:
    """Return the packages that specs are about, each once, in order."""
    return tuple(dict.fromkeys(filter(None, map(spec_name, specs))))


def _lines_about(names: tuple[str, ...], text: str) -> dict[str, str]:
    """Return the first line that names each package, without the tree around it, in their order."""
    wanted, found = set(names), dict[str, str]()
    for line in text.splitlines():
        message = line.strip(" │├└─|-").rstrip(";.")
        words = [word.rstrip(".") for word in _WORD.findall(message.lower())]
        without_version = [_VERSION.sub("", word) for word in words]
        for name in sorted(wanted.intersection(words + without_version)):
            found.setdefault(name, message)
    return found


def _line_of(text: str, at: int) -> str:
    start = text.rfind("\n", 0, at) + 1
    return text[start:].split("\n", 1)[0].strip()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"
