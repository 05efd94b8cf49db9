"""Imports fabric and paramiko without the parts that a session never uses.

Both import invoke, which brings `unittest.mock` for whoever tests task files, and with it
asyncio and ssl; and a YAML reader of its own, with a second one behind it. Together they were
a fifth of the processor time that a push spends on imports. Here both come when they are used.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType
from typing import Any

_MOCK = "unittest.mock"
_YAML = "invoke.vendor.yaml"
_lock = threading.Lock()


def import_invoke() -> None:
    """Import invoke, if it is not there yet. From any thread, and before fabric is imported."""
    with _lock:
        if "invoke" in sys.modules:
            return
        sys.modules.setdefault(_MOCK, _MockLater(_MOCK))
        sys.meta_path.insert(0, _YamlLater)
        try:
            importlib.import_module("invoke")
        finally:
            sys.meta_path.remove(_YamlLater)
            if isinstance(sys.modules.get(_MOCK), _MockLater):
                del sys.modules[_MOCK]


class _MockLater(ModuleType):
    """`unittest.mock` while invoke is imported, which wants `Mock` of it: brought when called.

    Whatever else a later invoke may want is the real module's.
    """

    @staticmethod
    def Mock(*args: Any, **kwargs: Any) -> Any:  # noqa: N802 - the name that stands for it
        return importlib.import_module(_MOCK).Mock(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # what the import system asks every module
        sys.modules.pop(_MOCK, None)
        return getattr(importlib.import_module(_MOCK), name)


class _YamlLater:
    """A finder for invoke's own YAML reader alone: loaded when something of it is asked for."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == _YAML else None
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec
