"""Diagnoses a server from what `doctor` found: what is wrong, and the command that helps."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from envsync.agent.server.conda_tool import TOOLS
from envsync.agent.wire.messages import ToolFacts
from envsync.agent.wire.server_operations import HealthFacts, PrefixFacts, StandingFacts
from envsync.conda.platform_needs import Platform, mismatches
from envsync.hint_commands import command_line, published_diff
from envsync.push.preflight.preflight import AFTER_THE_INSTALLER
from envsync.push.queries.examination import Examination
from envsync.push.request.places import HERE
from envsync.ssh.manual_commands import ssh_command
from envsync.texts.sizes import size

ROOT = "root"
FREE_BYTES_NEEDED = 100 << 20
FREE_BYTES_SCARCE = 5 << 30
FREE_INODES_SCARCE = 100_000
CLOCK_SECONDS_MAX = 5.0

_OPEN_RECORDS = (
    "ask its owner to share it with a group: a push with `share: {group: ..., mode: write}`"
)
_REFUSED = ("busy", "blocked")
_ANY_TOOL = "conda, mamba or micromamba"
_INSTALL_TOOL = "install one there, or put micromamba (a single file) on the PATH"
_SILENCERS = {
    "bash": ("~/.bashrc", "[[ $- == *i* ]] || return"),
    "zsh": ("~/.zshenv", "[[ -o interactive ]] || return"),
    "fish": ("~/.config/fish/config.fish", "status is-interactive; or return"),
    "tcsh": ("~/.*cshrc", "if (! $?prompt) exit"),
    "csh": ("~/.cshrc", "if (! $?prompt) exit"),
}
"""By login shell: the file that it reads without a terminal, and a line that ends it there."""
_RSYNC_HOLES = (
    ((3, 2, 5), "CVE-2022-29154"),
    ((3, 4, 0), "CVE-2024-12084 to -12088 and CVE-2024-12747"),
    ((3, 4, 3), "CVE-2026-29518, CVE-2026-43618 and CVE-2026-43620"),
)
"""Releases of rsync, each the first without the vulnerabilities named; oldest first."""


class Complaint(NamedTuple):
    """Something wrong with a server, or worth knowing.

    `fails` says that a push to it would fail. `command` fixes it, or is a step towards that.
    """

    what: str
    command: str
    fails: bool = False


def complaints(examination: Examination, here: Platform | None) -> tuple[Complaint, ...]:
    """Return a server's complaints, failures first.

    `here` is the platform of this machine; None leaves the comparison out.
    """
    error = examination.error
    if error is not None:
        return (Complaint(error.message, error.hint, fails=True),)
    health = examination.health
    assert health is not None, "no error, so it was looked at"
    unsorted = (
        *_about_prefix(examination, health),
        *_about_space(examination, health),
        *_about_methods(examination, health, here),
        *_about_tools(examination, health),
        *_about_login(examination, health),
        *_about_environments(examination, health),
    )
    return tuple(sorted(unsorted, key=lambda complaint: not complaint.fails))


def _about_prefix(examination: Examination, health: HealthFacts) -> Iterator[Complaint]:
    prefix = health.prefix
    if not prefix.exists:
        missing = f"there is no conda prefix at {prefix.path}"
        yield Complaint(missing, _bootstrap(examination, prefix), fails=True)
    elif prefix.is_read_only:
        look = _there(examination, "sudo dmesg  # says why; then mount it read-write again")
        complaint = f"the filesystem of {prefix.path} is mounted read-only"
        yield Complaint(complaint, look, fails=True)
    elif not prefix.is_writable:
        user = health.server.who.partition("@")[0]
        complaint = f"{prefix.path}/envs belongs to {prefix.owner} and is not writable by {user}"
        yield Complaint(complaint, _let_write(examination, health, user), fails=True)
    elif not prefix.has_conda:
        complaint = f"{prefix.path} has no package in conda-meta, so there is no conda"
        yield Complaint(complaint, _bootstrap(examination, prefix))
    if examination.python_failure:
        yield _broken_python(examination)
    if prefix.exists and prefix.is_noexec:
        complaint = f"the filesystem of {prefix.path} is mounted noexec: no program runs there"
        look = f"findmnt -T {shlex.quote(prefix.path)}  # shows the mount; remount it with exec"
        yield Complaint(complaint, _there(examination, look))


def _broken_python(examination: Examination) -> Complaint:
    python = f"{examination.prefix}/bin/python"
    complaint = f"{python} does not start ({examination.python_failure}): `python3` serves instead"
    prefix = shlex.quote(examination.prefix)
    mend = f"have an installer for its system, such as Miniforge's, mend it: -u -p {prefix}"
    return Complaint(
        complaint,
        _there(examination, f"{shlex.quote(python)} --version  # until this works, {mend}"),
    )


def _let_write(examination: Examination, health: HealthFacts, user: str) -> str:
    """Return the command that lets this user write in `envs` and takes nothing from others."""
    prefix, envs = health.prefix, f"{shlex.quote(health.prefix.path)}/envs"
    if prefix.owner == user:
        return _there(examination, f"chmod u+rwx {envs}")
    if examination.publishers:
        group = shlex.quote(examination.publishers)
        opening = f"sudo chgrp {group} {envs} && sudo chmod g+rwxs,-t {envs}"
        join = f"sudo usermod -a -G {group} {shlex.quote(user)}"
        return _there(examination, f"{opening} && {join}")
    if prefix.owner == ROOT and not health.environments:
        return _there(examination, f"sudo chown {shlex.quote(user)} {envs}")
    return (
        f"ask {prefix.owner} to push there or share it (`share: {{group: ..., mode: write}}`), or "
        "use a prefix of your own"
    )


def _bootstrap(examination: Examination, prefix: PrefixFacts) -> str:
    """Return what helps where no conda is; to this machine it comes from another one."""
    correct = "set that server's `prefix:` in the inventory"
    if prefix.obstacle:
        return f"{correct}: conda cannot be installed there, because {prefix.obstacle}"
    from_another = ("--from", "SERVER") if examination.connection == HERE else ()
    install = command_line("bootstrap", examination.server, *from_another)
    return f"if conda is elsewhere, {correct}; if it is nowhere: {install}"


def _about_space(examination: Examination, health: HealthFacts) -> Iterator[Complaint]:
    prefix = health.prefix
    free = command_line("gc", examination.server)
    if prefix.free_bytes < FREE_BYTES_SCARCE:
        is_full = prefix.free_bytes < FREE_BYTES_NEEDED
        yield Complaint(f"only {size(prefix.free_bytes)} are free", free, is_full)
    if prefix.free_inodes is not None and prefix.free_inodes < FREE_INODES_SCARCE:
        complaint = (
            f"only {prefix.free_inodes:,} inodes are free: an environment needs up to 200,000"
        )
        yield Complaint(complaint, free)


def _about_methods(
    examination: Examination, health: HealthFacts, here: Platform | None
) -> Iterator[Complaint]:
    """Tell what keeps environments from being mirrored, or from being rebuilt."""
    platform = health.server.platform
    differences = [] if here is None else mismatches(here, platform)
    has_tool = any(tool.name in TOOLS for tool in health.tools)
    for mismatch in differences:
        complaint = mismatch.message.replace("the source", "this machine")
        if not mismatch.refused:
            yield Complaint(complaint, "build on the server with the oldest system")
        elif has_tool:
            rebuild = command_line("push", "ENV", examination.server, "--method", "rebuild")
            yield Complaint(complaint, rebuild)
        else:
            complaint += f", and has no {_ANY_TOOL} to rebuild environments"
            yield Complaint(complaint, _INSTALL_TOOL, fails=True)
    if not has_tool and not any(mismatch.refused for mismatch in differences):
        complaint = f"no {_ANY_TOOL} there: environments can be mirrored, not rebuilt"
        yield Complaint(complaint, _INSTALL_TOOL)


def _about_tools(examination: Examination, health: HealthFacts) -> Iterator[Complaint]:
    tools = {tool.name: tool for tool in health.tools}
    if not health.sees_processes:
        complaint = "it has no readable /proc: who uses an environment, or installs, is unknown"
        yield Complaint(complaint, _there(examination, "sudo mount -t proc proc /proc"))
    for tool in health.tools:
        if not tool.version and tool.name in ("rsync", *TOOLS):
            ask = f"{shlex.quote(tool.path)} --version"
            complaint = f"{tool.path} does not tell its version: it may not work"
            yield Complaint(complaint, _there(examination, ask))
    if health.cuda is None:
        complaint = "nvidia-smi does not answer, so its driver's CUDA is unknown"
        yield Complaint(complaint, _there(examination, "nvidia-smi"))
    holes = rsync_holes(tools.get("rsync"))
    if holes:
        complaint = (
            f"rsync {tools['rsync'].version} is older than the release that fixed {holes} "
            "(unless its distribution did)"
        )
        upgrade = "sudo apt-get install --only-upgrade rsync"
        yield Complaint(complaint, _there(examination, upgrade))
    if "zstd" not in health.server.codecs:
        install = "sudo apt-get install zstd"
        if health.prefix.has_conda:
            install = f"{shlex.quote(examination.prefix)}/bin/conda install -n base zstandard"
        complaint = "no zstd there: contents are compressed less"
        yield Complaint(complaint, _there(examination, install))


def rsync_holes(rsync: ToolFacts | None) -> str:
    """Return the known vulnerabilities of a version; empty if none, or no version is known."""
    numbers = () if rsync is None else tuple(map(int, re.findall(r"\d{1,9}", rsync.version)[:3]))
    if not numbers:
        return ""
    return ", ".join(names for release, names in _RSYNC_HOLES if numbers < release)


def _about_login(examination: Examination, health: HealthFacts) -> Iterator[Complaint]:
    if examination.noise.strip():
        first = examination.noise.decode("utf-8", "replace").strip().splitlines()[0][:60]
        complaint = f"its login files print without a terminal: {first!r}"
        file, line = _SILENCERS.get(health.login_shell, _SILENCERS["bash"])
        yield Complaint(complaint, _there(examination, f"vi {file}  # begin it with: {line}"))
    if abs(examination.clock_off_seconds) > CLOCK_SECONDS_MAX:
        direction = "ahead of" if examination.clock_off_seconds > 0 else "behind"
        complaint = (
            f"its clock is {abs(examination.clock_off_seconds):.0f} s {direction} this machine's"
        )
        yield Complaint(complaint, _there(examination, "sudo timedatectl set-ntp true"))


def _about_environments(examination: Examination, health: HealthFacts) -> Iterator[Complaint]:
    for standing in health.environments:
        command = _command_for(standing, examination.server)
        if command and standing.reason:
            complaint = f"{standing.name}: {standing.reason}"
            yield Complaint(complaint, command, standing.state in _REFUSED)


def _command_for(standing: StandingFacts, server: str) -> str:
    """Return what helps with an environment's state; empty if none is needed."""
    # These words come from the server, and a person pastes the command.
    name = standing.name
    return {
        "changed": published_diff(name, server),
        "interrupted": command_line("push", name, server),
        "missing": command_line("rollback", name, server),
        "unreadable": command_line("verify", name, server),
        "published": command_line("history", name, server),
        "held": command_line("history", name, server),
        "closed": _OPEN_RECORDS,
        "busy": AFTER_THE_INSTALLER.text(server),
        "blocked": "move it away there",
    }.get(standing.state, "")


def _there(examination: Examination, command: str) -> str:
    """Return a command line that runs `command` on the server, as one word for the shell here."""
    if examination.reached is None:
        return command
    return f"{ssh_command(examination.reached, '-t')} {shlex.quote(command)}"
