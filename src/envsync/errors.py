"""Every failure that a user can meet, each with its exit code and its usual hint.

    EnvsyncError                        1   unexpected: a bug
    ├── UsageError                      2   the command line makes no sense
    │   └── InventoryError              2   the inventory is invalid or lacks a name
    ├── ConnectionFailed                3   the server could not be reached
    ├── HostKeyRefused                  4   the server's key is unknown, changed or revoked
    ├── AuthenticationRefused           5   the server does not let this user in
    ├── ConnectionLost                  6   the link went away in the middle
    ├── AgentFailed                     7   the agent could not start or broke the protocol
    ├── PreflightRefused                8   something about either end forbids the push
    │   └── TargetIsSource              8   both ends are one directory
    ├── SourceRefused                   9   the source is broken, busy or changing
    │   ├── SourceShrunk               10   the source lost so much that it looks ruined
    │   └── InstallUnfinished           9   an installation in it was not completed
    ├── TargetDrifted                  11   the target was changed by hand
    ├── NotFastForward                 12   the target holds a version this source never had
    ├── RevisionHeld                   13   it was rolled back or failed its check there
    ├── Locked                         14   another envsync works on that environment
    ├── EnvironmentInUse               15   processes use the environment (`in_use`)
    ├── NoSpace                        16   not enough bytes, inodes or quota
    ├── TransferFailed                 17   the contents did not arrive
    ├── VerificationFailed             18   bytes on disk are not what the manifest says
    ├── CheckFailed                    19   the environment's own check failed
    ├── NotFound                       21   no such environment, generation, record ...
    ├── StorageFailed                  22   a disk fails, or the output cannot be written
    ├── ServiceFailed                  23   systemd or the daemon did not do what it was asked to
    ├── RebuildFailed                  24   the target's own tools cannot make the environment
    ├── LimitReached                   25   a process may have no more memory, threads or files
    └── SomeServersFailed              20   of several servers, at least one failed
    (no class                         130   Ctrl-C; 143 SIGTERM, 129 SIGHUP)

`code` is the stable name of a class, on the wire and in `--json`. This module is part of the
agent: stdlib only, Python 3.8.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from typing import (
    Any,
    ClassVar,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Type,
    Union,
)

SLOTS: Mapping[str, str] = {
    "server": "SERVER",
    "again": "envsync push",
    "insist": "insist with --retry-held",
    "overwrite": "--overwrite",
    "allow_shrink": "--allow-shrink",
    "see_difference": "see what differs with `envsync diff`; ",
}
"""The slots that a hint may leave open, each with the text that stands in for it until it is
filled."""
_SLOT = re.compile("{(" + "|".join(SLOTS) + ")}")
# No bracket within: a server's hint may have a million that nothing closes.
_BY_HAND = re.compile(r"\[\[([^\[\]]*)\]\]")


class Hint(NamedTuple):
    """A hint with open slots, or with parts for some readers only, raised where that is not known.

    The template has `{slots}`. `{server}` becomes the error's own server, quoted for a shell; the
    others are filled by a caller that knows the whole command (`EnvsyncError.fill`). Text put into
    a slot is not searched for further slots. A part in `[[double brackets]]` is for whoever runs
    the command by hand; the daemon leaves it out, because it tries again by itself. A hint that is
    a plain string has neither, whatever is in it.
    """

    template: str
    known: Mapping[str, str] = {}

    def text(self, server: Optional[str], *, by_hand: bool = True) -> str:
        """Return the hint as a person reads it, who runs the command `by_hand` or not."""
        known = {**SLOTS, **self.known}
        if server:
            known["server"] = shlex.quote(server)
        template = _BY_HAND.sub(r"\1" if by_hand else "", self.template)
        return _SLOT.sub(lambda slot: known[slot.group(1)], template)


_DIFFERS = Hint("{see_difference}{overwrite} replaces it and keeps it as a generation")
DIFFERS_AT_REMOVAL = Hint("{see_difference}--overwrite removes it, and keeps it as a generation")
HELD_THERE = Hint("this revision is held there; change the environment, or {insist}")


def listed(names: Sequence[str], shown: int = 8) -> str:
    """Return names as text for a message: `a, b and 3 more`."""
    if len(names) <= shown + 1:  # one more name is no longer than "and 1 more"
        return ", ".join(names)
    return f"{', '.join(names[:shown])} and {len(names) - shown} more"


class EnvsyncError(Exception):
    """The root of the tree.

    `message` is one sentence without the server's name. `hint` is the command or the step that
    solves the problem, or empty. `details` are further lines (paths, packages) that a person may
    need. `server` is filled in by the caller that knows it; the hint then names it, too.
    """

    code: ClassVar[str] = "unexpected"
    exit_code: ClassVar[int] = 1
    default_hint: ClassVar[Union[str, Hint]] = ""

    def __init__(
        self,
        message: str,
        *,
        hint: Union[str, Hint, None] = None,
        details: Sequence[str] = (),
        server: Optional[str] = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.advice: Union[str, Hint] = self.default_hint if hint is None else hint
        self.details: Tuple[str, ...] = tuple(details)
        self.server = server

    @property
    def hint(self) -> str:
        """The hint as a person reads it, made from `advice`."""
        return self._hint(by_hand=True)

    @hint.setter
    def hint(self, hint: Union[str, Hint]) -> None:
        self.advice = hint

    def _hint(self, *, by_hand: bool) -> str:
        advice = self.advice
        return advice if isinstance(advice, str) else advice.text(self.server, by_hand=by_hand)

    def fill(self, **slots: str) -> None:
        """Fill these slots of the hint, except those that are filled already."""
        if isinstance(self.advice, Hint):
            self.advice = self.advice._replace(known={**slots, **self.advice.known})

    def to_json(self, *, by_hand: bool = True) -> Dict[str, Any]:
        """Return the error as `--json` prints it, or for who does not run the command `by_hand`."""
        return self._document(self._hint(by_hand=by_hand))

    def to_wire(self) -> Dict[str, Any]:
        """Return the error for the other end of a link, with its open slots still open."""
        advice = self.advice
        return self._document(advice if isinstance(advice, str) else [*advice])

    def _document(self, hint: Union[str, List[Any]]) -> Dict[str, Any]:
        return {
            "code": self.code,
            "exit_code": self.exit_code,
            "server": self.server,
            "message": self.message,
            "hint": hint,
            "details": list(self.details),
        }


class UsageError(EnvsyncError):
    code = "usage"
    exit_code = 2


class InventoryError(UsageError):
    code = "inventory"


class ConnectionFailed(EnvsyncError):
    """`was_tried`: not known before anything was contacted, as from the ssh configuration.

    `was_during_login`: the server answered, and closed the connection while the user logged in.
    """

    was_tried = False
    was_during_login = False
    code = "connection-failed"
    exit_code = 3


class HostKeyRefused(EnvsyncError):
    """`is_about_server`: not about a jump host, nor known before the server was contacted."""

    is_about_server = False
    code = "host-key-refused"
    exit_code = 4


class AuthenticationRefused(EnvsyncError):
    """`is_about_server`: not about a jump host, nor known before the server was contacted.

    `lacks_usable_key`: no key was tried, or there is one that needs a passphrase.
    """

    is_about_server = False
    lacks_usable_key = False
    code = "authentication-refused"
    exit_code = 5


class ConnectionLost(EnvsyncError):
    code = "connection-lost"
    exit_code = 6
    default_hint = Hint("[[run the same command again: it resumes where it stopped]]")


class AgentFailed(EnvsyncError):
    code = "agent-failed"
    exit_code = 7


class PreflightRefused(EnvsyncError):
    code = "preflight-refused"
    exit_code = 8


class TargetIsSource(PreflightRefused):
    code = "target-is-source"
    default_hint = Hint(
        "nothing to do: the environment is there already; if its `push_to:` names {server}, "
        "leave that out"
    )


class SourceRefused(EnvsyncError):
    code = "source-refused"
    exit_code = 9


class SourceShrunk(SourceRefused):
    code = "source-shrunk"
    exit_code = 10
    default_hint = Hint("if that is what you want: {allow_shrink}")


class InstallUnfinished(SourceRefused):
    code = "unfinished"
    default_hint = (
        "repeat the installation, and remove what it has left after that (such as pip's `~NAME`); "
        "`envsync daemon sync` pushes it anyway (with a `~NAME`, once that is 10 minutes old)"
    )


class TargetDrifted(EnvsyncError):
    code = "drift"
    exit_code = 11
    default_hint = _DIFFERS


class NotFastForward(EnvsyncError):
    code = "not-fast-forward"
    exit_code = 12
    default_hint = _DIFFERS


class RevisionHeld(EnvsyncError):
    code = "held"
    exit_code = 13
    default_hint = Hint("change the environment, or {insist}")


class Locked(EnvsyncError):
    code = "locked"
    exit_code = 14
    default_hint = Hint("[[try again when the other one is done]]")


class EnvironmentInUse(EnvsyncError):
    code = "in-use"
    exit_code = 15


class NoSpace(EnvsyncError):
    code = "no-space"
    exit_code = 16


class TransferFailed(EnvsyncError):
    code = "transfer-failed"
    exit_code = 17
    default_hint = Hint("[[run the same command again: it resumes where it stopped]]")


class VerificationFailed(EnvsyncError):
    code = "verification-failed"
    exit_code = 18


class CheckFailed(EnvsyncError):
    code = "check-failed"
    exit_code = 19


class NotFound(EnvsyncError):
    code = "not-found"
    exit_code = 21


class StorageFailed(EnvsyncError):
    code = "storage-failed"
    exit_code = 22


class ServiceFailed(EnvsyncError):
    code = "service-failed"
    exit_code = 23


class RebuildFailed(EnvsyncError):
    code = "rebuild-failed"
    exit_code = 24


class LimitReached(EnvsyncError):
    code = "limit-reached"
    exit_code = 25
    default_hint = Hint("raise that limit there, or end other programs[[, then try again]]")


class SomeServersFailed(EnvsyncError):
    code = "some-servers-failed"
    exit_code = 20


INTERRUPTED_EXIT_CODE = 130

# JSON can spell these surrogates, but nothing can encode them. U+DC80 to U+DCFF stand for bytes of
# a path (surrogateescape) and are kept.
_NO_BYTES = re.compile("[\ud800-\udc7f\udd00-\udfff]")


@contextlib.contextmanager
def about(server: str) -> Iterator[None]:
    """Have each error that is raised until the block ends name `server`, unless it names one."""
    try:
        yield
    except EnvsyncError as error:
        error.server = error.server or server
        raise


def all_errors(root: Type[EnvsyncError] = EnvsyncError) -> Iterator[Type[EnvsyncError]]:
    """Yield `root` and all its subclasses, parents first."""
    yield root
    for child in root.__subclasses__():
        yield from all_errors(child)


def error_from_json(document: Any) -> EnvsyncError:
    """Return the error that `to_json` or `to_wire` described, as an instance of its own class.

    An unknown code gives `EnvsyncError`. The document comes from the other side, so malformed
    fields are left empty.
    """
    if not isinstance(document, dict):
        document = {}
    classes = {cls.code: cls for cls in all_errors()}
    cls = classes.get(_text(document.get("code")), EnvsyncError)
    details = document.get("details")
    server = document.get("server")
    return cls(
        _text(document.get("message")),
        hint=_advice(document.get("hint")),
        details=[_text(line) for line in details] if isinstance(details, list) else (),
        server=server if isinstance(server, str) else None,
    )


def _advice(value: Any) -> Union[str, Hint]:
    if not isinstance(value, list) or len(value) != 2 or not isinstance(value[1], dict):
        return _text(value)
    template, known = value
    return Hint(_text(template), {name: _text(known[name]) for name in SLOTS if name in known})


def _text(value: Any) -> str:
    """Return `value` with surrogates that stand for no byte replaced; "" unless it is a string."""
    return _NO_BYTES.sub("\ufffd", value) if isinstance(value, str) else ""
