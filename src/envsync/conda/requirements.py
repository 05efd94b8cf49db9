"""Reads an environment's requirements, so that it can be rebuilt on another server.

They come from the records of conda and pip, and neither tool is needed: names, versions, builds
and channels from `conda-meta/*.json`, pip's packages from `*.dist-info`, the user's own specs
from `conda-meta/history`. Credentials are left out, because each server uses its own.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
from collections import Counter
from typing import (
    AbstractSet,
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Set,
    Tuple,
)
from urllib.parse import urlsplit, urlunsplit

from envsync.conda.metadata import HISTORY, SITE_PACKAGES, files_of_conda, is_editable
from envsync.conda.packages import CONDA, Installed, ReadFile, find_installed, normalized
from envsync.errors import SourceRefused
from envsync.files.json_object import json_object

NOARCH = "noarch"

_EGG_LINK = re.compile(SITE_PACKAGES + rb"/([^/]+)\.egg-link")
_METADATA = re.compile(rb"(.*\.(?:dist|egg)-info)(?:/|\Z)")
_TOKEN = re.compile(r"/t/[^/]+(?=/)")
# By conda's systems, because a channel's own name can look like a platform: conda-forge.
_SYSTEMS = "linux|osx|win|freebsd|zos|emscripten|wasi"
_SUBDIR = re.compile(rf"/(?:noarch|(?:{_SYSTEMS})-[a-z0-9_]+)/?\Z")
_SPECS = re.compile(r"#\s*(update|install|remove|neutered) specs:\s*(\[.*\])\s*\Z")
# A channel can be a URL, which contains colons.
_SPEC_NAME = re.compile(r"(?:\S+::)?([A-Za-z0-9_][A-Za-z0-9_.-]*)")
_PACKAGE_FILE = re.compile(r"[a-z]+://\S*/([^/\s]+)-[^-/\s]+-[^-/\s]+\.(?:conda|tar\.bz2)\Z")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"\]]*")
_SUBDIRECTORY = re.compile(r"(?:\A|&)subdirectory=([^&]+)")


class CondaRequirement(NamedTuple):
    """One conda package; `subdir` is `noarch` or the platform that it was built for."""

    name: str
    version: str
    build: str
    subdir: str


class PipRequirement(NamedTuple):
    """One pip package.

    `url` is where it came from, empty if from an index. `requested` is true if a person named
    it, false if it came as a dependency.
    """

    name: str
    version: str
    url: str
    editable: bool
    requested: bool


class Requirements(NamedTuple):
    """All of an environment's requirements.

    `requested` are the specs that a person gave conda, as they were written. `unowned` names, for a
    message, the files of no package, which nothing here brings back.
    """

    channels: Tuple[str, ...]
    conda: Tuple[CondaRequirement, ...]
    pip: Tuple[PipRequirement, ...]
    requested: Tuple[str, ...]
    unowned: str = ""


def requirements(paths: Iterable[bytes], read: ReadFile) -> Requirements:
    """Return the requirements of the environment that has these files.

    `read` returns a file's content, or None if it cannot be read. Raises `SourceRefused` if one of
    conda's records is damaged: what it is about would be missing there.
    """
    listed = frozenset(paths)
    installed = find_installed(listed)
    records = list(_conda_records(installed, read))
    owned = {path for record in records for path in _metadata_of(record)}
    pip = [
        _of_pip(package, listed, read)
        for package in installed
        if not _is_conda(package) and package.metadata_path not in owned
    ]
    pip += _egg_links(listed, read, {normalized(package.name) for package in pip})
    return Requirements(
        channels_of(records),
        tuple(sorted(_of_conda(record) for record in records)),
        tuple(sorted(pip)),
        requested_specs((read(HISTORY) or b"").decode("utf-8", "replace")),
    )


def _conda_records(installed: Iterable[Installed], read: ReadFile) -> Iterator[Dict[str, Any]]:
    for package in filter(_is_conda, installed):
        path, name = os.fsdecode(package.metadata_path), shlex.quote(package.package.name)
        record = json_object(read(package.metadata_path) or b"")
        if not all(isinstance(record.get(key), str) for key in ("name", "version", "build")):
            raise SourceRefused(
                f"conda's record {path} is damaged",
                hint=f"`conda install --force-reinstall {name}` at the source, "
                "or, where the platforms are the same, use --method mirror",
            )
        yield record


def _is_conda(installed: Installed) -> bool:
    return installed.package.kind == CONDA


def _of_conda(record: Dict[str, Any]) -> CondaRequirement:
    subdir = record.get("subdir")
    return CondaRequirement(
        record["name"], record["version"], record["build"], subdir if type(subdir) is str else ""
    )


def _metadata_of(record: Dict[str, Any]) -> Set[bytes]:
    """Return the Python metadata directories that a conda package installed, under any name."""
    return {match.group(1) for match in map(_METADATA.match, files_of_conda(record)) if match}


def channels_of(records: Iterable[Dict[str, Any]]) -> Tuple[str, ...]:
    """Return the channels that packages came from, most packages first, without credentials."""
    counts: Counter[str] = Counter()
    for record in records:
        url, channel = record.get("url"), record.get("channel")
        if isinstance(url, str) and "://" in url:
            counts[_channel(url.rpartition("/")[0])] += 1
        elif isinstance(channel, str) and channel and channel != "<unknown>":
            counts[_channel(channel)] += 1
    return tuple(sorted(counts, key=lambda channel: (-counts[channel], channel)))


def _channel(url: str) -> str:
    return _SUBDIR.sub("", without_credentials(url))


def without_credentials(url: str) -> str:
    """Return the URL without user, password, token and query, and for http without fragment.

    The user stays if it lets nobody in by itself; in the path of a file, nothing is a token. The
    result is empty if `url` is malformed.
    """
    if "://" not in url:
        return url
    # Its patterns take some milliseconds to make, and every push imports this module.
    from envsync.texts.credential_patterns import user_that_may_stay

    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    userinfo, _, place = parts.netloc.rpartition("@")
    user = user_that_may_stay(parts.scheme, userinfo)
    place = f"{user}@{place}" if user else place
    fragment = "" if parts.scheme.startswith("http") else parts.fragment
    path = parts.path if parts.scheme == "file" else _TOKEN.sub("", parts.path)
    return urlunsplit((parts.scheme, place, path, "", fragment))


def _of_pip(installed: Installed, paths: AbstractSet[bytes], read: ReadFile) -> PipRequirement:
    package, top = installed.package, installed.metadata_path
    url, editable = direct_url(read(top + b"/direct_url.json"))
    requested = top + b"/REQUESTED" in paths
    return PipRequirement(package.name, package.version, url, editable, requested)


def direct_url(content: Optional[bytes]) -> Tuple[str, bool]:
    """Return the URL in `direct_url.json` in pip's syntax, and whether the install is editable.

    The URL has no credentials, and is empty if the file is missing or damaged.
    """
    document = json_object(content or b"")
    if not isinstance(document.get("url"), str):
        return "", False
    url, _, fragment = document["url"].partition("#")
    url = without_credentials(url)
    vcs = document.get("vcs_info")
    if isinstance(vcs, dict) and isinstance(vcs.get("vcs"), str):
        commit = vcs.get("commit_id")
        at = "@" + commit if isinstance(commit, str) and commit else ""
        url = f"{vcs['vcs']}+{url}{at}"
    below = document.get("subdirectory") or "".join(_SUBDIRECTORY.findall(fragment)[:1])
    if url and isinstance(below, str) and below:
        url = f"{url}#subdirectory={below}"
    return url, is_editable(document)


def _egg_links(paths: Iterable[bytes], read: ReadFile, known: Set[str]) -> List[PipRequirement]:
    """Return the packages of `.egg-link` files, in which `setup.py develop` names a directory."""
    requirements = []
    for path in paths:
        match = _EGG_LINK.fullmatch(path)
        if match is None:
            continue
        name = match.group(1).decode("utf-8", "backslashreplace")
        place = (read(path) or b"").split(b"\n")[0].decode("utf-8", "replace").strip()
        if place.startswith("/") and normalized(name) not in known:
            requirements.append(
                PipRequirement(name, "", "file://" + place, editable=True, requested=True)
            )
    return requirements


def requested_specs(history: str) -> Tuple[str, ...]:
    """Return the specs in force at the end of `conda-meta/history`, sorted by package name.

    Credentials of channels are left out.
    """
    specs: Dict[str, str] = {}
    for line in history.splitlines():
        match = _SPECS.match(line)
        if match is None:
            continue
        kind, listed = match.groups()
        for spec in map(_spec_to_take, _listed(listed)):
            if kind in ("update", "install"):
                specs[spec_name(spec)] = spec
            elif kind == "remove":
                specs.pop(spec_name(spec), None)
    return tuple(specs[name] for name in sorted(specs) if name)


def _listed(text: str) -> Tuple[str, ...]:
    try:
        value = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return ()
    return tuple(spec for spec in value if isinstance(spec, str))


def _spec_to_take(spec: str) -> str:
    """Return the spec without the credentials in its URLs."""
    channel, is_of_channel, rest = spec.rpartition("::")
    channel, rest = (
        _ADDRESS.sub(lambda address: without_credentials(address.group()), part)
        for part in (channel, rest)
    )
    return channel + is_of_channel + rest


def spec_name(spec: str) -> str:
    """Return the package that a conda spec names: `numpy` for `conda-forge::numpy>=1.26`."""
    match = _PACKAGE_FILE.match(spec.strip()) or _SPEC_NAME.match(spec.strip())
    return match.group(1).lower() if match else ""
