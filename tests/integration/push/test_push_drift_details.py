"""What a refused push names of what was changed by hand."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from envsync.agent.target import switches
from envsync.agent.target.gc import sweep
from envsync.agent.target.gc_survey import Rules
from envsync.agent.target.target import Target
from envsync.agent.wire.target_operations import OpenTarget, Requester
from envsync.errors import SourceShrunk, TargetDrifted
from envsync.push import cycle
from envsync.push.steps.report import FAILED, IN_STEP, PLANNED, PUSHED, PushReport
from tests.integration.push.local_pair import LocalPair
from tests.support.pushes import NAME
from tests.support.trees import file

SITE = "lib/python3.11/site-packages"
NODES = {
    f"{SITE}/six.py".encode(): file(b"1"),
    f"{SITE}/six-1.16.dist-info/RECORD".encode(): file(b"six.py,,\nsix-1.16.dist-info/RECORD,,\n"),
}


@pytest.fixture
def pair(own_homes: None, tmp_path: Path) -> LocalPair:
    return LocalPair(tmp_path, NODES)


@pytest.fixture
def here(pair: LocalPair) -> Path:
    return pair.here


@pytest.fixture
def there(pair: LocalPair) -> Path:
    return pair.there


@pytest.fixture
def push(pair: LocalPair) -> Callable[..., PushReport]:
    return pair.push


def test_the_files_of_a_package_removed_there_are_its_own(
    here: Path, there: Path, push: Callable[..., PushReport]
) -> None:
    """Its record is gone there, but is here."""
    assert push().outcome == PUSHED
    packages = there / "envs" / NAME / SITE
    (packages / "six.py").unlink()
    shutil.rmtree(packages / "six-1.16.dist-info")
    (here / "envs" / NAME / "new").touch()
    refused = push().error
    assert isinstance(refused, TargetDrifted)
    assert refused.details == ("0 files added, 2 removed, 0 changed", "- six 1.16")


@pytest.mark.parametrize(
    ("check", "written"),
    [
        ("touch $CONDA_PREFIX/log; echo 2 > $CONDA_PREFIX/lib/python3.11/site-packages/six.py", 2),
        ("touch log; mkdir $CONDA_PREFIX/__pycache__", 0),
        ("", 0),
    ],
)
def test_what_a_check_writes_into_the_environment_is_told(
    there: Path, push: Callable[..., PushReport], check: str, written: int
) -> None:
    """Else nobody would know why the next push finds drift."""
    report = push(check=check)
    assert report.outcome == PUSHED
    told = [warning for warning in report.warnings if "while `check:` ran" in warning]
    assert len(told) == bool(written)
    if told:
        assert f"in the environment there: {SITE}/six.py, log; the next push" in told[0]
        (there / "envs" / NAME / "log").unlink()
        (there / "envs" / NAME / SITE / "six.py").write_bytes(b"1")
    assert push(dry_run=True).outcome == IN_STEP


@pytest.mark.parametrize("dry_run", [False, True])
def test_drift_is_refused_together_with_a_source_that_lost_all_records(
    here: Path, there: Path, push: Callable[..., PushReport], dry_run: bool
) -> None:
    """Else whoever follows the hint of the first refusal meets the other."""
    record = here / "envs" / NAME / "conda-meta/lab-1.0-0.json"
    record.write_text("{}")
    assert push().outcome == PUSHED
    (there / "envs" / NAME / "by-hand").touch()
    record.unlink()
    ruined = "the source looks ruined: it has no package record in conda-meta, but the target has 1"
    refused = push(dry_run=dry_run).error
    assert isinstance(refused, TargetDrifted)
    assert refused.details == (
        "1 file added, 0 removed, 0 changed",
        "in no known package: 1 file",
        "+ by-hand",
        f"besides, {ruined}",
    )
    assert f"`envsync push {NAME} there --overwrite --allow-shrink`" in refused.hint
    insisted = push(overwrite=True).error
    assert isinstance(insisted, SourceShrunk)
    assert insisted.message == ruined
    assert insisted.hint.endswith(f"envsync push {NAME} there --overwrite --allow-shrink")
    assert push(overwrite=True, allow_shrink=True).outcome == PUSHED


def test_an_empty_directory_at_the_name_is_not_called_an_environment(
    there: Path, push: Callable[..., PushReport]
) -> None:
    (there / "envs" / NAME).mkdir()
    refused = push().error
    assert isinstance(refused, TargetDrifted)
    assert refused.message == "what stands there was never published by envsync"


def test_change_during_the_push_is_named(
    here: Path, there: Path, push: Callable[..., PushReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert push().outcome == PUSHED
    (here / "envs" / NAME / "new").touch()
    by_hand = there / "envs" / NAME / "by-hand"

    def change_it(*_: object) -> tuple[()]:
        by_hand.write_text("precious")
        return ()

    monkeypatch.setattr(cycle, "await_unused", change_it)
    refused = push().error
    assert isinstance(refused, TargetDrifted)
    assert "changed there during the push" in refused.message
    assert refused.details[0] == "1 file added, 0 removed, 0 changed"
    assert refused.details[-1] == "+ by-hand"
    insist = f"`envsync push {NAME} there --overwrite` replaces it and keeps it as a generation"
    assert refused.hint.endswith(f"; {insist}")
    assert by_hand.read_text() == "precious"


def test_environment_removed_by_hand_is_put_back_and_reported(
    there: Path, push: Callable[..., PushReport]
) -> None:
    assert (push().put_back, push().put_back) == ("", "")
    shutil.rmtree(there / "envs" / NAME)
    refused = push(unattended=True).error
    assert isinstance(refused, TargetDrifted)
    assert refused.hint.startswith(f"restore it with `envsync push {NAME} there`, or ")
    planned, pushed = push(dry_run=True), push()
    assert (planned.outcome, pushed.outcome) == (PLANNED, PUSHED)
    assert planned.put_back == pushed.put_back
    assert pushed.put_back.startswith("it was removed there since test@here published it on ")
    assert pushed.put_back.endswith("; this puts it back")
    assert (there / "envs" / NAME).is_dir()


def test_environment_removed_by_a_person_is_not_put_back_unattended_after_gc(
    here: Path, there: Path, push: Callable[..., PushReport]
) -> None:
    assert push().outcome == PUSHED
    request = OpenTarget(str(there), NAME, None, Requester("bob@there"))
    target = Target(request, (), None)
    switches.remove(target, "bob@there", overwrite=False)
    target.lock.release()
    unchanged = push(unattended=True).error
    assert isinstance(unchanged, TargetDrifted)
    assert unchanged.hint.startswith(f"restore it with `envsync push {NAME} there`, or ")
    assert sweep(target, Rules(1, False, False, time.time())).generations == (1,)
    (here / "envs" / NAME / "new").touch()
    refused = push(unattended=True).error
    assert isinstance(refused, TargetDrifted)
    assert refused.message.startswith("it was removed there by bob@there on ")
    assert unchanged.message == refused.message
    pushed = push()
    assert (pushed.outcome, pushed.put_back) == (PUSHED, f"{refused.message}; this puts it back")
    (here / "envs" / NAME / "newer").touch()
    assert push(unattended=True).outcome == PUSHED


def test_first_version_that_failed_its_check_was_removed_by_nobody(
    there: Path, push: Callable[..., PushReport]
) -> None:
    """It is kept, as it was changed during the check; there never was another version."""
    assert push(check="touch $CONDA_PREFIX/conda-meta/six-1.17-0.json; false").outcome == FAILED
    (kept,) = (there / f"envs/.envsync/{NAME}/generations").glob("*.json")
    assert "taken back" in kept.read_text()
    again = push(retry_held=True, unattended=True)
    assert (again.outcome, again.put_back) == (PUSHED, "")
