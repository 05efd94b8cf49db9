"""The inventory: servers, environments and how they are kept, from one YAML file.

Importing this package does not import YAML and pydantic; `load` imports both, and only to validate
a file that it has not seen before.
"""

from __future__ import annotations

from envsync.inventory.loader import find, load, load_content, misnamed, read
from envsync.inventory.model import Environment, Inventory, Server, Watch
from envsync.inventory.names import environment_name
from envsync.inventory.quantities import bits_per_second, duration_seconds

__all__ = [
    "Environment",
    "Inventory",
    "Server",
    "Watch",
    "bits_per_second",
    "duration_seconds",
    "environment_name",
    "find",
    "load",
    "load_content",
    "misnamed",
    "read",
]
