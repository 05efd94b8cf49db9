"""One version at several prefixes is one version: held, recorded and replaced as such."""

from __future__ import annotations

from pathlib import Path

import pytest

from envsync.agent.places.layout import environment_layout
from envsync.agent.places.records import Record, Records
from envsync.agent.target import switches
from envsync.agent.target.target import Target
from envsync.agent.wire.target_operations import OpenTarget, Requester
from envsync.cli.pushing.report_text import report_lines
from envsync.errors import RevisionHeld
from tests.integration.relocation.local_push import NAME, push


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))


@pytest.fixture
def one(tmp_path: Path) -> Path:
    """A prefix with an environment that names it."""
    prefix = tmp_path / "one"
    meta = prefix / "envs" / NAME / "conda-meta"
    meta.mkdir(parents=True)
    (meta / "history").write_text(f"# cmd: conda create -p {prefix}/envs/{NAME}\n")
    return prefix


def change(prefix: Path) -> None:
    (prefix / "envs" / NAME / "stamp").write_text("2\n")


def record(prefix: Path) -> Record:
    """Of what stands there."""
    layout = environment_layout(str(prefix), NAME)
    found = Records(layout).at(layout.inode() or 0)
    assert found is not None
    return found


def roll_back(prefix: Path) -> None:
    request = OpenTarget(str(prefix), NAME, None, Requester("bob@there"))
    target = Target(request, (), None)
    try:
        switches.rollback(target, None, "bob@there", overwrite=False)
    finally:
        target.lock.release()


def forget_records(prefix: Path) -> None:
    """As for who may not read them."""
    for path in (prefix / "envs/.envsync" / NAME / "generations").glob("*.json"):
        path.unlink()


@pytest.mark.parametrize("knows", [True, False])
def test_held_revision_is_held_from_another_prefix_too(
    one: Path, tmp_path: Path, *, knows: bool
) -> None:
    other, third = tmp_path / "the-other", tmp_path / "a/third"
    for _ in range(2):
        push(one, other)
        push(one, third)
        change(one)
    if not knows:
        forget_records(other)
    roll_back(third)
    for source in (one, other):
        with pytest.raises(RevisionHeld, match="is held there: rolled back by bob@there"):
            push(source, third)
    done = push(other, third, retry_held=True, overwrite=not knows)
    assert done.outcome == "pushed"
    roll_back(third)
    with pytest.raises(RevisionHeld):
        push(one, third)
    push(one, third, retry_held=True)
    push(other, third)


def test_record_names_the_revision_of_the_first_source(one: Path, tmp_path: Path) -> None:
    """So the same content has the same revision in `list`, wherever it came from."""
    other, third = tmp_path / "the-other", tmp_path / "a/third"
    first = push(one, other).record
    assert first is not None
    assert first.source_revision != first.revision
    planned = push(other, third, dry_run=True)
    push(other, third)
    assert record(third).source_revision == planned.source_revision == first.source_revision
    assert f"  revision {first.source_revision[:12]}" in report_lines(planned, verbose=True)
    push(other, one)
    adopted = record(one)
    assert adopted.method == "adopt"
    assert adopted.source_revision == adopted.revision == first.source_revision
    assert push(one, third).outcome == "in-step"
    change(one)
    for target in (other, third):
        assert push(one, target).outcome == "pushed"
    change(other)
    assert record(other).revision != record(other).source_revision == record(third).source_revision


def test_a_version_that_was_changed_is_one_of_its_own(one: Path, tmp_path: Path) -> None:
    other, third = tmp_path / "the-other", tmp_path / "a/third"
    push(one, other)
    change(other)
    push(other, third)
    assert record(third).source_revision not in (
        record(other).source_revision,
        record(other).revision,
    )


@pytest.mark.parametrize(
    "line", ["#!{}/bin/perl -w\n", "#! {}/bin/python", "#!{}/bin/R --no-save\n"]
)
def test_script_comes_back_as_it_was_from_a_path_too_long_for_its_line(
    one: Path, tmp_path: Path, line: str
) -> None:
    script = one / "envs" / NAME / "script"
    script.write_text(line.format(script.parent))
    far = tmp_path / ("f" * 140)
    first = push(one, far).record
    assert first is not None
    content = (far / "envs" / NAME / "script").read_text()
    assert content != line.format(far / "envs" / NAME)
    third = tmp_path / "two"
    push(far, third)
    assert (third / "envs" / NAME / "script").read_text() == line.format(third / "envs" / NAME)
    assert push(far, one).outcome == "adopted"
    assert record(one).revision == first.source_revision
