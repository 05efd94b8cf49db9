"""Chooses the method by which an environment comes to a target."""

from __future__ import annotations

from typing import NamedTuple

from envsync.conda.platform_needs import Platform, mismatches

AUTO, MIRROR, PACK, REBUILD = "auto", "mirror", "pack", "rebuild"
ASKED_FOR = "requested"
METHODS = (AUTO, MIRROR, PACK, REBUILD)


class Method(NamedTuple):
    """`mirror`, `pack` or `rebuild`, with the reason in words."""

    name: str
    reason: str

    @property
    def is_rebuild(self) -> bool:
        """Whether only the environment's requirements are sent."""
        return self.name == REBUILD


def choose_method(wanted: str, source: Platform, target: Platform) -> Method:
    """Return the method for these platforms where `auto` is wanted; any other choice is kept."""
    if wanted != AUTO:
        return Method(wanted, ASKED_FOR)
    refused = [mismatch.message for mismatch in mismatches(source, target) if mismatch.refused]
    if refused:
        return Method(REBUILD, refused[0])
    machine = f"{source.system} {source.machine}".strip()
    return Method(MIRROR, f"both are {machine}" if machine else "the platforms do not differ")
