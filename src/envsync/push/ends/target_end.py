"""A target as a push sees it: the agent's operations, with typed values."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from envsync.agent.wire import codec
from envsync.agent.wire.build_operations import (
    ADOPT,
    BEGIN_ALIKE,
    COMPLETE,
    FINISH_BEGUN,
    KEEP_LIVE,
    MAKE_SPARE,
    PREPARE,
    PUBLISH,
    REMOVE,
    ROLLBACK,
    SHARE,
    STAGE,
    GoBack,
    Publication,
    PublishFacts,
    Remove,
    ShareFacts,
)
from envsync.agent.wire.figures import RECEIVING, OnFigure
from envsync.agent.wire.messages import DirectoryIdentity, ProcessUse, RecordFacts, TargetState
from envsync.agent.wire.operation import AnswerT, Operation, RequestT
from envsync.agent.wire.target_operations import (
    DIFFERENCES,
    DRY_PLAN,
    EXISTING,
    INSPECT_TARGET,
    LOCKED_FOR,
    OPEN_TARGET,
    REFERENCES,
    RUIN,
    TARGET_HISTORY,
    USING,
    VERIFY,
    AskDifferences,
    AskReferences,
    DifferenceFacts,
    History,
    InspectTarget,
    OpenTarget,
    Requester,
    SentManifest,
    VerifyFacts,
)
from envsync.agent.wire.transfer_operations import BEGIN, ReceiveFacts
from envsync.errors import ConnectionLost, EnvsyncError
from envsync.push.ends import target_answers
from envsync.push.ends.end import End
from envsync.push.ends.target_answers import KnownThere, Staged
from envsync.push.request.settings import PushSettings
from envsync.tree.sharing import Share

_PACKED_FROM_BYTES = 256 << 10
_PACKED_LEVEL = 1


class TargetEnd:
    """One environment on a target. Must not be used from two threads at once."""

    def __init__(
        self, end: End, request: OpenTarget, before_switch: Callable[[], None] = lambda: None
    ) -> None:
        """`before_switch` is called when `publish` is about to ask for the switch.

        It may raise, and then `publish` does not ask.
        """
        self._end = end
        self.ask = end.ask
        self.on_progress: OnFigure | None = None
        """Called with the progress of a push's longer calls; set by `Push`."""
        self.prefix = request.prefix
        self.name = request.name
        self.before_switch = before_switch
        self._codecs: tuple[str, ...] | None = None
        self.link = end.link
        """The link to the target's server; None if the target is on this machine."""
        self.prints_at_login = bool(end.noise)
        """Whether login files there print something."""
        requester = request.requester._replace(server=end.server)
        self.python = end.ask(OPEN_TARGET, request._replace(requester=requester))

    @property
    def server(self) -> str:
        return self._end.server

    @property
    def codecs(self) -> tuple[str, ...]:
        """The codecs that the target decodes, best first; asked for now, unless already known."""
        if self._codecs is None:
            self.references()
        return self._codecs or ()

    @property
    def is_here(self) -> bool:
        """Whether the target is on this machine."""
        return self.link is None

    def inspect(
        self,
        *,
        lock: bool,
        source: DirectoryIdentity | None = None,
        looks_ahead: bool = False,
    ) -> TargetState:
        """Return the target's state. With `lock`, nobody else can push until the end is closed.

        The lock is not taken if a finding forbids the push. With `looks_ahead`, the target also
        looks at what `stage` will build on. Raises `PreflightRefused`, with nothing written, if the
        environment is the `source` itself.
        """
        return self._call(INSPECT_TARGET, InspectTarget(lock, source, looks_ahead))

    def locked_for(self) -> str:
        """Return the server for which another push of this command holds the lock, or ""."""
        return self.ask(LOCKED_FOR, None)

    def existing(self, paths: Sequence[str]) -> tuple[bool, ...]:
        """Return, for each of these paths, whether it exists as seen from the environment."""
        if not paths:
            return ()
        return target_answers.existing(self.ask(EXISTING, tuple(paths)), paths)

    def using(self) -> tuple[ProcessUse, ...]:
        """Return the processes on the target that use the environment."""
        return self.ask(USING, None)

    def references(self) -> bytes:
        """Return the references that may replace directories in the source's manifest."""
        return self.known_there(frozenset()).references

    def known_there(self, packages: Collection[bytes], *, looks_ahead: bool = False) -> KnownThere:
        """Return what the target has of the source's content, at this name or at another.

        Another environment is recognized by `packages`. With `looks_ahead`, the target also looks
        at what `stage` will build on.
        """
        facts = self.ask(REFERENCES, AskReferences(b"\0".join(sorted(packages)), looks_ahead))
        self._codecs = facts.codecs
        return target_answers.known_there(facts)

    def differences(
        self,
        manifest: bytes,
        paths_max: int,
        record_at: Callable[[str], str | None] = lambda _: None,
    ) -> DifferenceFacts:
        """Compare what is on the target with a manifest; with its record if `manifest` is empty.

        `record_at` returns, if it can, the record of a package that is no longer on the target.
        """

        sent = self._sent(manifest)

        def ask(records: dict[str, str]) -> DifferenceFacts:
            return self.ask(DIFFERENCES, AskDifferences(paths_max, records, *sent))

        facts = ask({})
        records = {path: text for path in facts.unread if (text := record_at(path)) is not None}
        return ask(records) if records else facts

    def ruin(self, manifest: bytes) -> str:
        """Return why a source with this manifest looks ruined beside the live version, or ""."""
        return self.ask(RUIN, self._sent(manifest))

    def dry_plan(self, manifest: bytes) -> Staged:
        """Return what a push of this manifest would do. Nothing is changed, so there is no tree."""
        return target_answers.predicted(self.ask(DRY_PLAN, self._sent(manifest)))

    def prepare(self) -> None:
        """Have the target read ahead what `stage` will need. Nothing is changed."""
        self.ask(PREPARE, None)

    def share(self, share: Share | None) -> ShareFacts:
        """Have what is built shared like this, or with no group if None.

        With the lock, access to what envsync keeps there is changed accordingly, and at once.
        Returns whether the live version is already shared so, and warnings.
        """
        return self.ask(SHARE, share)

    def begin(
        self,
        outline: bytes,
        contents: Iterable[bytes],
        on_receiving: Callable[[], None],
        on_progress: OnFigure,
    ) -> ReceiveFacts | None:
        """Have a staging tree made from a manifest without contents, and send the contents at once.

        Returns None if there was a staging tree already, and what was sent is lost. `on_receiving`
        is called when the target begins to receive contents.
        """

        def relay(figure: str, value: int) -> None:
            if figure == RECEIVING:
                on_receiving()
            on_progress(figure, value)

        return self.ask(BEGIN, self._sent(outline), contents, relay)

    def begin_alike(self) -> bool:
        """Have the tree that `known_there` found copied and inspected; return whether it was."""
        return self._call(BEGIN_ALIKE, None)

    def keep_live(self) -> None:
        """Have the live version kept for good once it is replaced, as the source never had it."""
        self.ask(KEEP_LIVE, None)

    def finish_begun(self) -> None:
        """Finish what was begun, once its files have arrived."""
        self._call(FINISH_BEGUN, None)

    def stage(self, manifest: bytes) -> Staged:
        """Make a staging tree and bring it forward as far as the target's own content allows."""
        return target_answers.staged(self._call(STAGE, self._sent(manifest)))

    def _call(self, operation: Operation[RequestT, AnswerT], request: RequestT) -> AnswerT:
        """Ask for what may take long, with the push's own progress."""
        return self.ask(operation, request, on_progress=self.on_progress)

    def _sent(self, manifest: bytes) -> SentManifest:
        """Return a manifest to send. A large one is compressed for a link, quickly rather than
        well."""
        is_worth_it = not self.is_here and len(manifest) > _PACKED_FROM_BYTES
        if is_worth_it and codec.ZSTD in self.codecs and codec.ZSTD in codec.encodable():
            return SentManifest(codec.encode_all(_PACKED_LEVEL, manifest), packed=True)
        return SentManifest(manifest)

    def complete(self) -> None:
        """Finish the staging tree and hash it. Raises `VerificationFailed`, which names faults."""
        self._call(COMPLETE, None)

    def publish(self, publication: Publication) -> PublishFacts:
        """Switch, check and record; return the version that is live, as read back from there.

        Raises `ConnectionLost`, as do `rollback` and `remove`, whenever it may have happened.
        """
        self.before_switch()
        with _answer_may_be_lost():
            published = self._call(PUBLISH, publication)
        target_answers.require_revision(published.record, publication.source_revision)
        return published

    def make_spare(self) -> bool:
        """Make a tree for the next push to build on; return whether it was made.

        It is not made where it would not help or there is no room. Raises `Locked` if a push has
        come meanwhile.
        """
        return self._call(MAKE_SPARE, None)

    def adopt(self, publication: Publication) -> RecordFacts:
        """Record the version that is already on the target as this source's."""
        record = self.ask(ADOPT, publication)
        target_answers.require_revision(record, publication.source_revision)
        return record

    def rollback(self, number: int | None, by: str, overwrite: bool) -> RecordFacts:
        """Put an earlier version back: generation `number`, or the newest if None."""
        with _answer_may_be_lost():
            return self.ask(ROLLBACK, GoBack(number, by, overwrite))

    def remove(self, by: str, overwrite: bool) -> RecordFacts:
        """Remove the environment; return the record by which the removed version is kept."""
        with _answer_may_be_lost():
            return self.ask(REMOVE, Remove(by, overwrite))

    def verify(self, on_progress: OnFigure | None = None) -> VerifyFacts:
        """Hash every byte on the target again, and compare with the record."""
        return self.ask(VERIFY, None, on_progress=on_progress)

    def history(self) -> History:
        """Return what happened to the environment on the target, and what is kept of it there."""
        return self.ask(TARGET_HISTORY, None)


def open_request(settings: PushSettings, prefix: str, command: str = "") -> OpenTarget:
    """Return the request that opens a push's target in a server's `prefix`."""
    name, local, keep = settings.name_there, settings.local, settings.keep
    requester = Requester(settings.who, command)
    return OpenTarget(prefix, name, local, requester, keep, settings.allow_shrink)


@contextlib.contextmanager
def _answer_may_be_lost() -> Iterator[None]:
    """Raise `ConnectionLost` for an agent that ended without an answer, whatever ended it."""
    try:
        yield
    except EnvsyncError as error:
        lost = error.__cause__
        if isinstance(error, ConnectionLost) or not isinstance(lost, ConnectionLost):
            raise
        details = (error.message, *error.details)
        raise ConnectionLost(lost.message, details=details, server=error.server) from error
