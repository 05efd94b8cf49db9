"""The target's own checks before a push: whether the environment can be put there at all."""

from __future__ import annotations

import os
import re
import shlex
from typing import Iterable, List, Tuple

from envsync.agent.places.base import has_conda, obstacle_finding
from envsync.agent.places.directory_identity import directory_identity, is_same_directory
from envsync.agent.places.layout import STATE_DIRECTORY, Layout, base_layout
from envsync.agent.places.live_name import becomes_link
from envsync.agent.places.members import is_foreign, owner_finding, require_member
from envsync.agent.places.state_files import group_writes
from envsync.agent.server.accounts import user_name
from envsync.agent.server.filesystem import (
    existing_parent,
    is_mount_point,
    is_noexec,
    mounted_within,
)
from envsync.agent.wire.messages import (
    FINDING_HINTS,
    FOREIGN_OWNER,
    MOUNT_POINT,
    MOUNTED_INSIDE,
    MOUNTED_PREFIX,
    NOT_A_DIRECTORY,
    READ_ONLY,
    READ_ONLY_MOUNT,
    STATE_ELSEWHERE,
    DirectoryIdentity,
    Finding,
)
from envsync.conda.metadata import PYTHON
from envsync.conda.platform_needs import cuda_mismatch, cuda_need
from envsync.errors import Hint, PreflightRefused, TargetIsSource
from envsync.tree.environment_name import BASE
from envsync.tree.manifest import Manifest

_PYTHON_DIRECTORY = re.compile(rb"lib/(" + PYTHON + rb")\Z")


def require_prefix(prefix: str) -> None:
    """Raise `PreflightRefused` if the prefix is not the absolute path of a directory."""
    if not os.path.isabs(prefix):
        raise PreflightRefused(f"the prefix is not an absolute path: {prefix!r}")
    if not os.path.isdir(prefix):
        raise PreflightRefused(
            f"there is no conda prefix at {prefix}",
            hint=Hint(
                "`envsync bootstrap {server}` installs conda there; if it is elsewhere, set "
                "that server's `prefix:` in the inventory"
            ),
        )


def make_room(layout: Layout, *, touch: bool) -> None:
    """Make sure that a prefix can be created where there is none; `touch` makes its parents.

    A directory in its place stays. Raises `PreflightRefused` if this user may not do that.
    """
    parent = os.path.dirname(layout.live)
    try:
        if touch and not os.path.isdir(parent):
            nearest = existing_parent(parent)
            os.makedirs(parent)
            while parent != nearest:
                os.chmod(parent, 0o755)  # noqa: S103 - as `mkdir -p` would
                parent = os.path.dirname(parent)
    except PermissionError as error:
        raise _no_room(layout) from error
    if not os.access(existing_parent(parent), os.W_OK | os.X_OK):
        raise _no_room(layout)


def _no_room(layout: Layout) -> PreflightRefused:
    """Return the error, with a fix, which never gives an existing directory to another owner."""
    parent, user = os.fsdecode(os.path.dirname(layout.live)), user_name()
    if os.path.isdir(parent):
        return PreflightRefused(
            f"{parent} is not writable by {user}",
            hint=Hint(
                f"set `prefix:` of {{server}} to a path in a directory that {user} can write to"
            ),
        )
    command = f"install -d -m 755 -o {user} {shlex.quote(parent)}"
    return PreflightRefused(
        f"{parent} does not exist, and {user} cannot create it",
        hint=f"an administrator there has to run: sudo {command}",
    )


def base_obstacle(prefix: str) -> str:
    """Return what keeps conda's base from being installed at the prefix; "" if nothing does.

    The prefix has no package of conda's.
    """
    layout = base_layout(prefix)
    try:
        require_sound_link(layout)
        make_room(layout, touch=False)
        if has_conda(layout.live) and not layout.interrupted():  # `bootstrap` leaves it as it is
            return f"{prefix} has another Python"
        findings = place_findings(layout)
    except PreflightRefused as refused:
        return refused.message
    return next((finding.message for finding in findings if finding.blocking), "")


def place_findings(layout: Layout) -> Tuple[Finding, ...]:
    """Return what is wrong with the environment's place. Each blocking finding forbids a push."""
    found: List[Finding] = []
    if os.path.isdir(layout.live) and layout.name == BASE:
        found += _base_findings(layout)
    elif os.path.isdir(layout.live):
        found += mount_findings(layout.standing(), os.fsdecode(layout.live))
        owned = owner_finding(layout)
        found += [] if owned is None else [owned]
    elif os.path.lexists(layout.live):
        message = f"{os.fsdecode(layout.live)} is not a directory"
        found.append(Finding(NOT_A_DIRECTORY, message, blocking=True))
    parent = existing_parent(layout.state)
    beside = existing_parent(os.path.dirname(layout.live))
    if os.stat(parent).st_dev != os.stat(beside).st_dev:
        message = (
            f"{os.fsdecode(parent)} is on another filesystem than {os.fsdecode(beside)}, "
            "so no switch is possible"
        )
        found.append(Finding(STATE_ELSEWHERE, message, blocking=True))
    # A base that exists is not switched, and `make_room` looks above one that does not.
    written = [parent] if layout.name == BASE else [parent, beside]
    closed = [place for place in written if not os.access(place, os.W_OK | os.X_OK)]
    found += map(_unwritable, closed[:1])
    if is_noexec(beside):
        message = (
            f"the filesystem of {os.fsdecode(beside)} is mounted noexec: no program runs there"
        )
        found.append(Finding("noexec", message))
    if layout.name != BASE and not os.path.isdir(os.path.join(layout.prefix, b"conda-meta")):
        message = f"{os.fsdecode(layout.prefix)} has no conda-meta, so there is no conda"
        found.append(Finding("no-conda", message))
    return tuple(found)


def _base_findings(layout: Layout) -> Tuple[Finding, ...]:
    """Return the findings for a base whose prefix exists.

    A conda in it stays as it is, and nothing else in it is moved. What an interrupted installation
    of the base has brought is no obstacle: the installation is resumed.
    """
    findings = [owner_finding(layout)]
    if not has_conda(layout.standing()):
        findings.append(None if layout.interrupted() else obstacle_finding(layout))
        if is_mount_point(layout.standing()):
            live = os.fsdecode(layout.live)
            message = f"{live} is a mount point: conda cannot be staged beside it"
            findings.append(Finding(MOUNTED_PREFIX, message, blocking=True))
    return tuple(finding for finding in findings if finding is not None)


def refuse_anothers(findings: Iterable[Finding]) -> None:
    """Raise `PreflightRefused` if one of these says that another user's version is in the way."""
    for finding in findings:
        if finding.kind == FOREIGN_OWNER:
            raise PreflightRefused(finding.message, hint=FINDING_HINTS[finding.kind])


def mount_findings(tree: bytes, name: str) -> Tuple[Finding, ...]:
    """Return what is mounted in or on a version: it would move along, and must not be removed."""
    if is_mount_point(tree):
        message = f"{name} is a mount point and cannot be switched"
        return (Finding(MOUNT_POINT, message, blocking=True),)
    message = "something is mounted inside %s, at %s"
    names = [(name, os.fsdecode(mount)) for mount in mounted_within(tree)]
    return tuple(Finding(MOUNTED_INSIDE, message % name, blocking=True) for name in names)


def require_no_mounts(layout: Layout) -> None:
    """Raise `PreflightRefused` if something is mounted in the live version."""
    require_no_mounts_in(layout.standing(), os.fsdecode(layout.live))


def require_no_mounts_in(tree: bytes, name: str) -> None:
    """Raise `PreflightRefused` if something is mounted in the version at `tree`, called `name`."""
    findings = mount_findings(tree, name)
    if findings:
        raise PreflightRefused(
            findings[0].message,
            details=[finding.message for finding in findings[1:]],
            hint=FINDING_HINTS[findings[0].kind],
        )


def _unwritable(directory: bytes) -> Finding:
    """Return the finding: a mode has another fix than a read-only mount or another's directory.

    Raises `PreflightRefused` if it is shared with a group that this user is not in.
    """
    if os.statvfs(directory).f_flag & os.ST_RDONLY:
        message = f"the filesystem of {os.fsdecode(directory)} is mounted read-only"
        return Finding(READ_ONLY_MOUNT, message, blocking=True)
    if is_foreign(directory):
        status, path = os.stat(directory), os.fsdecode(directory)
        owner = user_name(status.st_uid)
        message = f"{path} belongs to {owner} and is not writable by {user_name()}"
        if group_writes(status):
            require_member(status.st_gid, message)
        return Finding(FOREIGN_OWNER, message, blocking=True)
    return Finding(READ_ONLY, f"{os.fsdecode(directory)} is not writable", blocking=True)


def require_sound_link(layout: Layout) -> None:
    """Raise `PreflightRefused` if the name is a link to something that must not be switched.

    A link of the user's own may lead to another disk, but not to something with another purpose.
    A prefix that is no directory may be a program of conda's, which nobody should remove.
    """
    if layout.name == BASE and os.path.lexists(layout.live) and not os.path.isdir(layout.live):
        raise PreflightRefused(
            f"{os.fsdecode(layout.path)} is not a directory",
            hint=Hint("correct the `prefix:` of {server} in the inventory"),
        )
    leads_to = _leads_to(layout)
    if leads_to:
        raise PreflightRefused(
            f"{os.fsdecode(layout.path)} is a link to {leads_to}",
            hint=f"remove the link there: rm {shlex.quote(os.fsdecode(layout.path))}",
        )


def _leads_to(layout: Layout) -> str:
    """Return what the link leads to, in words, if that is wrong; else ""."""
    if layout.live == layout.path:
        is_lost = os.path.islink(layout.path) and not os.path.isdir(layout.path)
        return "no directory" if is_lost else ""
    base = os.path.realpath(layout.prefix)
    if layout.name != BASE and (base + b"/").startswith(layout.live.rstrip(b"/") + b"/"):
        return "conda itself"
    if STATE_DIRECTORY in layout.live.split(b"/"):
        return "a version that envsync keeps"
    parent, name = os.path.split(layout.live)
    is_another = parent == os.path.join(base, b"envs")
    return f"another environment, {os.fsdecode(name)}" if is_another else ""


def require_another_place(layout: Layout, source: DirectoryIdentity) -> None:
    """Raise `TargetIsSource` if the source is this very directory. Nothing is written."""
    here = directory_identity(layout.standing())
    if here is not None and is_same_directory(here, source):
        raise TargetIsSource(
            "it is the same directory as the source, on a filesystem that both share",
            details=[os.fsdecode(layout.path)],
        )


def switch_findings(layout: Layout) -> Tuple[Finding, ...]:
    """Return what a person should know about the coming switch, before anything is sent.

    Raises `PreflightRefused` if no switch is possible.
    """
    if layout.name == BASE or not becomes_link(layout):
        return ()  # a base that exists is not switched
    message = (
        f"the filesystem there cannot swap two directories: {layout.name} becomes a link to one "
        "in .envsync, and the name is missing for a moment during this one switch"
    )
    return (Finding("becomes-link", message),)


def content_findings(wanted: Manifest) -> Tuple[Finding, ...]:
    """Return warnings about what this server lacks, or has in the way, for an environment."""
    home = os.environ.get("HOME", "")
    return user_site_findings(wanted.directories, home) + cuda_findings(wanted)


def user_site_findings(directories: Iterable[bytes], home: str) -> Tuple[Finding, ...]:
    """Warn of a `~/.local` whose packages this user's Python finds before the environment's.

    `directories` are those of the environment, which show its Python's version.
    """
    found: List[Finding] = []
    for directory in directories:
        match = _PYTHON_DIRECTORY.match(directory)
        if match is None or not home:
            continue
        site = os.path.join(home, ".local", "lib", match.group(1).decode(), "site-packages")
        if os.path.isdir(site) and _may_hold_something(site):
            message = f"{site} there comes before the environment's own packages"
            found.append(Finding("user-site", message))
    return tuple(found)


def _may_hold_something(directory: str) -> bool:
    """Return whether a directory has entries; True also if it is closed or its disk fails."""
    try:
        return bool(os.listdir(directory))
    except OSError:
        return True


def cuda_findings(wanted: Manifest) -> Tuple[Finding, ...]:
    """Warn of packages that need a newer CUDA than the NVIDIA driver here supports."""
    site_packages = [path for path in wanted.directories if path.endswith(b"/site-packages")]
    names = [
        entry.name for place in (b"conda-meta", *site_packages) for entry in wanted.entries(place)
    ]
    need = cuda_need(names)
    if need is None:
        return ()
    from envsync.agent.server.cuda import driver_cuda_version  # and ctypes, for this alone

    message = cuda_mismatch(need, driver_cuda_version())
    return () if message is None else (Finding("cuda", message),)
