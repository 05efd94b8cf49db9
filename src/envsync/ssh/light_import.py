"""Imports fabric's libraries without the parts that a session never uses.

invoke imports `unittest.mock`, for testing task files, and with it asyncio and ssl; and a YAML
reader of its own, with a second one behind it. paramiko asks `importlib.metadata` for its own
version, which imports email, csv and zipfile. Together they took a third of the processor time that
a push spends on imports. Here each is imported when it is first used.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from pathlib import Path
from types import ModuleType
from typing import Any

_MOCK = "unittest.mock"
_METADATA = "importlib.metadata"
_YAML = "invoke.vendor.yaml"
_lock = threading.Lock()


def import_libraries() -> None:
    """Import invoke and paramiko, if they are not imported yet.

    Any thread may call this, before fabric or paramiko is imported in another way.
    """
    with _lock:
        if "paramiko" in sys.modules:
            return
        sys.meta_path.insert(0, _YamlLater)
        try:
            with _standing_in(_MOCK, Mock=_mock), _standing_in(_METADATA, version=_version):
                importlib.import_module("invoke")
                importlib.import_module("paramiko")
        finally:
            sys.meta_path.remove(_YamlLater)


class StandIn(ModuleType):
    """A module with a few attributes of its own; any other imports and asks the real module."""

    def __init__(self, name: str, **own: object) -> None:
        super().__init__(name)
        self.__dict__.update(own)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # the import system asks every module for these
        return getattr(_real(self.__name__), name)


@contextlib.contextmanager
def _standing_in(name: str, **own: object) -> Iterator[None]:
    """Put a stand-in under `name` within the block, unless a module is there already."""
    sys.modules.setdefault(name, StandIn(name, **own))
    try:
        yield
    finally:
        if isinstance(sys.modules.get(name), StandIn):
            del sys.modules[name]


def _real(name: str) -> ModuleType:
    if isinstance(sys.modules.get(name), StandIn):
        del sys.modules[name]
    return importlib.import_module(name)


def _mock(*args: Any, **kwargs: Any) -> Any:
    return _real(_MOCK).Mock(*args, **kwargs)


def _version(distribution: str) -> str:
    """Return a package's version from its `.dist-info` directory, else from the real module."""
    file = getattr(sys.modules.get(distribution), "__file__", None)
    beside = [] if file is None else [*Path(file).parent.parent.glob(f"{distribution}-*.dist-info")]
    if len(beside) == 1:
        return beside[0].stem.partition("-")[2]
    return str(_real(_METADATA).version(distribution))


class _YamlLater:
    """A finder for invoke's own YAML reader only, which it loads on first use."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == _YAML else None
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec
