"""Relaxes pins, one step at a time and only those that were in the way.

A package is first asked for exactly as the source has it: version and build. When a tool reports
that it is unavailable or in conflict, the build is relaxed first, then the version to a compatible
range. Last, on another platform, a package that is unavailable is dropped, as some exist for one
platform only; but never an interpreter. Builds for one platform are not asked for on another in the
first place.

Where a package comes from is never relaxed: one that was installed from a file, a directory or a
repository may have a namesake on an index, made by anybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple
from urllib.parse import unquote

from envsync.conda.packages import normalized
from envsync.conda.requirements import (
    NOARCH,
    CondaRequirement,
    PipRequirement,
    Requirements,
    spec_name,
)
from envsync.push.rebuilding.solver_messages import CONFLICT, UNAVAILABLE, ToolFailure

_INTERPRETERS = ("python", "pypy", "r-base")
"""Packages without which, or with another minor version of which, it is another environment."""

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.!+-]*\Z")
_NUMBERS = re.compile(r"(?:\d+!)?\d+(?:\.\d+)*")
_REQUESTED = re.compile(
    r"(?P<channel>\S+::)?(?P<name>[^\s=<>!~\[]+)\s*==?\s*(?P<version>[^\s=<>!~,|*\[]+)"
    r"(?:(?:=|\s+)(?P<build>[^\s=*\[]+))?\Z"
)
DROPPED = ""


@dataclass(frozen=True, slots=True)
class Relaxation:
    """One pin that was relaxed. `after` is empty if the package was left out."""

    package: str
    before: str
    after: str
    reason: str

    def __str__(self) -> str:
        became = "left out" if self.after == DROPPED else self.after
        why = f" ({self.reason})" if self.reason != self.before else ""
        return f"{self.before} -> {became}{why}"


@dataclass(frozen=True, slots=True)
class Pin:
    """One package: the specs to ask for, strictest first, and which of them is the present one.

    `address` is where a pip package came from, for messages that name nothing else.
    """

    name: str
    steps: tuple[str, ...]
    step: int = 0
    address: str = ""

    @property
    def spec(self) -> str:
        return self.steps[self.step]

    @property
    def may_give_way(self) -> bool:
        return self.step + 1 < len(self.steps)

    def relaxed(self) -> Pin:
        return replace(self, step=self.step + 1)


@dataclass(frozen=True, slots=True)
class PinPolicy:
    """How packages are asked for: on another platform than the source's, or only by history.

    `other_platform` says why the source's programs cannot run there; "" if they can. From history,
    only what a person asked for is pinned, as they wrote it.
    """

    other_platform: str = ""
    from_history: bool = False


class RelaxedPins(NamedTuple):
    """The pins after a failure; no `relaxations` if no pin that was named could be relaxed."""

    pins: tuple[Pin, ...]
    relaxations: tuple[Relaxation, ...]


def conda_pins(requirements: Requirements, policy: PinPolicy) -> tuple[Pin, ...]:
    """Return a pin for each package, or for each spec that a person gave."""
    if policy.from_history:
        return tuple(_requested(spec, policy) for spec in requirements.requested)
    return tuple(
        Pin(package.name.lower(), tuple(_conda_steps(package, policy)))
        for package in requirements.conda
        if _is_plain_conda(package)
    )


def _is_plain(*parts: str) -> bool:
    return all(_PLAIN.match(part) for part in parts)


def _is_plain_conda(package: CondaRequirement) -> bool:
    return _is_plain(package.name, package.version, package.build)


def _is_plain_pip(package: PipRequirement) -> bool:
    has_version = _is_plain(package.version) if package.version else bool(package.url)
    return has_version and _is_plain(package.name)


def left_out(requirements: Requirements, policy: PinPolicy) -> tuple[Relaxation, ...]:
    """Return the packages without a pin: no tool could be asked for them, or takes them amiss."""
    conda = [] if policy.from_history else requirements.conda
    odd = [("conda", p.name, p.version) for p in conda if not _is_plain_conda(p)]
    pip = _wanted_pip(requirements, policy)
    odd += [("pip", p.name, p.version) for p in pip if not _is_plain_pip(p)]
    reason = "no tool accepts that name, version or build"
    return tuple(
        Relaxation(name, f"{name[:80]!r} {version[:80]!r} of {tool}", DROPPED, reason)
        for tool, name, version in odd
    )


def _requested(spec: str, policy: PinPolicy) -> Pin:
    name = spec_name(spec)
    match = _REQUESTED.match(spec.strip())
    if match is None:
        return Pin(name, (spec,))
    package = CondaRequirement(name, match["version"], match["build"] or "", NOARCH)
    channel = match["channel"] or ""
    steps = [step and channel + step for step in _conda_steps(package, policy)]
    return Pin(name, (spec, *steps[1:]) if match["build"] else tuple(steps))


def _conda_steps(package: CondaRequirement, policy: PinPolicy) -> Iterator[str]:
    exact = f"{package.name}={package.version}"
    is_for_one_platform = package.subdir != NOARCH
    if package.build and not (policy.other_platform and is_for_one_platform):
        yield f"{exact}={package.build}"
    yield exact
    for version in _ranges(package.name, package.version):
        yield f"{package.name}={version}.*"
    if policy.other_platform and package.name not in _INTERPRETERS:
        yield DROPPED


def _ranges(name: str, version: str) -> Iterator[str]:
    """Yield shorter and shorter versions: 1.26.4 gives 1.26, then 1."""
    match = _NUMBERS.match(version)
    parts = match.group().split(".") if match else []
    shortest = 1 if name not in _INTERPRETERS else 2
    whole = match is not None and match.group() == version
    for length in range(len(parts) - whole, shortest - 1, -1):
        if length <= 2:
            yield ".".join(parts[:length])


def given_up_builds(requirements: Requirements, policy: PinPolicy) -> tuple[Relaxation, ...]:
    """Return what is given up before the first try on another platform: builds for one platform."""
    if policy.from_history or not policy.other_platform:
        return ()
    builds = [package for package in requirements.conda if package.subdir != NOARCH]
    if not builds:
        return ()
    subdirs = ", ".join(sorted({package.subdir or "another platform" for package in builds}))
    if len(builds) == 1:
        return (Relaxation("", "the build of 1 package", "its version", f"it is for {subdirs}"),)
    text = f"the builds of {len(builds)} packages"
    return (Relaxation("", text, "their versions", f"they are for {subdirs}"),)


def pip_pins(requirements: Requirements, policy: PinPolicy) -> tuple[Pin, ...]:
    """Return a pin for each pip package, or for those that a person asked for."""
    return tuple(
        Pin(normalized(package.name), tuple(_pip_steps(package, policy)), address=package.url)
        for package in _wanted_pip(requirements, policy)
        if _is_plain_pip(package)
    )


def _wanted_pip(requirements: Requirements, policy: PinPolicy) -> list[PipRequirement]:
    if not policy.from_history:
        return list(requirements.pip)
    # A package with its own address is pinned even if it came as a dependency: otherwise pip would
    # look for it on an index.
    return [package for package in requirements.pip if package.requested or package.url]


def _pip_steps(package: PipRequirement, policy: PinPolicy) -> Iterator[str]:
    if package.url:
        url = package.url.replace(" ", "%20")
        yield f"-e {url}" if package.editable else f"{package.name} @ {url}"
        # From history, pip resolves dependencies, and a package left out could come back from an
        # index.
        if policy.other_platform and not policy.from_history:
            yield DROPPED
        return
    yield f"{package.name}=={package.version}"
    for version in _ranges("", package.version):
        yield f"{package.name}=={version}.*"
    if policy.other_platform:
        yield DROPPED


def specs(pins: Sequence[Pin]) -> tuple[str, ...]:
    """Return the specs to ask for now."""
    return tuple(pin.spec for pin in pins if pin.spec != DROPPED)


def package_names(pins: Sequence[Pin]) -> tuple[str, ...]:
    """Return the packages that have to be there afterwards."""
    return tuple(pin.name for pin in pins if pin.spec != DROPPED)


def relax(pins: Sequence[Pin], failure: ToolFailure) -> RelaxedPins:
    """Relax by one step the pins that are unavailable, or the strictest of those in conflict."""
    named = _named(pins, failure) if failure.kind in (UNAVAILABLE, CONFLICT) else []
    giving = [pin for pin in named if pin.may_give_way]
    if failure.kind == CONFLICT:
        # A package is dropped only if it is unavailable, never because of a conflict.
        giving = [pin for pin in giving if pin.relaxed().spec != DROPPED]
        strictest = min((pin.step for pin in giving), default=0)
        giving = [pin for pin in giving if pin.step == strictest]
    said = {normalized(name): failure.reason(name) for name in failure.names}
    after, relaxations = list(pins), []
    for pin in giving:
        relaxed = pin.relaxed()
        after[after.index(pin)] = relaxed
        reason = said.get(normalized(pin.name), failure.summary)
        relaxations.append(Relaxation(pin.name, pin.spec, relaxed.spec, reason))
    return RelaxedPins(tuple(after), tuple(relaxations))


def named_with_address(pins: Sequence[Pin], failure: ToolFailure) -> list[Pin]:
    """Return, of the pins that the tool named, those that have an address of their own."""
    return [pin for pin in _named(pins, failure) if pin.address]


def _named(pins: Sequence[Pin], failure: ToolFailure) -> list[Pin]:
    names = {normalized(name) for name in failure.names}
    return [pin for pin in pins if normalized(pin.name) in names or is_at(pin, failure)]


def is_at(pin: Pin, failure: ToolFailure) -> bool:
    """Return whether the tool named the address that a pip package came from."""
    return bool(pin.address) and _bare(pin.address) in map(_bare, failure.addresses)


def _bare(address: str) -> str:
    """Return host and path alone: tools omit the rest of an address, or the user in it."""
    scheme, is_address, rest = address.partition("://")
    if not is_address:
        return address.rstrip("/")
    rest = rest.partition("#")[0]
    host, slash, path = rest.partition("/")
    if "+" in scheme:
        path = path.partition("@")[0]
    return unquote(host.rpartition("@")[2] + slash + path).rstrip("/")
