"""What a hint leaves open is filled once, reaches nobody as a slot, and its commands exist."""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.agent.wire.target_operations import OpenTarget, Requester
from envsync.cli.run.program import COMMANDS, program
from envsync.errors import (
    SLOTS,
    EnvsyncError,
    Hint,
    NotFound,
    RevisionHeld,
    TargetDrifted,
    all_errors,
    error_from_json,
)
from envsync.hint_commands import (
    A_SERVER,
    command_line,
    for_servers,
    is_copied,
    json_with_config,
    published_diff,
    what_there_is,
    with_config,
)
from envsync.push.ends.end import LocalEnd
from envsync.push.ends.target_end import TargetEnd
from tests.streamed import nodes

SOURCE = Path(__file__).parents[2] / "src" / "envsync"
AGENT = ("agent", "conda", "tree", "files", "errors.py")
_ANY_SLOT = re.compile(r"\{\w+\}")


@functools.cache
def calls(name: str) -> tuple[tuple[Path, ast.Call], ...]:
    """Where a function or class of ours is called by that name."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        if f"{name}(".encode() not in path.read_bytes():
            continue  # parsing all of them takes seconds
        ours = (node for node in nodes(path) if isinstance(node, ast.Call))
        found += [(path, node) for node in ours if getattr(node.func, "id", "") == name]
    return tuple(found)


def texts(node: ast.AST) -> Iterator[str]:
    return _texts_of(ast.walk(node))


def _texts_of(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for part in nodes:
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def test_every_slot_of_a_hint_is_one_that_is_known() -> None:
    hints = calls("Hint")
    assert len(hints) > 5
    for path, call in hints:
        for text in texts(call):
            assert set(_ANY_SLOT.findall(text)) <= {f"{{{slot}}}" for slot in SLOTS}, path


def test_nothing_follows_a_command_on_its_line() -> None:
    """A command stands last, behind a colon, or in backticks: blanks alone do not end it."""
    follows = re.compile(r"(?:^|\S) {3,}[a-z`]")
    for path in sorted(SOURCE.rglob("*.py")):
        if re.search(rb"\S {3,}[a-z`]", path.read_bytes()):
            lines = (text for text in _texts_of(nodes(path)) if "\n" not in text)
            assert [line for line in lines if follows.search(line)] == [], path


def test_the_agent_names_its_own_server_by_the_slot_alone() -> None:
    """A plain `SERVER` there would reach a person: nobody fills it."""
    for name in AGENT:
        top = SOURCE / name
        for path in [top] if top.is_file() else sorted(top.rglob("*.py")):
            is_named = b"SERVER" in path.read_bytes()
            told = [text for text in _texts_of(nodes(path)) if "SERVER" in text] if is_named else []
            # What stands there where no server is known at all.
            assert told == (["SERVER"] if name == "errors.py" else []), path


def test_a_hint_of_brackets_takes_no_longer_than_it_is_long() -> None:
    for brackets in ("[" * 1_000_000, "[[a" * 300_000, "[[" * 500_000 + "]]"):
        assert len(Hint(brackets).text(None)) >= 900_000


def test_what_is_for_whoever_runs_a_command_by_hand_is_left_out_elsewhere() -> None:
    error = TargetDrifted("x", hint=Hint("free some at {server}[[, then {again}]]"), server="a b")
    assert error.hint == "free some at 'a b', then envsync push"
    assert error.to_json(by_hand=False)["hint"] == "free some at 'a b'"
    error.fill(again="[[envsync push x]]")
    assert error.hint == "free some at 'a b', then [[envsync push x]]"


def test_a_plain_hint_has_no_such_part() -> None:
    for path in sorted(SOURCE.rglob("*.py")):
        if b"[[" in path.read_bytes():
            for node in nodes(path):
                if isinstance(node, ast.keyword) and node.arg == "hint":
                    is_hint = isinstance(node.value, ast.Call)
                    assert is_hint or not any("[[" in text for text in texts(node.value)), path


@pytest.mark.parametrize("server", [None, "server2", "an; odd {insist}"])
def test_no_slot_reaches_a_person(server: str | None) -> None:
    every = Hint(" ".join(f"{{{slot}}}" for slot in SLOTS))
    for cls in all_errors():
        for error in (cls("x", server=server), cls("x", hint=every, server=server)):
            shown = error.hint.replace("'an; odd {insist}'", "")
            assert not _ANY_SLOT.search(shown), cls
            assert error.to_json()["hint"] == error.hint


def test_a_server_is_named_as_a_shell_takes_it() -> None:
    error = NotFound("x", hint=Hint("`envsync list {server}`"))
    assert error.hint == "`envsync list SERVER`"
    error.server = "it's"
    assert error.hint == """`envsync list 'it'"'"'s'`"""


def test_a_slot_is_filled_once_and_not_looked_through() -> None:
    error = RevisionHeld("x", server="server2")
    error.fill(insist="first {server}")
    error.fill(insist="second")
    assert error.hint == "change the environment, or first {server}"


def test_a_plain_hint_is_left_as_it_is() -> None:
    error = NotFound("x", hint="rm /w/SERVERS/{server}", server="server2")
    error.fill(insist="other")
    assert error.hint == "rm /w/SERVERS/{server}"


def test_a_path_with_the_word_in_it_stays_what_it_is(tmp_path: Path) -> None:
    prefix = tmp_path / "SERVERS" / "conda"
    (prefix / "envs").mkdir(parents=True)
    (prefix / "conda-meta").mkdir()
    (prefix / "envs" / "myenv").symlink_to("/nowhere")
    target = TargetEnd(
        LocalEnd("gpu02"), OpenTarget(str(prefix), "myenv", (), Requester("alice@server1"))
    )
    with pytest.raises(EnvsyncError) as refused:
        target.inspect(lock=False)
    assert f"rm {prefix}/envs/myenv" in refused.value.hint


@given(
    template=st.text() | st.sampled_from([f"a {{{slot}}}" for slot in SLOTS]),
    known=st.dictionaries(st.sampled_from(list(SLOTS)), st.text()),
    server=st.none() | st.text(),
)
def test_open_slot_of_a_hint_stays_open_over_the_wire(
    template: str, known: dict[str, str], server: str | None
) -> None:
    error = TargetDrifted("x", hint=Hint(template, known))
    back = error_from_json(json.loads(json.dumps(error.to_wire())))
    assert back.advice == error.advice
    for one in (error, back):
        one.server = server
        one.fill(insist="insist: so", see_difference="")
    assert back.hint == error.hint


@pytest.mark.parametrize(
    "hint", [[], ["a"], ["a", "b"], [1, {}], ["{server}", {"server": 3, "x": "y"}], {}, None]
)
def test_damaged_hint_of_another_end_does_no_harm(hint: object) -> None:
    error = error_from_json({"code": "drift", "hint": hint, "server": "server2"})
    assert error.hint in ("", "server2")


def test_commands_are_quoted_word_by_word() -> None:
    assert command_line("gc", "gpu[03-08]") == "envsync gc 'gpu[03-08]'"
    assert published_diff("myenv", "a b") == "envsync diff myenv 'a b' --published"
    assert what_there_is("server2") == "`envsync list server2` shows its environments"


@pytest.mark.parametrize(
    ("hint", "has_command"),
    [
        ("envsync config --help", True),
        ("→ envsync list", True),
        ("see why: ls", True),
        ("see who made it (ls -l), then remove it there", True),
        ("remove /etc/x", True),
        ("`envsync list server2` shows its environments", True),
        ("install envsync where bob may read it", False),
        ("install rsync there, or Python 3.8 or newer", False),
        ("give yourself write-permission there", False),
    ],
)
def test_a_hint_with_a_command_is_known(hint: str, has_command: bool) -> None:
    assert is_copied(hint) == has_command


def test_an_inventory_that_was_given_is_named_in_every_command() -> None:
    for name in COMMANDS.keys() - {"demo"}:  # that has servers of its own
        shown = with_config(f"envsync {name}", "my lab.yaml")
        assert shown == f"envsync --config 'my lab.yaml' {name}"
        assert with_config(shown, "other.yaml") == shown


def test_an_inventory_is_named_in_advice_and_not_in_data() -> None:
    """A foreign process, a path or a server's message may read like a command to copy."""
    command, complete = "envsync push myenv s", "envsync --config lab.yaml push myenv s"
    data = {
        "error": {"message": command, "details": [command]},
        "in_use": [{"pid": 7, "command": command}],
    }
    advice = {"hint": command, "warnings": [command], "complaints": [{"command": command}]}
    assert json_with_config({**data, "servers": [advice]}, "lab.yaml") == {
        **data,
        "servers": [
            {"hint": complete, "warnings": [complete], "complaints": [{"command": complete}]}
        ],
    }


@pytest.mark.parametrize(
    "text",
    [
        "/w/bin/python /w/bin/envsync push myenv server2",
        "another envsync push goes on",
        "envsync never published it there",
        "envsync pushes it",
    ],
)
def test_text_that_is_no_command_to_copy_stays(text: str) -> None:
    assert with_config(text, "lab.yaml") == text


_COMPOSERS = ("command_line", "published_diff")
_ANY_COMMAND = re.compile(rf"\benvsync (?:{'|'.join(COMMANDS.keys() - {'demo'})})\b")


def _is_composed(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") in _COMPOSERS


def _shown(path: Path) -> Iterator[str]:
    """The texts of a module, without its docstrings, and with a command for each composed one."""
    names: set[str] = set()
    apart: set[ast.AST] = set()
    for node in nodes(path):
        if isinstance(node, ast.Assign) and _is_composed(node.value):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        if isinstance(node, ast.Expr):
            apart.add(node.value)
        if isinstance(node, ast.JoinedStr):
            apart |= {*node.values}
            yield "".join(
                str(part.value)
                if isinstance(part, ast.Constant)
                else "envsync push"
                if _is_composed(part.value) or getattr(part.value, "id", "") in names
                else "-"
                for part in node.values
                if isinstance(part, ast.Constant | ast.FormattedValue)
            )
    for node in nodes(path):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in apart:
            yield node.value


def test_every_command_is_shown_where_the_inventory_is_added_to_it() -> None:
    """At the start of a text or behind a sign: elsewhere, `with_config` does not look for any."""
    found = 0
    for path in sorted(SOURCE.rglob("*.py")):
        source = path.read_bytes()
        if b"envsync " not in source and not any(name.encode() in source for name in _COMPOSERS):
            continue
        for text in _shown(path):
            commands = len(_ANY_COMMAND.findall(text))
            found += commands
            assert with_config(text, "x").count("envsync --config x ") == commands, (path, text)
    assert found > 50


def test_a_command_names_several_servers_where_it_takes_them() -> None:
    for name, module in COMMANDS.items():
        command = program.get_command(click.Context(program), name)
        assert command is not None, module
        takes_many = any(param.name == "servers" and param.nargs == -1 for param in command.params)
        one = f"as it is: envsync {name} {A_SERVER}"
        many = f"as it is: envsync {name} a 'b c'"
        assert for_servers(one, ["a", "b c"]) == (many if takes_many else ""), name


def _told() -> Iterator[tuple[Path, list[str]]]:
    """The words of each command line that is composed, as far as they are written there."""
    for path, call in calls("command_line"):
        words = [str(arg.value) for arg in call.args if isinstance(arg, ast.Constant)]
        if isinstance(call.args[0], ast.Constant):
            yield path, words


def test_command_in_a_hint_exists() -> None:
    told = list(_told())
    assert len(told) > 10
    for path, words in told:
        command: click.Command = program
        for name in words:
            if isinstance(command, click.Group):
                found = command.get_command(click.Context(command), name)
                assert found is not None, f"{path}: envsync {' '.join(words)}"
                command = found
        options = {option for param in command.params for option in param.opts}
        assert {word for word in words if word.startswith("-")} <= options, path
