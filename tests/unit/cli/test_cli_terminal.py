"""What reaches a terminal, and what never does."""

from __future__ import annotations

import io
import shlex
from collections.abc import Sequence

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.cli.output.terminal import Terminal
from envsync.errors import (
    CheckFailed,
    ConnectionFailed,
    EnvsyncError,
    HostKeyRefused,
    NotFound,
    RevisionHeld,
    TargetDrifted,
    listed,
)
from envsync.texts.redaction import escaped

DRIFTED = (
    "see what with `envsync diff myenv server2 --published`; "
    "`envsync push myenv server2 --overwrite` replaces it"
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("lib/python3.11", "lib/python3.11"),
        ("Zürich → 東京", "Zürich → 東京"),
        ("a\x1b[31mred\x1b[0m", "a\\x1b[31mred\\x1b[0m"),
        ("two\nlines\r\t", "two\\nlines\\r\\t"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("c1 \x9b31m", "c1 \\x9b31m"),
        ("not utf-8: \udcff", "not utf-8: \\xff"),
        ("lone \ud800", "lone \\ud800"),
        ("right\u202eto left", "right\\u202eto left"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("nul\0", "nul\\x00"),
    ],
)
def test_unprintable_characters_are_escaped(text: str, shown: str) -> None:
    assert escaped(text) == shown


@given(st.text(st.characters(exclude_categories=())))
def test_nothing_escapes_the_escaping(text: str) -> None:
    assert escaped(text).isprintable()
    escaped(text).encode()


def _terminal(*, quiet: bool = False) -> tuple[Terminal, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return Terminal(out, err, {}, quiet=quiet), out, err


def test_an_error_is_told_with_its_details_and_the_way_out() -> None:
    terminal, out, err = _terminal()
    error = ConnectionFailed(
        "it is \x1b[2Joff", hint="switch it on", details=["since\n noon"], server="server2"
    )
    terminal.error(error)
    assert out.getvalue() == ""
    assert err.getvalue() == (
        "envsync: server2: it is \\x1b[2Joff\n  since\\n noon\n  → switch it on\n"
    )


class _Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def _narrow(columns: int) -> tuple[Terminal, _Screen, _Screen]:
    out, err = _Screen(), _Screen()
    environ = {"TERM": "xterm", "NO_COLOR": "1", "COLUMNS": str(columns)}
    return Terminal(out, err, environ), out, err


def test_on_a_terminal_lines_end_between_words_and_a_hint_can_be_copied() -> None:
    terminal, out, err = _narrow(40)
    terminal.say("myenv -> server2: 1,268 files, 65.7 MB; 5 files sent, 7.7 s")
    assert out.getvalue() == "myenv -> server2: 1,268 files, 65.7 MB;\n  5 files sent, 7.7 s\n"
    hint = "ssh-keyscan -H server2 >> /run/home/root/.ssh/known_hosts"
    error = EnvsyncError("a sentence that is longer than it", hint=hint, details=["word " * 9])
    error.server = "server2"
    terminal.error(error)
    assert err.getvalue() == (
        "envsync: server2: a sentence that is\n  longer than it\n"
        "  word word word word word word word\n    word word\n"
        f"  → {hint}\n"
    )


def test_a_hint_without_a_command_ends_its_lines_between_words() -> None:
    prose = "install conda at the prefix there, or Python 3.8 or newer"
    folded = "  → install conda at the prefix there, or\n    Python 3.8 or newer\n"
    terminal, _, err = _narrow(42)
    terminal.hint(prose)
    terminal.error(EnvsyncError("x", hint=prose))
    assert err.getvalue() == f"{folded}envsync: x\n{folded}"


def test_table_that_is_too_wide_leaves_optional_columns_out_and_says_so() -> None:
    rows = [("an-environment-of-2026", "server2", "12 GB", "alice@server1")]
    titles = ("ENVIRONMENT", "SERVER", "SIZE", "BY")
    bare = "an-environment-of-2026 server2"
    expected = {
        50: [f"{'ENVIRONMENT':22} SERVER  SIZE  BY", f"{bare} 12 GB alice@server1"],
        49: [f"{'ENVIRONMENT':22} SERVER  SIZE", f"{bare} 12 GB", "left out here: BY"],
        35: [f"{'ENVIRONMENT':22} SERVER", bare, "left out here: BY, SIZE"],
    }
    for columns, text in expected.items():
        terminal, out, _ = _narrow(columns)
        terminal.table(titles, rows, optional="FROM BY SIZE")  # FROM only with -v, for instance
        assert out.getvalue().splitlines() == text
    piped = io.StringIO()
    Terminal(piped, piped, {"COLUMNS": "35"}).table(titles, rows, optional="BY SIZE")
    assert "alice@server1" in piped.getvalue()


def test_a_table_that_is_too_wide_stands_closer_then_turns() -> None:
    rows = [(f"server{number}", "yes", "3.11.7", "12 GB", "x86_64") for number in (1, 2, 3)]
    titles = ("SERVER", "REACHED", "PYTHON", "FREE", "PLATFORM")
    loose = "SERVER   REACHED  PYTHON  FREE   PLATFORM"
    for columns, first in ((41, loose), (40, "SERVER  REACHED PYTHON FREE  PLATFORM")):
        terminal, out, _ = _narrow(columns)
        terminal.table(titles, rows, turns=True)
        assert out.getvalue().splitlines()[0] == first
    coloured = _Screen()
    Terminal(coloured, coloured, {"COLUMNS": "41"}).table(titles, rows)
    assert click.unstyle(coloured.getvalue()).splitlines()[0] == loose, "bold takes no room"
    terminal, out, _ = _narrow(34)
    terminal.table(titles, rows, turns=True)
    assert out.getvalue() == (
        "SERVER    server1  server2\n"
        "REACHED   yes      yes\n"
        "PYTHON    3.11.7   3.11.7\n"
        "FREE      12 GB    12 GB\n"
        "PLATFORM  x86_64   x86_64\n"
        "\n"
        "SERVER    server3\n"
        "REACHED   yes\n"
        "PYTHON    3.11.7\n"
        "FREE      12 GB\n"
        "PLATFORM  x86_64\n"
    )


def test_a_turned_table_has_no_line_in_which_nothing_is_known() -> None:
    titles = ("SERVER", "REACHED", "PYTHON", "ENVIRONMENTS")
    rows = [("server1", "yes", "-", "12"), ("server2", "NO", "-", "connection-failed")]
    terminal, out, _ = _narrow(36)
    terminal.table(titles, rows, turns=True)
    assert out.getvalue() == (
        "SERVER        server1\n"
        "REACHED       yes\n"
        "ENVIRONMENTS  12\n"
        "\n"
        "SERVER        server2\n"
        "REACHED       NO\n"
        "ENVIRONMENTS  connection-failed\n"
    )


def test_an_error_without_server_and_hint_is_one_line() -> None:
    terminal, _, err = _terminal()
    terminal.error(EnvsyncError("something", hint=""))
    assert err.getvalue() == "envsync: something\n"


def test_error_of_many_servers_is_printed_once() -> None:
    terminal, _, err = _terminal()
    names = [f"gpu{number}" for number in range(10)]
    terminal.errors(
        [
            *(ConnectionFailed("no route", hint="", server=name) for name in names),
            ConnectionFailed("it is off", hint="", server="edge"),
        ]
    )
    assert err.getvalue() == (
        "envsync: gpu0, gpu1, gpu2, gpu3, gpu4, gpu5, gpu6, gpu7 and 2 more: no route\n"
        "envsync: edge: it is off\n"
    )


def test_a_server_and_a_hint_are_named_once() -> None:
    terminal, _, err = _terminal()
    terminal.errors(
        [
            ConnectionFailed(f"{host} refuses connections", hint="look there", server=name)
            for name, host in (("gpu1", "gpu1"), ("gpu2", "gpu2"), ("edge", "192.0.2.7"))
        ]
    )
    assert err.getvalue() == (
        "envsync: gpu1, gpu2: refuses connections\n"
        "envsync: edge: 192.0.2.7 refuses connections\n  → look there\n"
    )


def _told(errors: Sequence[EnvsyncError]) -> str:
    terminal, _, err = _terminal()
    terminal.errors(errors)
    return err.getvalue()


def test_what_differs_in_the_name_alone_is_told_once_and_solved_for_all() -> None:
    names = [f"gpu{number:02}" for number in range(1, 13)]
    failed: list[EnvsyncError] = []
    for name in names:
        hint = f"change it, or insist: `envsync push myenv {name} --retry-held`"
        error = CheckFailed("the check failed", details=["no numpy", f"on {name}.lab"], hint=hint)
        error.server = name
        failed.append(error)
    assert _told(failed) == (
        f"envsync: gpu01 (likewise {', '.join(names[1:9])} and 3 more): the check failed\n"
        "  no numpy\n"
        "  on gpu01.lab\n"
        f"  → change it, or insist: `envsync push myenv {' '.join(names)} --retry-held`\n"
    )
    failed[3].message = "another reason"
    told = _told(failed)
    assert told.count("→") == 1
    assert "envsync: gpu04: another reason\n  no numpy\n  on gpu04.lab\n  → change it" in told


def test_what_is_solved_server_by_server_is_told_once_and_solved_for_the_first() -> None:
    def unknown(name: str) -> EnvsyncError:
        return HostKeyRefused(f"the key of {name} is new", hint=f"ssh {name}", server=name)

    assert _told([unknown(f"gpu{number}") for number in range(5)]) == (
        "envsync: gpu0 (likewise gpu1, gpu2, gpu3, gpu4): the key of gpu0 is new\n"
        "  → ssh gpu0\n  → ssh gpu1\n  → ssh gpu2\n  and likewise on 2 more servers\n"
    )
    assert _told([unknown("gpu0"), NotFound("x", hint="ssh gpu1", server="gpu1")]) == (
        "envsync: gpu0: the key of gpu0 is new\n  → ssh gpu0\nenvsync: gpu1: x\n  → ssh gpu1\n"
    )


def test_a_command_for_one_server_beside_one_for_all_leaves_the_name_open() -> None:
    drifted = [
        TargetDrifted("it was changed", hint=DRIFTED.replace("server2", name), server=name)
        for name in ("server2", "server3")
    ]
    assert _told(drifted) == (
        "envsync: server2, server3: it was changed\n"
        "  → see what with `envsync diff myenv SERVER --published`; "
        "`envsync push myenv server2 server3 --overwrite` replaces it\n"
    )
    assert _told(drifted[:1]).endswith(f"→ {DRIFTED}\n")


def test_a_word_that_looks_like_a_name_is_no_name() -> None:
    """Servers called as the environment, the command, or with the name of another in it."""
    names = ("myenv", "push", "gpu", "gpu-1", "overwrite")
    held = [
        RevisionHeld("held", hint=f"envsync push myenv {name} --overwrite", server=name)
        for name in names
    ]
    told = _told(held)
    commands = [line for line in told.splitlines() if "→" in line]
    for name in names:
        assert any(name in shlex.split(command)[4:-1] for command in commands), told
    for command in commands:
        assert command.startswith("  → envsync push myenv "), told
        assert command.endswith(" --overwrite"), told


def test_a_table_is_aligned_and_its_cells_escaped() -> None:
    terminal, out, _ = _terminal()
    terminal.table(("NAME", "SIZE", "NOTE"), [("東京", "1", ""), ("b\x1b[0m", "22", "x")], "SIZE")
    assert out.getvalue() == (
        "NAME      SIZE  NOTE\n東京         1\nb\\x1b[0m    22  x\n"
    )  # two columns for each wide character


def test_a_table_is_never_cut() -> None:
    terminal, out, _ = _terminal()
    terminal.table(("A", "B"), [("x" * 300, "[bold]y[/]")])
    assert out.getvalue().splitlines()[1] == "x" * 300 + "  [bold]y[/]"


def test_a_quiet_terminal_says_nothing() -> None:
    terminal, out, err = _terminal(quiet=True)
    terminal.say("x")
    terminal.note("x")
    terminal.warning("x")
    terminal.error(EnvsyncError("x"))
    terminal.table(("A",), [("x",)])
    assert (out.getvalue(), err.getvalue()) == ("", "")
    assert not terminal.is_interactive


def test_output_that_is_no_terminal_gets_no_colour_and_no_movement() -> None:
    terminal, out, err = _terminal()
    assert not terminal.is_interactive
    terminal.say("a")
    terminal.warning("b")
    assert (out.getvalue(), err.getvalue()) == ("a\n", "warning: b\n")


def test_list_shows_a_last_name_rather_than_a_count_of_one() -> None:
    names = [f"gpu{number}" for number in range(1, 11)]
    assert listed(names[:9]) == "gpu1, gpu2, gpu3, gpu4, gpu5, gpu6, gpu7, gpu8, gpu9"
    assert listed(names) == "gpu1, gpu2, gpu3, gpu4, gpu5, gpu6, gpu7, gpu8 and 2 more"


@pytest.mark.parametrize("columns", range(30, 60))
def test_a_number_and_its_unit_stay_together(columns: int) -> None:
    terminal, out, _ = _narrow(columns)
    terminal.say("myenv -> server2: 1,268 files, 65.7 MB; 1,260 files sent, 24.1 MB, 10.8 s")
    lines = out.getvalue().splitlines()
    assert len(lines) > 1
    assert not {line.split()[0].rstrip(",;") for line in lines} & {"MB", "s"}
    assert "\xa0" not in out.getvalue()


def test_a_process_that_is_told_of_has_the_command_line_that_it_has() -> None:
    out, err = io.StringIO(), io.StringIO()
    terminal = Terminal(out, err, {}, config="lab.yaml")
    terminal.say("  in use by process 7: envsync push myenv server2")
    terminal.error(EnvsyncError("2 processes use it", details=["7: envsync push myenv server2"]))
    assert "--config" not in out.getvalue() + err.getvalue()


def test_commands_to_be_copied_name_the_inventory_that_was_given() -> None:
    out, err = io.StringIO(), io.StringIO()
    terminal = Terminal(out, err, {}, config="my lab.yaml")
    terminal.error(EnvsyncError("it differs", hint="envsync push myenv server2 --overwrite"))
    terminal.warning("it ends soon: envsync daemon install")
    kept = terminal.copyable("kept until `envsync gc server2`; another envsync push goes on")
    terminal.say(kept)
    assert err.getvalue() == (
        "envsync: it differs\n  → envsync --config 'my lab.yaml' push myenv server2 --overwrite\n"
        "warning: it ends soon: envsync --config 'my lab.yaml' daemon install\n"
    )
    assert out.getvalue() == (
        "kept until `envsync --config 'my lab.yaml' gc server2`; another envsync push goes on\n"
    )
