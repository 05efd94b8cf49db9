"""What a command reports when the answer to its switch was lost: a table of what it finds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import pytest

from envsync.agent.wire.messages import UNSEEN, Finding, RecordFacts, TargetState
from envsync.conda.platform_needs import Platform
from envsync.errors import (
    AuthenticationRefused,
    CheckFailed,
    ConnectionFailed,
    ConnectionLost,
    EnvsyncError,
    Hint,
    HostKeyRefused,
    Locked,
    NotFound,
    PreflightRefused,
)
from envsync.push.ends.command_locks import CommandLocks
from envsync.push.ends.target_end import TargetEnd
from envsync.push.switches import in_doubt as module
from envsync.push.switches.in_doubt import (
    PendingPublication,
    resolve_publication,
)
from envsync.push.switches.remove import Removal, remove_environment
from envsync.push.switches.rollback import roll_back
from envsync.tree.manifest import Totals

OLD, NEW, OTHER = "0" * 64, "a" * 64, "b" * 64
NOTHING = Totals(0, 0, 0)


def record(number: int, source_revision: str, source: str = "server1:/envs/myenv") -> RecordFacts:
    return RecordFacts(
        number, source_revision, source_revision, "alice@server1", source, 1e9, "mirror",
        "stream", NOTHING, "", "",
    )  # fmt: skip


def state(*records: RecordFacts, live: RecordFacts | None = None, **held: str) -> TargetState:
    """A target with these generations, oldest first, and what stands there."""
    revision = "" if live is None else live.revision
    return TargetState(
        exists=live is not None, revision=revision, totals=NOTHING,
        record=live, generations=records, held=held, findings=(),
        platform=Platform("Linux", "x86_64", "glibc", "2.36"), nonce="", free_bytes=0,
        free_inodes=None, recovered=None,
    )  # fmt: skip


BEFORE = state(live=record(4, OLD))


class FakeTarget:
    """A server that gives one answer after the other; the last one for ever.

    An answer is what `inspect` finds or raises, or (for a locked one) what the unlocked
    look finds. `None` is a server that cannot be reached.
    """

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.contacts = 0
        self.locked = False

    @contextlib.contextmanager
    def reopen(self) -> Iterator[TargetEnd]:
        self.contacts += 1
        if isinstance(self._answer, Unreachable):
            failed = self._answer
            self._next()
            TIME.sleep(failed.seconds)
            raise failed.reason
        yield cast(TargetEnd, self)

    @property
    def _answer(self) -> Answer:
        return self._answers[0]

    def _next(self) -> None:
        if len(self._answers) > 1:
            self._answers.pop(0)

    def inspect(self, *, lock: bool) -> TargetState:
        answer = self._answer
        assert not isinstance(answer, Unreachable)
        if isinstance(answer, Busy) and lock:
            raise Locked("another push of myenv is under way")
        self.locked = self.locked or lock
        self._next()
        if isinstance(answer, Busy):
            return answer.seen
        if isinstance(answer, EnvsyncError):
            raise answer
        return answer


@dataclass(frozen=True)
class Busy:
    """The lock is taken; without it, this is what can be seen."""

    seen: TargetState


@dataclass(frozen=True)
class Unreachable:
    """After so long a try, for this reason."""

    reason: EnvsyncError | OSError
    seconds: float = 0.0


Answer = TargetState | Busy | Unreachable | EnvsyncError
DOWN = Unreachable(ConnectionFailed("server2:22 refuses connections"))


class SimulatedTime:
    """Goes on where somebody sleeps, and nowhere else."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def monotonic(self) -> float:
        return self._seconds

    def sleep(self, seconds: float) -> None:
        self._seconds += seconds


TIME = SimulatedTime()


@pytest.fixture(autouse=True)
def _simulated_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "time", TIME)


def ask(
    target: FakeTarget, revision: str = NEW, before: TargetState = BEFORE
) -> tuple[RecordFacts, tuple[str, ...]]:
    lost = ConnectionLost("the connection was lost", details=["why"], server="server2")
    pending = PendingPublication("myenv", revision, before, 0.0)
    return resolve_publication(lost, target.reopen, pending)


PUBLISHED = state(record(4, OLD), live=record(5, NEW))


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([PUBLISHED], id="at once"),
        pytest.param([DOWN, DOWN, PUBLISHED], id="after the server was away"),
        pytest.param([Unreachable(OSError("no route")), PUBLISHED], id="after an OSError"),
        pytest.param([Unreachable(ConnectionLost("again")), PUBLISHED], id="after another loss"),
        pytest.param([Busy(BEFORE), Busy(BEFORE), PUBLISHED], id="when the agent is done"),
        pytest.param([Busy(PUBLISHED)], id="while somebody else pushes"),
        pytest.param([PreflightRefused("no prefix"), PUBLISHED], id="when the disk is mounted"),
    ],
)
def test_lost_publish_that_happened_is_reported_as_published(answers: list[Answer]) -> None:
    assert ask(FakeTarget(*answers)) == (record(5, NEW), ())


def test_lost_publish_that_was_replaced_since_is_published_with_a_warning() -> None:
    later = record(6, OTHER, "server3:/envs/myenv")
    published, [warning] = ask(FakeTarget(state(record(5, NEW), live=later)))
    assert published == record(5, NEW)
    assert warning.startswith("it was published there, and has been replaced since")
    assert warning.endswith("by revision bbbbbbbbbbbb from server3:/envs/myenv")


def test_lost_publish_that_was_rolled_back_is_published_with_a_warning() -> None:
    target = FakeTarget(state(record(5, NEW), live=record(4, OLD), **{NEW: "rolled back"}))
    published, [warning] = ask(target)
    assert published == record(5, NEW)
    assert "by revision 000000000000" in warning


def test_lost_publish_that_was_removed_since_is_published_with_a_warning() -> None:
    published, [warning] = ask(FakeTarget(state(record(4, OLD), record(5, NEW))))
    assert published == record(5, NEW)
    assert "removed" in warning


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([BEFORE], id="at once"),
        pytest.param([DOWN, BEFORE], id="after the server was away"),
        pytest.param([Busy(BEFORE), BEFORE], id="when the agent has noticed the silence"),
    ],
)
def test_lost_publish_that_did_not_happen_is_reported_as_such(answers: list[Answer]) -> None:
    with pytest.raises(ConnectionLost) as raised:
        ask(FakeTarget(*answers))
    assert raised.value.message == (
        "the connection was lost before the switch; nothing was published"
    )
    assert "resumes" in raised.value.hint
    assert raised.value.details == ("why",)


def test_the_record_of_an_earlier_publish_of_the_same_is_no_proof() -> None:
    """What was changed by hand there is overwritten with the revision of its own record."""
    changed_by_hand = BEFORE._replace(revision=OTHER)
    with pytest.raises(ConnectionLost, match="nothing was published"):
        ask(FakeTarget(changed_by_hand), revision=OLD, before=changed_by_hand)
    published = state(record(5, OTHER), live=record(6, OLD))
    again, _ = ask(FakeTarget(published), revision=OLD, before=changed_by_hand)
    assert again.number == 6


def test_lost_publish_with_another_version_live_is_reported_as_such() -> None:
    with pytest.raises(ConnectionLost, match="another version was published") as raised:
        ask(FakeTarget(state(record(4, OLD), live=record(5, OTHER))))
    assert "`envsync history myenv server2`" in raised.value.hint


@pytest.mark.parametrize(
    ("stands", "words"),
    [
        (record(4, OLD), "its check failed: exit status 1; the previous version is live again"),
        (None, "its check failed: exit status 1; no version is there"),
    ],
)
def test_the_check_failed_after_the_link_was_lost(stands: RecordFacts | None, words: str) -> None:
    before = state(live=stands)
    held = {NEW: "its check failed: exit status 1"}
    with pytest.raises(CheckFailed) as raised:
        ask(FakeTarget(state(live=stands, **held)), before=before)
    assert raised.value.message == words
    assert "--retry-held" in raised.value.hint


def test_a_hold_of_before_tells_nothing() -> None:
    """With --retry-held, and the link lost before the switch."""
    before = BEFORE._replace(held={NEW: "its check failed: exit status 1"})
    with pytest.raises(ConnectionLost, match="nothing was published"):
        ask(FakeTarget(before), before=before)


def test_lost_publish_that_recovery_took_back_has_failed_its_check() -> None:
    with pytest.raises(CheckFailed, match="stands there again"):
        ask(FakeTarget(DOWN, CheckFailed("the check failed; it stands there again")))


@pytest.mark.parametrize("answer", [DOWN, Busy(BEFORE), Unreachable(OSError("no route"))])
def test_lost_publish_of_an_unreachable_server_stays_in_doubt(answer: Answer) -> None:
    """It says what is certain, what the last try met, and which command tells the rest."""
    target = FakeTarget(answer)
    with pytest.raises(ConnectionLost) as raised:
        ask(target)
    assert target.contacts > 2
    assert "the old or the new version is there, complete" in raised.value.message
    assert "`envsync list server2`" in raised.value.hint
    assert "the same command again" in raised.value.hint
    assert raised.value.details[0] == "why"
    assert raised.value.details[1].startswith("then: ")


def test_lost_publish_is_asked_once_more_after_a_suspend() -> None:
    """A laptop that was closed while it tried."""
    target = FakeTarget(Unreachable(ConnectionLost("asleep"), seconds=1e6), PUBLISHED)
    assert ask(target) == (record(5, NEW), ())
    assert target.contacts == 2


@pytest.mark.parametrize(
    "make", [lambda: HostKeyRefused("changed"), lambda: AuthenticationRefused("no")]
)
def test_whoever_is_refused_does_not_go_on_trying(make: Callable[[], EnvsyncError]) -> None:
    target = FakeTarget(Unreachable(make()), PUBLISHED)
    with pytest.raises(ConnectionLost, match="could not be asked again"):
        ask(target)
    assert target.contacts == 1


class OtherwiseSwitched(FakeTarget):
    """One where the answer to a rollback or a removal is lost."""

    name, server = "myenv", "server2"

    def using(self) -> tuple[()]:
        return ()

    def rollback(self, *_: object) -> RecordFacts:
        raise ConnectionLost("the connection was lost", details=["why"], server=self.server)

    remove = rollback

    def roll_back(self) -> RecordFacts:
        target = cast(TargetEnd, self)
        return roll_back(target, self.reopen, None, "bob@server1", overwrite=False).record

    def remove_environment(self) -> RecordFacts | None:
        removal = Removal("myenv", "bob@server1")
        return remove_environment(cast(TargetEnd, self), self.reopen, removal, ALONE).record


ALONE = CommandLocks(())
ASLEEP = Unreachable(ConnectionLost("asleep"), seconds=1e6)


def test_a_rollback_or_a_removal_is_asked_for_like_a_push() -> None:
    """Until it can be told, also by who slept through the time."""
    before = state(record(3, NEW), live=record(4, OLD))
    back = state(record(4, OLD), live=record(3, NEW))
    assert OtherwiseSwitched(before, before, ASLEEP, back).roll_back() == record(3, NEW)
    gone = state(record(4, OLD))
    assert OtherwiseSwitched(BEFORE, BEFORE, ASLEEP, gone).remove_environment() == record(4, OLD)


@pytest.mark.parametrize(
    ("changed", "after", "number"),
    [
        (False, state(record(3, OLD), record(4, NEW), record(5, OTHER)), 3),
        (True, state(record(3, OLD), record(4, NEW), record(5, OTHER), record(6, OTHER)), 6),
    ],
)
def test_a_removal_after_a_rollback_tells_of_the_version_that_stood_there(
    changed: bool, after: TargetState, number: int
) -> None:
    """And not of the newest; nor of the one on record, where it was changed by hand."""
    before = state(record(4, NEW), record(5, OTHER), live=record(3, OLD))
    target = OtherwiseSwitched(before, before._replace(revision=OTHER if changed else OLD), after)
    removal = Removal("myenv", "bob@server1", overwrite=True)
    removed = remove_environment(cast(TargetEnd, target), target.reopen, removal, ALONE)
    assert removed.record is not None
    assert removed.record.number == number


def test_a_rollback_says_where_nobody_can_see_what_uses_the_environment() -> None:
    before = state(record(3, NEW), live=record(4, OLD))
    unseen = before._replace(findings=(Finding(UNSEEN, "who uses it is unknown"),))
    back = state(record(4, OLD), live=record(3, NEW))
    target = OtherwiseSwitched(before, unseen, back)
    told = roll_back(cast(TargetEnd, target), target.reopen, None, "bob@server1", overwrite=False)
    assert told == (record(3, NEW), (), ("who uses it is unknown",))


def test_version_that_somebody_published_meanwhile_is_no_rollback() -> None:
    before = state(record(3, NEW), live=record(4, OLD))
    theirs = state(record(3, NEW), record(4, OLD), live=record(5, OTHER, "server3:/envs/myenv"))
    with pytest.raises(ConnectionLost, match="another version was published") as raised:
        OtherwiseSwitched(before, before, theirs).roll_back()
    assert "`envsync history myenv server2`" in raised.value.hint
    with pytest.raises(ConnectionLost, match="nothing was rolled back"):
        OtherwiseSwitched(before, before, before).roll_back()


def test_a_removal_that_did_not_happen_is_none() -> None:
    """What was kept before is no proof, whoever published and removed there since."""
    before = state(record(3, OLD), live=record(4, NEW))
    with pytest.raises(ConnectionLost):
        OtherwiseSwitched(before, before, before).remove_environment()
    with pytest.raises(ConnectionLost):
        OtherwiseSwitched(before, before, state(record(3, OLD))).remove_environment()


def test_environment_that_is_not_there_is_not_locked() -> None:
    """The lock's file would stay behind."""
    target = OtherwiseSwitched(state())
    with pytest.raises(NotFound):
        target.remove_environment()
    assert not target.locked


@pytest.mark.parametrize(
    ("ask", "stands", "then"),
    [
        (
            lambda: OtherwiseSwitched(BEFORE, BEFORE, DOWN).roll_back(),
            "the current or the earlier version is there, complete",
            "shows which; look before you roll back again",
        ),
        (
            lambda: OtherwiseSwitched(BEFORE, BEFORE, DOWN).remove_environment(),
            "the old version is there, complete, or none is",
            "shows which; look before you remove it again",
        ),
    ],
)
def test_lost_rollback_or_removal_of_an_unreachable_server_is_in_doubt(
    ask: Callable[[], object], stands: str, then: str
) -> None:
    with pytest.raises(ConnectionLost) as raised:
        ask()
    assert raised.value.message.endswith(f"could not be asked again: {stands}")
    assert raised.value.hint == f"`envsync list server2` {then}"
    assert raised.value.details == ("why", f"then: {DOWN.reason}")


@pytest.mark.parametrize("ask", [OtherwiseSwitched.remove_environment, OtherwiseSwitched.roll_back])
def test_a_command_in_a_hint_is_for_a_shell(ask: Callable[[OtherwiseSwitched], object]) -> None:
    """Without an inventory a server is called as it was written, with any user."""
    server = r"CORP\\alice@h"
    nothing = OtherwiseSwitched(state())
    nothing.server = server
    with pytest.raises(NotFound) as missing:
        ask(nothing)
    assert missing.value.hint.startswith(rf"`envsync list '{server}'`")
    lost = OtherwiseSwitched(BEFORE, BEFORE, DOWN)
    lost.server = server
    with pytest.raises(ConnectionLost) as raised:
        ask(lost)
    assert raised.value.hint.startswith(rf"`envsync list '{server}'` shows")
    error = EnvsyncError("no", hint=Hint("envsync gc {server}"))
    error.server = server
    assert error.hint == f"envsync gc '{server}'"
