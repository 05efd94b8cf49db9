"""What a source is known to have had, where several machines have one home."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from envsync.agent.places import revision_history
from envsync.agent.places.event_history import HistoryEvent
from envsync.agent.places.layout import environment_layout
from envsync.agent.places.records import Records
from envsync.agent.places.revision_history import RevisionHistory
from envsync.agent.server import filesystem, machine

R1, R3 = "1" * 64, "3" * 64


def had(prefix: Path, home: Path) -> RevisionHistory:
    return RevisionHistory(
        environment_layout(str(prefix), "myenv"), str(home / ".local/state/envsync")
    )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that is also on `server3`, which notes there what it has."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def on(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(machine, "name", lambda: name)


@pytest.mark.parametrize(
    ("where", "kind", "is_known"),
    [
        ("opt/conda", "ext4", False),
        ("opt/conda", "nfs4", True),
        ("opt/conda", "wekafs", True),
        ("home/conda", "ext4", True),
        ("home/conda", "nfs4", True),
    ],
)
def test_revisions_of_another_machine_at_the_path_count_for_one_id(
    where: str,
    kind: str,
    is_known: bool,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Is what this one had only where both have one environment there."""
    mount = filesystem.Mount(kind, b"/")
    monkeypatch.setattr(revision_history, "mount_of", lambda _: mount)
    on(monkeypatch, "server3")
    had(tmp_path / where, home).remember(R3)
    assert had(tmp_path / where, home).revisions() == [R3]
    on(monkeypatch, "server1")
    assert had(tmp_path / where, home).revisions() == ([R3] if is_known else [])
    had(tmp_path / where, home).remember(R1)
    assert R1 in had(tmp_path / where, home).revisions()
    on(monkeypatch, "server3")
    assert (R1 in had(tmp_path / where, home).revisions()) is is_known


def test_reason_why_nothing_could_be_noted_is_returned(home: Path, tmp_path: Path) -> None:
    log = home / ".local/state/envsync/had"
    log.parent.mkdir(parents=True)
    log.touch()
    history = had(tmp_path / "conda", home)
    assert history.remember(R1) == f"{log}: File exists"
    log.unlink()
    assert (history.remember(R1), history.revisions()) == ("", [R1])


def test_versions_that_were_received_are_known_after_their_records_went(
    home: Path, tmp_path: Path
) -> None:
    history = had(tmp_path / "conda", home)
    layout = environment_layout(str(tmp_path / "conda"), "myenv")
    Path(os.fsdecode(layout.state)).mkdir(parents=True)
    events = Records(layout).history
    events.log(HistoryEvent("publish", "alice", 1.0, revision=R1, source_revision=R3))
    events.log(HistoryEvent("rollback", "alice", 2.0, revision="5" * 64))
    with open(layout.file("history.jsonl"), "ab") as file:
        file.write(b'{"event": "publish", "revision": "\\ud800"}\n{"event": "publish"}\n')
    assert history.revisions() == [R1, R3]


def test_a_disk_that_is_mounted_in_a_home_is_the_machine_s_own(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = os.fsencode(home / "scratch")

    def mount_of(path: bytes) -> filesystem.Mount:
        return filesystem.Mount("ext4", b"/scratch" if path.startswith(disk) else b"/")

    monkeypatch.setattr(revision_history, "mount_of", mount_of)
    on(monkeypatch, "server3")
    had(home / "scratch", home).remember(R3)
    on(monkeypatch, "server1")
    assert had(home / "scratch", home).revisions() == []


def test_an_environment_has_another_id_on_each_machine_and_at_each_path(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["server1", "server2"]
    found = set()
    for name in names:
        monkeypatch.setattr(machine, "name_among_all", lambda name=name: name)
        for prefix in ("conda", "other"):
            found.add(had(tmp_path / prefix, home).environment_id())
    assert len(found) == 4
    # Whoever asks.
    assert had(tmp_path / "other", tmp_path / "another home").environment_id() in found
    monkeypatch.setattr(machine, "name_among_all", lambda: "")
    assert had(tmp_path / "conda", home).environment_id() == ""


@pytest.mark.parametrize(("host", "has_name"), [("server1", True), ("localhost", False)])
def test_machines_of_one_image_have_no_name_before_they_are_given_one(
    host: str, has_name: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_lasting_id", lambda: "0" * 32)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", host, "6", "1", "x86_64")))
    assert bool(machine.name_among_all()) is has_name


@pytest.mark.parametrize(
    ("content", "is_mounted", "expected"),
    [
        ("0123456789abcdef0123456789abcdef\n", False, "0123456789abcdef0123456789abcdef"),
        ("0123456789abcdef0123456789abcdef\n", True, "server1"),
        ("uninitialized\n", False, "server1"),
        ("", False, "server1"),
        (None, False, "server1"),
    ],
)
def test_the_name_of_a_machine(
    content: str | None,
    is_mounted: bool,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "machine-id"
    if content is not None:
        file.write_text(content)
    host = os.uname_result(("Linux", "server1.lab.example", "6", "1", "x86_64"))
    monkeypatch.setattr(machine, "_FILE", str(file))
    monkeypatch.setattr(machine, "is_mount_point", lambda _: is_mounted)
    monkeypatch.setattr(os, "uname", lambda: host)
    machine.name.cache_clear()
    try:
        assert machine.name() == expected
        # A machine that was installed from the same image has the same ID.
        lasting = expected if expected != "server1" else ""
        assert machine.name_among_all() == (f"{lasting} server1" if lasting else "")
    finally:
        machine.name.cache_clear()
