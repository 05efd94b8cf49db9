"""Problems in an inventory, and the error that reports them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from envsync.errors import InventoryError

KeyPath = tuple[str | int, ...]

_HINT = "correct the file, then check it with `envsync config check`"


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault: its key path, a text such as "expected X, got Y", and its line if known."""

    path: KeyPath
    text: str
    line: int | None = None


def inventory_error(
    file: object, problems: Sequence[Problem], locate: Callable[[KeyPath], tuple[KeyPath, int]]
) -> InventoryError:
    """Return all problems as one error: the first in its message, the others in its details."""
    numbered = sorted(set(_numbered(file, problems, locate)))
    lines = [text for _, text in numbered]
    return InventoryError(lines[0], hint=_HINT, details=lines[1:])


def _numbered(
    file: object, problems: Iterable[Problem], locate: Callable[[KeyPath], tuple[KeyPath, int]]
) -> Iterable[tuple[int, str]]:
    for problem in problems:
        path, near = locate(problem.path)
        line = near if problem.line is None else problem.line
        key_path = f"{key_path_text(path)}: " if path else ""
        yield line, f"{file}:{line}: {key_path}{problem.text}"


def key_path_text(path: KeyPath) -> str:
    """Return a key path such as `servers.gpu[03-08].groups[0]`; unprintable keys are escaped."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            name = _short(step)
            text += ("." if text else "") + (name if name.isprintable() and name else repr(name))
    return text


def shown(value: object) -> str:
    """Return a value as a message shows it, shortened."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return repr(_short(str(value)))


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
