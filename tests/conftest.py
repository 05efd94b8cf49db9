"""The fixtures that all tests share, and the marking of tests by their directory."""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from tests.conda.fixtures import conda_prefix, conda_template
from tests.disk import requirements as disk_requirements
from tests.lab import requirements as lab_requirements
from tests.lab.fixtures import conda_lab, fresh_lab, fuse, lab, lab_template
from tests.support.prerequisites import report_line
from tests.systemd import requirements as systemd_requirements

__all__ = [
    "conda_lab",
    "conda_prefix",
    "conda_template",
    "fresh_lab",
    "fuse",
    "lab",
    "lab_template",
]

HERE = Path(__file__).parent

# Programs that tests start must leave no bytecode in environments that are compared. The tests'
# own bytecode is kept, because rewriting it costs pytest time.
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
sys.dont_write_bytecode = False

# No deadline, because a busy machine is no failure; pytest's time limit bounds every test. In CI
# the examples are always the same; elsewhere each run searches anew.
settings.register_profile(
    "envsync", deadline=None, max_examples=40, derandomize=os.environ.get("CI") == "true"
)
settings.load_profile("envsync")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts the tests in the background has them and their children ignore SIGINT;
    # tests of Ctrl-C would wait for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)


_LONGEST = {
    name: place
    for place, name in enumerate(
        (
            "test_torture.py",
            "test_push_interrupted.py",
            "test_push_guarded.py",
            "test_push_odd_servers.py",
            "test_daemon_installs.py",
            "test_daemon_servers.py",
            "test_daemon_ends.py",
            "test_daemon_sources.py",
            "test_daemon_network.py",
            "test_systemd_service.py",
            "test_push_source_races.py",
            "test_relocation_over_ssh.py",
            "test_rebuild.py",
            "test_servers_pull.py",
        )
    )
}


def pytest_report_header() -> list[str]:
    return [
        report_line("lab", lab_requirements.missing()),
        report_line("disk", disk_requirements.missing()),
        report_line("systemd", systemd_requirements.missing()),
    ]


def pytest_configure() -> None:
    """Do without garbage collection while tests are collected: most of what is made then stays."""
    gc.disable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test `unit` or `integration` according to its directory.

    The longest modules come first, so that with several processes none is left for the end.
    """
    items.sort(key=lambda item: _LONGEST.get(item.path.name, len(_LONGEST)))
    for item in items:
        kind = item.path.relative_to(HERE).parts[0]
        if kind in {"unit", "integration"}:
            item.add_marker(kind)


def pytest_collection_finish() -> None:
    """Exempt the thousands of collected tests, which live to the end, from garbage collection.

    There is little garbage among them, and to find it would take as long as many tests.
    """
    gc.freeze()
    gc.enable()
