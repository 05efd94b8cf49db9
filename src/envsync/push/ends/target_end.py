"""A target as a push sees it: the agent's operations with their values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from envsync.agent.places.layout import BASE
from envsync.agent.wire import codec
from envsync.agent.wire.build_requests import (
    Build,
    Check,
    GoBack,
    Keeping,
    Publication,
    Remove,
)
from envsync.agent.wire.checked_json import from_json
from envsync.agent.wire.messages import (
    DifferenceFacts,
    DirectoryIdentity,
    ProcessUse,
    PublishFacts,
    RecordFacts,
    TargetState,
    VerifyFacts,
)
from envsync.agent.wire.short_answers import (
    DoneFacts,
    HolderFacts,
    ShareFacts,
    TargetOpened,
    UseFacts,
)
from envsync.agent.wire.target_requests import (
    AskDifferences,
    AskExisting,
    AskReferences,
    InspectTarget,
    OpenTarget,
)
from envsync.push.ends import target_answers
from envsync.push.ends.end import Answer, End, Progress, RemoteEnd
from envsync.push.ends.target_answers import KnownThere, Staged
from envsync.push.request.settings import PushSettings
from envsync.tree.sharing import Share

_PACKED_FROM_BYTES = 256 << 10
_PACKED_LEVEL = 1


class How(NamedTuple):
    """How a version came, which its record says; and whether over one that its source never had."""

    method: str
    transport: str
    changes: tuple[str, ...] = ()
    overwrites_foreign: bool = False


class TargetEnd:
    """One environment on a target. Not to be used from two threads at once."""

    def __init__(
        self, end: End, prefix: str, name: str, local: Sequence[str], by: str, command: str = ""
    ) -> None:
        """`command` is what its lock tells the pushes of one command by: `command_locks`."""
        self._end = end
        self.ask = end.call
        self.prefix = prefix
        self.name = name
        self.is_new = False
        """Whether `inspect` found nothing at the name."""
        self.wants_spare = False
        """Whether `publish` left nothing there that the next push can be built on."""
        self._codecs: tuple[str, ...] | None = None
        self._is_remote = isinstance(end, RemoteEnd)
        is_base = name == BASE
        opening = OpenTarget(prefix, name, tuple(local), by, is_base, command, end.server)
        opened = from_json(TargetOpened, end.call("target.open", opening).document)
        self.python: str = opened.python

    @property
    def server(self) -> str:
        return self._end.server

    @property
    def codecs(self) -> tuple[str, ...]:
        """What it undoes, the best first: told with the references, or asked for now."""
        if self._codecs is None:
            self.references()
        return self._codecs or ()

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine."""
        return not self._is_remote

    def inspect(
        self,
        *,
        lock: bool,
        source: DirectoryIdentity | None = None,
        keep: int | None = None,
        on_progress: Progress | None = None,
    ) -> TargetState:
        """What stands there; with `lock`, nobody else pushes until the end is closed.

        With `keep`, the target looks beside it at what `stage` will build on.
        `PreflightRefused`, and nothing is written, where `source` stands in the same place.
        """
        asked = InspectTarget(lock, source, keep)
        answer = self._end.call("target.inspect", asked, on_progress=on_progress)
        state = from_json(TargetState, answer.document)
        self.is_new = not state.exists
        return state

    def locked_for(self) -> str:
        """The server for which another push of the same command has locked it; or empty."""
        return from_json(HolderFacts, self._end.call("target.locked_for").document).server

    def existing(self, paths: Sequence[str]) -> tuple[bool, ...]:
        """Whether something is there at each of these paths, as seen from the environment."""
        if not paths:
            return ()
        answer = self._end.call("target.existing", AskExisting(tuple(paths)))
        return target_answers.existing(answer, paths)

    def using(self) -> tuple[ProcessUse, ...]:
        """The processes there that use the environment."""
        answer = self._end.call("target.using")
        return from_json(UseFacts, answer.document).processes

    def references(self) -> bytes:
        """What the source's manifest may refer to instead of sending it."""
        return self.known_there(frozenset()).references

    def known_there(self, packages: Collection[bytes], keep: int | None = None) -> KnownThere:
        """The same where perhaps nothing stands at the name, but something alike at another.

        With `keep`, the target looks beside it at what `stage` will build on.
        """
        payload = b"\0".join(sorted(packages))
        answer = self._end.call("target.references", AskReferences(keep), payload)
        known, self._codecs = target_answers.known_there(answer)
        return known

    def differences(self, manifest: bytes, paths_max: int) -> DifferenceFacts:
        """What stands there against a manifest, or against its record where that is empty."""
        answer = self._told("target.differences", AskDifferences(paths_max), manifest)
        return from_json(DifferenceFacts, answer.document)

    def dry_plan(self, manifest: bytes, keep: int) -> Staged:
        """What a push of that manifest would do; nothing is touched, so there is no tree."""
        answer = self._told("target.dry_plan", Build(keep), manifest)
        return target_answers.predicted(answer)

    def prepare(self, keep: int) -> None:
        """Let it read what `stage` will need; nothing is touched."""
        self._end.call("build.prepare", Keeping(keep))

    def share(self, share: Share) -> tuple[bool, tuple[str, ...]]:
        """Have what is built shared so; whether what stands there is, and warnings."""
        told = from_json(ShareFacts, self._end.call("build.share", share).document)
        return told.is_shared, told.warnings

    def unshare(self) -> tuple[bool, tuple[str, ...]]:
        """Have it shared with no group any more; whether what stands there is so, and warnings."""
        told = from_json(ShareFacts, self._end.call("build.unshare").document)
        return told.is_shared, told.warnings

    def begin(
        self,
        outline: bytes,
        keep: int,
        contents: Iterable[bytes],
        on_taking: Callable[[], None],
        on_progress: Progress,
    ) -> Mapping[str, Any]:
        """Have a staging tree made by a manifest without contents, and send these at once.

        The answer is a transfer's, with `begun`: false where there was one already, and
        what was sent is lost. `on_taking` is called when the target begins to take them.
        """

        def told(progress: Mapping[str, Any]) -> None:
            if "taking" in progress:
                on_taking()
            on_progress(progress)

        return self._told("transfer.begin", Build(keep), outline, told, contents).document

    def begin_alike(self, keep: int, on_progress: Progress | None = None) -> bool:
        """Have what was found by `known_there` copied, to build on; whether that was done."""
        return self._is_done("build.begin_alike", keep, on_progress)

    def settle(self, on_progress: Progress | None = None) -> None:
        """Finish what was begun, when its files have come."""
        self._end.call("build.settle", on_progress=on_progress)

    def stage(self, manifest: bytes, keep: int, on_progress: Progress | None = None) -> Staged:
        """Bring a staging tree forward as far as the target's own bytes go."""
        answer = self._told("build.stage", Build(keep), manifest, on_progress)
        return target_answers.staged(answer)

    def _told(
        self,
        operation: str,
        asked: Build | AskDifferences,
        manifest: bytes,
        on_progress: Progress | None = None,
        stream: Iterable[bytes] | None = None,
    ) -> Answer:
        """Ask with a manifest: over a link as blocks that a processor makes in no time."""
        is_worth_it = self._is_remote and len(manifest) > _PACKED_FROM_BYTES
        if is_worth_it and codec.ZSTD in self.codecs and codec.ZSTD in codec.encodable():
            manifest = codec.encode_all(codec.ZSTD, _PACKED_LEVEL, manifest)
            asked = asked._replace(packed=True)
        return self._end.call(operation, asked, manifest, stream, on_progress)

    def complete(self, on_progress: Progress | None = None) -> None:
        """Finish the staging tree and hash it; `VerificationFailed` names what is wrong."""
        self._end.call("build.complete", on_progress=on_progress)

    def publish(
        self,
        settings: PushSettings,
        source_revision: str,
        how: How,
        on_progress: Progress | None = None,
    ) -> RecordFacts:
        """Switch, check, record; the record as read back from the target."""
        publication = _publication(settings, source_revision, how)
        answer = self._end.call("build.publish", publication, on_progress=on_progress)
        published = from_json(PublishFacts, answer.document)
        self.wants_spare = published.wants_spare
        return target_answers.of_revision(published.record, source_revision)

    def make_spare(self, keep: int, on_progress: Progress | None = None) -> bool:
        """Make a tree for the next push to build on; whether it was made.

        Not where that would not help, or has no room. `Locked` where a push came meanwhile.
        """
        return self._is_done("build.make_spare", keep, on_progress)

    def _is_done(self, operation: str, keep: int, on_progress: Progress | None) -> bool:
        answer = self._end.call(operation, Keeping(keep), on_progress=on_progress)
        return from_json(DoneFacts, answer.document).is_done

    def adopt(self, settings: PushSettings, source_revision: str) -> RecordFacts:
        """Record what stands there already."""
        publication = _publication(settings, source_revision, How("mirror", ""))
        answer = self._end.call("build.adopt", publication)
        return target_answers.of_revision(from_json(RecordFacts, answer.document), source_revision)

    def rollback(self, number: int | None, by: str, overwrite: bool) -> RecordFacts:
        """Put an earlier version back: the newest, or generation `number`."""
        answer = self._end.call("build.rollback", GoBack(number, by, overwrite))
        return from_json(RecordFacts, answer.document)

    def remove(self, by: str, overwrite: bool) -> RecordFacts:
        """Let nothing stand there; the record that what stood there is kept by."""
        answer = self._end.call("build.remove", Remove(by, overwrite))
        return from_json(RecordFacts, answer.document)

    def verify(self, on_progress: Progress | None = None) -> VerifyFacts:
        """Hash every byte there again, against the record."""
        answer = self._end.call("target.verify", on_progress=on_progress)
        return from_json(VerifyFacts, answer.document)

    def history(self) -> list[Mapping[str, Any]]:
        """What happened to the environment there, oldest first."""
        return target_answers.events(self._end.call("target.history"))

    def close(self) -> None:
        self._end.close()


def _publication(settings: PushSettings, source_revision: str, how: How) -> Publication:
    return Publication(
        source_revision=source_revision,
        source=settings.source,
        who=settings.who,
        method=how.method,
        transport=how.transport,
        keep=settings.keep,
        check=Check(settings.check, settings.check_timeout_seconds),
        retry_held=settings.retry_held,
        changes=how.changes,
        overwrites_foreign=how.overwrites_foreign,
    )
