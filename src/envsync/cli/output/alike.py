"""Puts together what was told of several servers and differs in nothing but their names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

from envsync.cli.output.wording import count
from envsync.errors import EnvsyncError, listed
from envsync.hint_commands import A_SERVER, for_servers

SHOWN = 3
"""How many hints are shown where each server has one of its own."""


class CommonError:
    """An error that happened on several servers, as it is told of all of them.

    Where each names its own server, it is the first one's, and the others are told `likewise`.
    """

    def __init__(self, errors: Sequence[EnvsyncError]) -> None:
        first = errors[0]
        self.hints = [(error.server, error.hint) for error in errors]
        self.message, self.details = _message(first), first.details
        names = list(dict.fromkeys(error.server for error in errors if error.server))
        self.where = listed(names)
        if len({(_message(error), error.details) for error in errors}) > 1:
            self.where = f"{names[0]} (likewise {listed(names[1:])})"


def grouped(errors: Iterable[EnvsyncError]) -> list[list[CommonError]]:
    """Return each distinct error once; those in one list have `solutions` in common."""
    by_hint: dict[tuple[str, ...], dict[tuple[str, ...], list[EnvsyncError]]] = {}
    for error in errors:
        same, hint = (error.code, *_forms(error)), _form(error.hint, error.server)
        # What can only be solved server by server is told with its own error.
        together = (hint,) if not hint or for_servers(hint, ()) else (hint, *same)
        by_hint.setdefault(together, {}).setdefault(same, []).append(error)
    return [[CommonError(alike) for alike in distinct.values()] for distinct in by_hint.values()]


def solutions(hints: Iterable[tuple[str | None, str]]) -> list[str]:
    """Return lines that say what to do on several servers, each given with its hint.

    Hints that differ in nothing but the name are one if their commands take several servers. Of
    others, the first few are shown, and how many servers they leave out.
    """
    alike: dict[str, dict[str, str]] = {}
    for server, hint in hints:
        alike.setdefault(_form(hint, server), {})[server or ""] = hint
    solved: dict[str, int] = {}  # by each hint, on how many servers
    for form, own in alike.items():
        common = for_servers(form, list(own)) if len(own) > 1 else ""
        for hint in own.values():
            solved[common or hint] = solved.get(common or hint, 0) + 1
    lines = [f"→ {hint}" for hint in solved if hint]
    left_out = sum([*solved.values()][SHOWN:])
    more = [f"and likewise on {count(left_out, 'more server')}"] if left_out else []
    return [*lines[:SHOWN], *more]


def _message(error: EnvsyncError) -> str:
    """Return the message without the server's name at its start, which is shown before it."""
    return error.message.removeprefix(f"{error.server} ")


def _forms(error: EnvsyncError) -> tuple[str, ...]:
    texts = (_message(error), *error.details)
    return tuple(_form(text, error.server) for text in texts)


def _form(text: str, server: str | None) -> str:
    """Return `text` with `A_SERVER` for each word that is the server's name.

    Where two servers have the same form, it is their name, and no word that looks like it.
    """
    if not server:
        return text
    return re.sub(rf"(?<![\w-]){re.escape(shlex.quote(server))}(?![\w-])", A_SERVER, text)
