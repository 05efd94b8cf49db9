"""The tree of errors: one root, one code each, documented, and nothing lost on the wire."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync import errors
from envsync.errors import EnvsyncError, all_errors, error_from_json

ALL = list(all_errors())
DOCUMENT = Path(__file__).parents[2] / "docs" / "errors.md"

# Classes that share their parent's exit code, each for a reason.
SAME_EXIT_CODE = {
    "inventory": "to a script, an invalid inventory is a usage error",
    "unfinished": "to a script, a source with half an install is one that is not at rest",
    "target-is-source": "to a script, it is one of the reasons why nothing can be pushed",
}


def documented() -> dict[str, tuple[int, str]]:
    """Exit code and class name by error code, as docs/errors.md has them."""
    rows = re.findall(r"^\| (\d+) \| `([a-z-]+)` \| `(\w+)` \|", DOCUMENT.read_text(), re.MULTILINE)
    return {code: (int(exit_code), name) for exit_code, code, name in rows}


def drawn() -> dict[str, int]:
    """Exit code by class name, as the tree at the top of errors.py has them."""
    rows = re.findall(r"^[ │├└─]*(\w+) +(\d+) ", str(errors.__doc__), re.MULTILINE)
    return {name: int(exit_code) for name, exit_code in rows}


def test_the_root_is_the_root() -> None:
    defined = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, BaseException)
    ]
    assert set(defined) == set(ALL)
    assert ALL[0] is EnvsyncError
    assert EnvsyncError.__bases__ == (Exception,)


def test_codes_are_unique() -> None:
    assert len({cls.code for cls in ALL}) == len(ALL)


def test_every_class_has_its_own_code() -> None:
    for cls in ALL:
        assert "code" in vars(cls), f"{cls.__name__} inherits its code"
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", cls.code)


def test_exit_codes_are_unique() -> None:
    distinct = [cls.exit_code for cls in ALL if cls.code not in SAME_EXIT_CODE]
    assert len(set(distinct)) == len(distinct)
    assert all(0 < exit_code < 126 for exit_code in distinct)


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.code)
def test_is_drawn_and_documented(cls: type[EnvsyncError]) -> None:
    assert drawn().get(cls.__name__) == cls.exit_code
    assert documented().get(cls.code) == (cls.exit_code, cls.__name__)


def test_nothing_is_documented_that_does_not_exist() -> None:
    assert set(documented()) == {cls.code for cls in ALL}
    assert f"| {errors.INTERRUPTED_EXIT_CODE} |" in DOCUMENT.read_text()


def test_the_drawn_tree_has_the_shape_of_the_classes() -> None:
    names = re.findall(r"^[ │├└─]*(\w+) +\d+ ", str(errors.__doc__), re.MULTILINE)
    assert names == [cls.__name__ for cls in ALL]


@given(
    cls=st.sampled_from(ALL),
    message=st.text(),
    hint=st.text(),
    details=st.lists(st.text()),
    server=st.none() | st.text(),
)
def test_json_round_trip(
    cls: type[EnvsyncError], message: str, hint: str, details: list[str], server: str | None
) -> None:
    error = cls(message, hint=hint, details=details, server=server)
    back = error_from_json(json.loads(json.dumps(error.to_json())))
    assert type(back) is cls
    assert back.to_json() == error.to_json()


@pytest.mark.parametrize(
    "document",
    [{}, {"code": "of-a-later-version", "message": "x"}, {"code": 7, "details": "no list"}],
)
def test_a_document_of_another_version_becomes_the_root(document: dict[str, object]) -> None:
    error = error_from_json(document)
    assert type(error) is EnvsyncError
    assert error.exit_code == 1
    assert error.details == ()


def test_default_hint_is_used_only_without_one() -> None:
    cls = next(cls for cls in ALL if cls.default_hint)
    assert cls("x").advice == cls.default_hint
    assert cls("x", hint="").hint == ""
