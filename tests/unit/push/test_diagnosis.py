"""What is wrong with a server: a table of what was found and what is told."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from envsync.agent.wire.messages import ToolFacts
from envsync.agent.wire.server_operations import (
    HealthFacts,
    PrefixFacts,
    ServerFacts,
    StandingFacts,
)
from envsync.conda.platform_needs import Platform
from envsync.errors import ConnectionFailed
from envsync.push.queries.diagnosis import complaints, rsync_holes
from envsync.push.queries.examination import Examination
from envsync.push.request.places import HERE
from envsync.ssh.session import Reached

PLATFORM = Platform("Linux", "x86_64", "glibc", "2.36")
PREFIX = PrefixFacts("/w/conda", True, True, True, False, False, "alice", "ext4", 10**12, 10**8, "")
HEALTH = HealthFacts(
    ServerFacts("alice@server2", ("zstd", "zlib", "none"), PLATFORM, 1e9, "/w/conda/bin/python"),
    "3.11.7",
    PREFIX,
    (ToolFacts("rsync", "/usr/bin/rsync", "3.5.0"), ToolFacts("conda", "/c", "24.1")),
    "",
    (),
    "bash",
)
REACHED = Reached("server2", "server2.lab.example", "alice", 22)
WELL = Examination("server2", "/w/conda", connection="fabric", reached=REACHED, health=HEALTH)


def _health(**changes: object) -> Examination:
    return replace(WELL, health=HEALTH._replace(**changes))  # type: ignore[arg-type]


def test_nothing_is_told_of_a_server_that_is_well() -> None:
    assert complaints(WELL, PLATFORM) == ()


@pytest.mark.parametrize(
    ("found", "what", "command", "fails"),
    [
        (_health(prefix=PREFIX._replace(exists=False)), "no conda prefix", "bootstrap", True),
        (
            _health(prefix=PREFIX._replace(is_writable=False)),
            "is not writable",
            "'chmod u+rwx /w/conda/envs'",
            True,
        ),
        (
            _health(prefix=PREFIX._replace(is_writable=False, owner="root")),
            "is not writable",
            "'sudo chown alice /w/conda/envs'",
            True,
        ),
        (
            _health(prefix=PREFIX._replace(is_writable=False, is_read_only=True)),
            "mounted read-only",
            "dmesg",
            True,
        ),
        (
            _health(prefix=PREFIX._replace(is_noexec=True)),
            "mounted noexec: no program runs there",
            "findmnt -T /w/conda",
            False,
        ),
        (
            _health(prefix=PREFIX._replace(has_conda=False)),
            "no package",
            "bootstrap",
            False,
        ),
        (
            _health(prefix=PREFIX._replace(has_conda=False, obstacle="/w is not writable")),
            "no package",
            "`prefix:` in the inventory: conda cannot be installed there, because /w is not wri",
            False,
        ),
        (_health(prefix=PREFIX._replace(free_bytes=10**9)), "1.0 GB are free", "gc", False),
        (_health(prefix=PREFIX._replace(free_bytes=10**6)), "1.0 MB are free", "gc", True),
        (_health(prefix=PREFIX._replace(free_inodes=9)), "inodes are free", "gc", False),
        (_health(tools=HEALTH.tools[:1]), "no conda, mamba", "micromamba", False),
        *(
            (
                _health(tools=(*HEALTH.tools, ToolFacts(name, f"/opt/{name}", ""))),
                f"/opt/{name} does not tell its version",
                f"ssh -t alice@server2 '/opt/{name} --version'",
                False,
            )
            for name in ("rsync", "mamba")
        ),
        (_health(server=HEALTH.server._replace(codecs=("zlib",))), "no zstd", "zstandard", False),
        (_health(sees_processes=False), "no readable /proc", "mount -t proc", False),
        (_health(cuda=None), "nvidia-smi does not answer", "nvidia-smi", False),
        (
            _health(server=HEALTH.server._replace(platform=PLATFORM._replace(machine="aarch64"))),
            "architecture",
            "envsync push ENV server2 --method rebuild",
            False,
        ),
        (
            _health(
                server=HEALTH.server._replace(platform=PLATFORM._replace(machine="aarch64")),
                tools=HEALTH.tools[:1],
            ),
            "architecture x86_64, the target is aarch64, and has no conda, mamba or micromamba",
            "install one",
            True,
        ),
        (replace(WELL, noise=b"\nhello\n"), "'hello'", ".bashrc", False),
        (
            replace(WELL, python_failure="it is older than 3.8"),
            "/w/conda/bin/python does not start (it is older than 3.8): `python3` serves instead",
            "ssh -t alice@server2 '/w/conda/bin/python --version  # until this works, have an inst",
            False,
        ),
        (replace(WELL, clock_off_seconds=-90.0), "90 s behind", "set-ntp", False),
        (replace(WELL, health=None, error=ConnectionFailed("no answer")), "no answer", "", True),
        *(
            (_health(environments=(StandingFacts("e", state, "why"),)), "e: why", command, False)
            for state, command in (
                ("changed", "envsync diff e server2"),
                ("interrupted", "envsync push e server2"),
                ("missing", "envsync rollback e server2"),
            )
        ),
        *(
            (_health(environments=(StandingFacts("e", state, "why"),)), "e: why", command, True)
            for state, command in (("busy", "push again when"), ("blocked", "move it away"))
        ),
    ],
)
def test_trouble_has_its_complaint_and_command(
    found: Examination, what: str, command: str, fails: bool
) -> None:
    [told] = complaints(found, PLATFORM)
    assert what in told.what
    assert command in told.command
    assert told.fails is fails


def test_conda_that_is_not_there_is_not_to_install_anything() -> None:
    server = HEALTH.server._replace(codecs=("zlib",))
    found = _health(server=server, prefix=PREFIX._replace(has_conda=False))
    [no_conda, no_zstd] = complaints(found, PLATFORM)
    assert "there is no conda" in no_conda.what
    assert no_zstd.command == "ssh -t alice@server2 'sudo apt-get install zstd'"


@pytest.mark.parametrize(
    ("shell", "file"),
    [("fish", "~/.config/fish/config.fish"), ("zsh", "~/.zshenv"), ("dash", "~/.bashrc")],
)
def test_hint_for_login_files_that_print_names_those_of_the_login_shell(
    shell: str, file: str
) -> None:
    noisy = replace(_health(login_shell=shell), noise=b"hello\n")
    [complaint] = complaints(noisy, PLATFORM)
    assert complaint.command.startswith(f"ssh -t alice@server2 'vi {file}  # ")


@pytest.mark.parametrize("owner", ["carol", "root"])
def test_hint_takes_no_directory_in_which_others_publish(owner: str) -> None:
    others = StandingFacts("theirs", "closed", "")
    prefix = PREFIX._replace(is_writable=False, owner=owner)
    found = _health(prefix=prefix, environments=(others,))
    [told] = complaints(found, PLATFORM)
    assert "chown" not in told.command
    assert f"ask {owner} to push there or share it" in told.command
    [told] = complaints(replace(found, publishers="lab"), PLATFORM)
    opened = "sudo chgrp lab /w/conda/envs && sudo chmod g+rwxs,-t /w/conda/envs"
    assert f"{opened} && sudo usermod -a -G lab alice" in told.command
    assert told.fails


@pytest.mark.parametrize(
    "prefix", [PREFIX._replace(exists=False), PREFIX._replace(has_conda=False)]
)
def test_hint_for_a_missing_conda_here_names_from(prefix: PrefixFacts) -> None:
    found = _health(prefix=prefix)
    [there] = complaints(found, PLATFORM)
    [here] = complaints(replace(found, connection=HERE), PLATFORM)
    assert there.command.startswith("if conda is elsewhere, set that server's `prefix:` ")
    assert there.command.endswith("; if it is nowhere: envsync bootstrap server2")
    assert here.command.endswith(": envsync bootstrap server2 --from SERVER")


@pytest.mark.parametrize(
    ("version", "holes"),
    [
        ("3.1.3", ("CVE-2022-29154", "CVE-2024-12084", "CVE-2026-29518")),
        ("3.2.7", ("CVE-2024-12084", "CVE-2026-29518")),
        ("3.4.1", ("CVE-2026-29518",)),
        ("3.4.3", ()),
        ("3.5.0", ()),
        ("", ()),
    ],
)
def test_old_rsyncs_have_their_holes_named(version: str, holes: tuple[str, ...]) -> None:
    told = rsync_holes(ToolFacts("rsync", "/usr/bin/rsync", version))
    assert all(hole in told for hole in holes)
    assert bool(told) is bool(holes)


def test_a_version_of_thousands_of_digits_is_no_error() -> None:
    assert rsync_holes(ToolFacts("rsync", "/usr/bin/rsync", "9" * 5000)) == ""


def test_a_command_is_taken_for_what_it_is_by_both_shells() -> None:
    """A server says who is there and what stands there; a person pastes what mends it."""
    server = HEALTH.server._replace(who="$(evil)@server2")
    prefix = PREFIX._replace(path="/w/my conda", is_writable=False, owner="root")
    [told] = complaints(_health(server=server, prefix=prefix), PLATFORM)
    *there, command = shlex.split(told.command)
    assert there == ["ssh", "-t", "alice@server2"]
    assert shlex.split(command) == ["sudo", "chown", "$(evil)", "/w/my conda/envs"]
    standing = StandingFacts("x;$(evil)", "changed", "why")
    [told] = complaints(_health(environments=(standing,)), PLATFORM)
    assert shlex.split(told.command)[2] == "x;$(evil)"


@pytest.mark.parametrize(
    ("reached", "line"),
    [
        (REACHED, "ssh -t alice@server2 'sudo timedatectl set-ntp true'"),
        (
            Reached("192.0.2.7", "192.0.2.7", "bob", 2222, "bastion", Path("/k/lab key")),
            (
                "ssh -t -i '/k/lab key' -J bastion -p 2222 bob@192.0.2.7 "
                "'sudo timedatectl set-ntp true'"
            ),
        ),
        (None, "sudo timedatectl set-ntp true"),
    ],
)
def test_a_command_goes_the_way_that_the_link_went(reached: Reached | None, line: str) -> None:
    """ssh knows no name of the inventory's."""
    found = replace(WELL, server="edge", reached=reached, clock_off_seconds=-90.0)
    [told] = complaints(found, PLATFORM)
    assert told.command == line
