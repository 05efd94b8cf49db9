"""The way out that a refused push names."""

from __future__ import annotations

import os
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from envsync.agent.wire.messages import TargetState
from envsync.agent.wire.source_operations import OutsidePath
from envsync.agent.wire.target_operations import DifferenceFacts
from envsync.conda.outside import LeadsOutside
from envsync.conda.platform_needs import Platform
from envsync.errors import (
    EnvsyncError,
    NotFastForward,
    PreflightRefused,
    RevisionHeld,
    SourceShrunk,
    TargetDrifted,
)
from envsync.push.ends.both_ends import BothEnds
from envsync.push.ends.source import Source
from envsync.push.ends.target_end import TargetEnd
from envsync.push.preflight import preflight, refusal_hints, replacement
from envsync.push.preflight.end_checks import EndChecks, difference_lines
from envsync.push.request.settings import PushSettings
from envsync.tree.manifest import Totals
from tests.support.end_states import HERE as HERE_NOW
from tests.support.end_states import source as source_state
from tests.support.end_states import target as target_state

SETTINGS = PushSettings("myenv", "server1:/w/conda", "alice@server1")
HERE = cast(Source, SimpleNamespace(is_here=True))


@pytest.mark.parametrize(
    ("settings", "command"),
    [
        (SETTINGS, "envsync push myenv server2"),
        (replace(SETTINGS, environment_there="other"), "envsync push myenv server2 --as other"),
        (
            replace(SETTINGS, source="server3:/w/conda"),
            "envsync push myenv server2 --from server3",
        ),
        (
            replace(SETTINGS, method="rebuild"),
            "envsync push myenv server2 --method rebuild",
        ),
        (
            replace(SETTINGS, method="rebuild", from_history=True),
            "envsync push myenv server2 --from-history",
        ),
        (
            replace(SETTINGS, force_platform=True),
            "envsync push myenv server2 --force-platform",
        ),
        (replace(SETTINGS, archive="/tmp/myenv.tar.zst"), ""),
    ],
)
@pytest.mark.parametrize(
    ("refusal", "with_command", "without"),
    [
        (RevisionHeld, "or insist: `{} --retry-held`", "or insist with --retry-held"),
        (SourceShrunk, "that is what you want: {} --allow-shrink", "you want: --allow-shrink"),
        (
            NotFastForward,
            "`{} --overwrite` replaces it and keeps it as a generation",
            "--overwrite replaces it and keeps it as a generation",
        ),
        (
            TargetDrifted,
            "`{} --overwrite` replaces it and keeps it as a generation",
            "--overwrite replaces it and keeps it as a generation",
        ),
    ],
)
def test_a_refusal_names_the_command_that_insists(
    monkeypatch: pytest.MonkeyPatch,
    settings: PushSettings,
    command: str,
    refusal: type[EnvsyncError],
    with_command: str,
    without: str,
) -> None:
    def refuse(*_: object) -> None:
        raise refusal("it is refused")

    monkeypatch.setattr(replacement, "require_permission", refuse)
    monkeypatch.setattr(replacement, "missing_options", lambda *_: ())
    state = SimpleNamespace(record=None, exists=False)
    target = cast(TargetEnd, SimpleNamespace(server="server2", is_here=False))
    look = EndChecks(BothEnds(settings, HERE, target))
    with pytest.raises(refusal) as caught:
        look.require_permission(state, state, is_rebuild=False)  # type: ignore[arg-type]
    assert caught.value.hint.endswith(with_command.format(command) if command else without)


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ({}, "or insist: `envsync push myenv server2 --overwrite --retry-held`"),
        ({"overwrite": True}, "or insist: `envsync push myenv server2 --overwrite --retry-held`"),
        (
            {"retry_held": True},
            (
                "; `envsync push myenv server2 --overwrite --retry-held` replaces it and keeps it"
                " as a generation"
            ),
        ),
        (
            {"archive": "a.tar", "allow_shrink": True},
            "or insist with --overwrite --allow-shrink --retry-held",
        ),
    ],
)
def test_hint_names_every_option_that_is_needed_at_once(
    given: dict[str, object], hint: str
) -> None:
    """Else whoever follows the first hint is refused for the next, and then for the first again."""
    settings = replace(SETTINGS, **given)  # type: ignore[arg-type]
    found = SimpleNamespace(added=1, removed=0, changed=0, packages=(), groups=(), paths=())
    end = SimpleNamespace(server="server2", is_here=False, differences=lambda *_, **__: found)
    end.references, end.ruin = bytes, lambda _: ""
    record = SimpleNamespace(
        revision="r", source_revision="r", source="s", who="w", when_seconds=0.0, method="mirror"
    )
    target = SimpleNamespace(
        exists=True, held={"new": "rolled back"}, record=record, revision="changed", findings=()
    )
    target.totals = Totals(1, 1, 1)
    source = SimpleNamespace(revision="new", source_revision="new", revision_there="new", had=())
    source.totals = Totals(1, 1, 1)
    here = cast(Source, SimpleNamespace(manifest=bytes))
    look = EndChecks(BothEnds(settings, here, cast(TargetEnd, end)))
    with pytest.raises(EnvsyncError) as caught:
        look.require_permission(source, target, is_rebuild=False)  # type: ignore[arg-type]
    assert caught.value.hint.endswith(hint)


def test_hint_for_a_version_of_another_source_names_the_diff_with_it() -> None:
    error = NotFastForward("it holds another source's version")
    state = cast(TargetState, SimpleNamespace(record=None))
    target = cast(TargetEnd, SimpleNamespace(server="server2", is_here=False))
    refusal_hints.complete(error, BothEnds(SETTINGS, HERE, target), state)
    assert error.hint.startswith("see what differs with `envsync diff myenv server2`; ")


@pytest.mark.parametrize(
    ("name_there", "command"),
    [("", "envsync pull myenv server3"), ("mine", "envsync push myenv server1 --from server3")],
)
def test_a_pull_that_is_refused_names_itself(name_there: str, command: str) -> None:
    settings = replace(SETTINGS, source="server3:/w/conda", environment_there=name_there)
    target = cast(TargetEnd, SimpleNamespace(server="server1", is_here=True))
    error = RevisionHeld("it is held")
    refusal_hints.complete(error, BothEnds(settings, cast(Source, None), target))
    assert f"`{command}" in error.hint


@pytest.mark.parametrize(
    ("environment", "needed", "there", "is_refused"),
    [
        ("base", (2, 35), "2.31", True),
        ("base", (2, 17), "2.31", False),
        ("base", (2, 37), HERE_NOW.libc_version, False),
        ("myenv", (2, 35), "2.31", False),
    ],
)
def test_a_base_whose_python_would_not_start_is_refused(
    environment: str, needed: tuple[int, ...], there: str, *, is_refused: bool
) -> None:
    """Where the target's glibc is not older, nobody is asked: what runs here runs there.

    What a package needs says nothing about Python itself. What is refused is no warning, too.
    """
    python, package = (b"lib/libpython3.so", needed), (b"lib/torch.so", (2, 39))
    newest = {False: python, True: package}
    end = SimpleNamespace(
        newest_glibc=lambda *, with_packages: newest[with_packages],
        credentials=tuple,
        outside_paths=tuple,
    )
    target = SimpleNamespace(existing=lambda _: ())
    settings = replace(SETTINGS, environment=environment)
    checks = EndChecks(BothEnds(settings, cast(Source, end), cast(TargetEnd, target)))
    states = source_state(), target_state(HERE_NOW._replace(libc_version=there))
    is_older = there != HERE_NOW.libc_version
    assert len(checks.warnings(*states)) == (is_older and not is_refused)
    if not is_refused:
        checks.require_base_starts(*states)
        return
    with pytest.raises(PreflightRefused) as caught:
        checks.require_base_starts(*states)
    why = "lib/libpython3.so needs glibc 2.35, but the target has 2.31"
    assert caught.value.message == f"conda would not run there: {why}"
    assert "run the same command again" in caught.value.hint


PATHS = tuple(f"~ lib/{number}" for number in range(100))


@pytest.mark.parametrize(
    ("found", "lines"),
    [
        (
            DifferenceFacts(
                ("- six 1.16", "+ toml 0.10"), ("toml 0.10: 4 files", "python 3.11: 1 file"),
                PATHS[:5], 4, 3, 1,
            ),
            ("4 files added, 3 removed, 1 changed", "- six 1.16", "+ toml 0.10",
             "python 3.11: 1 file"),
        ),
        (
            DifferenceFacts((), ("python 3.11: 3 files",), PATHS[:3], 0, 0, 3),
            ("0 files added, 0 removed, 3 changed", "python 3.11: 3 files", *PATHS[:3]),
        ),
        (
            DifferenceFacts((), ("python 3.11: 100 files",), PATHS[:12], 0, 0, 1100),
            ("0 files added, 0 removed, 1,100 changed", "python 3.11: 100 files", *PATHS[:11],
             "and 1,089 more paths"),
        ),
        (
            DifferenceFacts(tuple(f"+ p{n} 1" for n in range(14)), (), PATHS[:12], 1, 0, 0),
            ("1 file added, 0 removed, 0 changed", *(f"+ p{n} 1" for n in range(12)),
             "and 2 more packages"),
        ),
        (
            DifferenceFacts(("", "+"), ("",), (), 0, 0, 0),
            ("0 files added, 0 removed, 0 changed", "", "+"),
        ),
    ],
    ids=["packages", "paths", "more paths", "more packages", "of a target that lies"],
)  # fmt: skip
def test_packages_that_differ_are_named_and_the_rest_is_counted(
    found: DifferenceFacts, lines: tuple[str, ...]
) -> None:
    assert difference_lines(found) == lines


def test_every_file_with_credentials_is_named() -> None:
    """On a terminal only with -v: the first warning is about all, and stays among the first."""
    paths = tuple(f"etc/{number}.conf" for number in range(12))
    outside = (OutsidePath("y", "x leads to y"),)
    source = cast(Source, SimpleNamespace(credentials=lambda: paths, outside_paths=lambda: outside))
    target = cast(TargetEnd, SimpleNamespace(existing=lambda _: ()))
    state = SimpleNamespace(platform=Platform("Linux", "x86_64", "musl", "1.2"))
    look = EndChecks(BothEnds(SETTINGS, source, target))
    told = look.warnings(state, state)  # type: ignore[arg-type]
    assert told[0].startswith("credentials are in etc/0.conf, etc/1.conf, ")
    assert " and 7 more: whoever can read the environment there" in told[0]
    assert told[1].startswith("x leads to y")
    named = " ".join(told).replace(",", "").replace(":", "").split()
    assert [name for name in named if name in paths] == list(paths)
    assert preflight.credential_warnings(()) == ()


@pytest.mark.parametrize("path", ["/opt/caf\udce9/lib", "/opt/it leads to gold/lib"])
def test_path_outside_is_looked_for_on_the_target_as_it_is(path: str) -> None:
    lead = LeadsOutside(b"lib/x.so", "RPATH", os.fsencode(path))
    asked: list[str] = []

    def existing(paths: list[str]) -> list[bool]:
        asked.extend(paths)
        return [there == path for there in paths]

    outside = (
        OutsidePath(path, str(lead), ": importing it fails"),
        OutsidePath("y", "x leads to y"),
        OutsidePath("/srv/p", "p is an editable install of /srv/p", ": importing it fails"),
    )
    source = cast(Source, SimpleNamespace(credentials=tuple, outside_paths=lambda: outside))
    target = cast(TargetEnd, SimpleNamespace(existing=existing))
    state = SimpleNamespace(platform=Platform("Linux", "x86_64", "musl", "1.2"))
    warnings = EndChecks(BothEnds(SETTINGS, source, target)).warnings(state, state)  # type: ignore[arg-type]
    assert asked == [path, "/srv/p"]
    assert warnings == (
        f"{lead}, which is there",
        "x leads to y",
        "p is an editable install of /srv/p, which is not there: importing it fails",
    )
