"""How a path inside a file becomes another one."""

from __future__ import annotations

import io
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.conda.relocation import (
    BINARY,
    TEXT,
    CannotRelocate,
    Move,
    Placeholder,
    Relocation,
    StaysAsItIs,
    between,
)

OLD = b"/w/conda/envs/my"
SHORT, EQUAL, LONG = b"/o/envs/my", b"/v/conda/envs/my", b"/data/alice/miniconda3/envs/my"
ROOM = Placeholder(BINARY, 64)


def to(new: bytes, base: bytes = b"") -> Relocation:
    return Relocation([Move(OLD, new)], [Move(b"/w/conda", base)] if base else ())


TEXTS = [
    (b"prefix=/w/conda/envs/my\n", b"prefix=/o/envs/my\n"),
    (b"-I/w/conda/envs/my/include -L/w/conda/envs/my", b"-I/o/envs/my/include -L/o/envs/my"),
    (b'{"url": "file:///w/conda/envs/my/src"}', b'{"url": "file:///o/envs/my/src"}'),
    (b"file://localhost/w/conda/envs/my/x", b"file://localhost/o/envs/my/x"),
    (b"/usr/bin:/w/conda/envs/my/bin:/bin", b"/usr/bin:/o/envs/my/bin:/bin"),
    (b"It is in /w/conda/envs/my.", b"It is in /o/envs/my."),
    (b"'\\n/w/conda/envs/my\\n'", b"'\\n/o/envs/my\\n'"),
    # Others, which only begin or end like it.
    (b"/w/conda/envs/my-project", b"/w/conda/envs/my-project"),
    (b"/w/conda/envs/my2 /w/conda/envs/my.bak", b"/w/conda/envs/my2 /w/conda/envs/my.bak"),
    (b"/net/server1/w/conda/envs/my", b"/net/server1/w/conda/envs/my"),
    (b"/w/conda/bin/conda", b"/w/conda/bin/conda"),
    (b"", b""),
]


@pytest.mark.parametrize(("before", "after"), TEXTS)
def test_text_is_replaced_where_the_path_itself_is_meant(before: bytes, after: bytes) -> None:
    assert to(SHORT).rewrite(before) == after


def test_the_base_prefix_moves_too_and_other_environments_with_it() -> None:
    relocation = to(SHORT, b"/o")
    content = b"/w/conda/bin/conda /w/conda/envs/my/bin /w/conda/envs/my-project /w/condaold"
    there = b"/o/bin/conda /o/envs/my/bin /o/envs/my-project /w/condaold"
    assert relocation.rewrite(content) == there


def test_a_path_inside_the_old_one_is_replaced_once() -> None:
    relocation = between(b"/w/envs/my", b"/w/envs/my", b"/w/w/envs/my")
    assert relocation.rewrite(b"/w/envs/my:/w/pkgs") == b"/w/w/envs/my:/w/w/pkgs"


def test_an_environment_has_its_real_path_as_well() -> None:
    relocation = between(b"/w/envs/my", b"/disk7/envs/my", b"/o/envs/your", real_base=b"/disk7")
    content = b"/disk7/envs/my/bin /disk7/bin/conda /w/envs/my /w/pkgs"
    assert relocation.rewrite(content) == b"/o/envs/your/bin /o/bin/conda /o/envs/your /o/pkgs"
    elsewhere = between(b"/w/envs/my", b"/big/disk", b"/w/envs/your")
    assert elsewhere.rewrite(b"/big/disk/x /big /w/pkgs") == b"/w/envs/your/x /big /w/pkgs"


OF_THE_PREFIX = [
    b"/pkgs/python-3.11.7-0",
    b"//pkgs",
    b"/envs/other/bin/x",
    b"/bin/conda",
    b"/bin/python3.11 -m conda",
    b"/bin/activate my",
    b"/condabin:",
    b"/etc/profile.d/conda.sh",
    b"/etc/conda/activate.d/x.sh",
    b"/lib/python3.11/site-packages/conda/__main__.py create",
]
WHATEVER_STANDS_THERE = [
    b"",
    b"/",
    b"/datasets",
    b"/bin/perl",
    b"/bin/python3-config",
    b"/bin/conda-lock",
    b"/cuda/lib64",
    b"/lib/python3.11/site-packages/requests",
    b"/envs-old/x",
    b"/pkgsrc",
    b"/etc/profile.d/modules.sh",
]


@pytest.mark.parametrize(
    ("tail", "moves"),
    [*((tail, True) for tail in OF_THE_PREFIX), *((tail, False) for tail in WHATEVER_STANDS_THERE)],
)
@pytest.mark.parametrize("base", [b"/usr/local", b"/workspace", b"/home/alice"])
def test_paths_of_conda_alone_move_with_the_base_prefix(
    base: bytes, tail: bytes, moves: bool
) -> None:
    require_moved(base, tail, moves)


def require_moved(base: bytes, tail: bytes, moves: bool) -> None:
    """In a file, and as what a link leads to."""
    relocation = between(base + b"/envs/my", base + b"/envs/my", b"/o/conda/envs/my")
    there = (b"/o/conda" if moves else base) + tail
    assert relocation.rewrite(b"x=" + base + tail + b"\n") == b"x=" + there + b"\n"
    assert relocation.link_target(base + tail) == there


@pytest.mark.parametrize("base", [b"/srv/alice/apps", b"/miniconda3", b"/home/alice/m"])
@pytest.mark.parametrize(
    ("tail", "moves"),
    [
        *((tail, True) for tail in (*OF_THE_PREFIX, b"", b"/", b"/bin/perl", b"/lib", b"/share/x")),
        *((tail, False) for tail in (b"/datasets", b"/cuda/lib64", b"/envs-old/x", b"-2/lib")),
    ],
)
def test_paths_that_every_prefix_has_move_with_a_base_prefix(
    base: bytes, tail: bytes, moves: bool
) -> None:
    require_moved(base, tail, moves)


def test_directory_above_another_path_of_an_environment_is_no_base_prefix() -> None:
    """`~/conda/envs` is a link to another disk, or an archive was made anywhere."""
    here, real = b"/home/alice/conda/envs/my", b"/scratch/alice/envs/my"
    for there in (here, b"/o/envs/my"):
        relocation = between(here, real, there, earlier=[b"/mnt/envs/my"])
        content = b"/scratch/alice/datasets /scratch/alice/pkgs /mnt/pkgs /mnt/envs/your"
        assert relocation.rewrite(content) == content
        assert relocation.link_target(b"/scratch/alice/pkgs") == b"/scratch/alice/pkgs"
        assert relocation.rewrite(real + b" /mnt/envs/my/bin") == there + b" " + there + b"/bin"


def test_a_url_of_a_path_without_blanks_gets_those_of_a_url() -> None:
    """And is as it was after the way back, as what is no URL is."""
    content = (
        b'{"url": "file:///srv/my/x", "p": "/srv/my/x"} file://localhost/srv/my file:/srv/my '
        b"git+file:///srv/my FILE:///srv/my FILE:/srv/my File://localhost/srv/my log_file:/srv/my"
    )
    there = Relocation([Move(b"/srv/my", b"/srv/m y")]).rewrite(content)
    assert there == (
        b'{"url": "file:///srv/m%20y/x", "p": "/srv/m y/x"} '
        b"file://localhost/srv/m%20y file:/srv/m%20y git+file:///srv/m%20y FILE:///srv/m%20y "
        b"FILE:/srv/m%20y File://localhost/srv/m%20y log_file:/srv/m y"
    )
    assert Relocation([Move(b"/srv/m y", b"/srv/my")]).rewrite(there) == content


def test_paths_with_blanks_are_found_in_urls_and_json() -> None:
    relocation = Relocation([Move("/my dät".encode(), b"/d")])
    content = b'file:///my%20d%C3%A4t/x {"p": "/my d\\u00e4t/x"} ' + "/my dät/x".encode()
    assert relocation.rewrite(content) == b'file:///d/x {"p": "/d/x"} /d/x'


LINE = b"#!%s/bin/python3.11\n"
PYTHON = LINE + b"# a script\n"
DEEP = b"/" + b"d" * 120 + b"/envs/my"
FOR_SH = b"#!/bin/sh\n'''exec' \"%s/bin/python3.11\" \"$0\" \"$@\"\n' '''\n# a script\n"

FOR_ENV = (
    b"#!/usr/bin/env -S /bin/sh -c "
    rb"""'read -r _l<"$0"; eval exec "${_l##* #!}" \"\$0\" \"\$@\"' #!"""
)
BLANK = b"/my data/envs/my"

SHEBANGS = [
    (PYTHON % OLD, LONG, PYTHON % LONG),
    (PYTHON % OLD, DEEP, FOR_SH % DEEP),
    (PYTHON % OLD, BLANK, FOR_SH % BLANK),
    (PYTHON.replace(b"!", b"! ") % OLD, DEEP, FOR_SH.replace(b"!", b"! ") % DEEP),
    (b"#!%s/bin/python3.11" % OLD, DEEP, FOR_SH.partition(b"\n# a")[0] % DEEP),
    (b"#!%s/bin/perl -w\n" % OLD, DEEP, FOR_ENV + b'"%s/bin/perl" -w\n' % DEEP),
    (b"#!%s/bin/perl\n" % OLD, BLANK, FOR_ENV + b'"%s/bin/perl"\n' % BLANK),
    (b"#! \t%s/bin/perl" % OLD, DEEP, FOR_ENV + b' \t"%s/bin/perl"' % DEEP),
    (b"#!%s/bin/perl  -w -T \n" % OLD, DEEP, FOR_ENV + b"\"%s/bin/perl\"  '-w -T' \n" % DEEP),
    (
        b"#!%s/bin/sed -es'.'\n" % OLD,
        DEEP,
        FOR_ENV + rb""""%s/bin/sed" '-es'\''.'\'''""" % DEEP + b"\n",
    ),
    (b"#!%s/bin/perl -I%s\n" % (OLD, OLD), DEEP, FOR_ENV + b'"%s/bin/perl" -I%s\n' % (DEEP, DEEP)),
    (
        b"#!/usr/bin/env -S %s/bin/python -u\n" % OLD,
        DEEP,
        b"#!/usr/bin/env -S %s/bin/python -u\n" % DEEP,
    ),
    (b"#!/bin/sh %s/x\n" % OLD, DEEP, b"#!/bin/sh %s/x\n" % DEEP),
    (b"#!/bin/sh\n. %s/x\n" % OLD, DEEP, b"#!/bin/sh\n. %s/x\n" % DEEP),
]


@pytest.mark.parametrize(("before", "new", "after"), SHEBANGS)
def test_a_line_beyond_what_a_kernel_takes_is_made_for_sh_or_env(
    before: bytes, new: bytes, after: bytes
) -> None:
    assert to(new).rewrite(before) == after


@pytest.mark.parametrize(("before", "new", "after"), SHEBANGS)
def test_a_line_for_sh_or_env_stays_one_where_it_has_to_and_becomes_plain_again_elsewhere(
    before: bytes, new: bytes, after: bytes
) -> None:
    longer = new + b"/more" * 30
    there = Relocation([Move(new, longer)]).rewrite(after)
    assert there == to(longer).rewrite(before)
    assert Relocation([Move(longer, OLD)]).rewrite(there) == before
    assert Relocation([Move(new, OLD)]).rewrite(after) == before


def test_a_line_for_sh_in_pips_own_spelling_remains_one() -> None:
    pips = FOR_SH.replace(b'"%s/bin/python3.11"', b"%s/bin/python3.11")
    assert Relocation([Move(DEEP, OLD)]).rewrite(pips % DEEP) == pips % OLD


SCRIPTS = [
    ("perl", b"#! %s/bin/perl -w -l\nprint for $^W, $0, @ARGV;\n", "1"),
    ("perl", b"#!%s/bin/perl -l -- # -*-perl-*-\nprint for $^W, $0, @ARGV;\n", "0"),
    ("bash", b'#!%s/bin/bash -eu\nprintf \'%%s\\n\' "$BASH" "$0" "$@"\n', "{}/bin/bash"),
]


@pytest.mark.parametrize("above", ["d" * 240, "my data"])
@pytest.mark.parametrize(("interpreter", "script", "first"), SCRIPTS)
def test_a_script_at_a_path_too_long_for_a_line_runs_by_its_own_interpreter_without_activation(
    tmp_path: Path, above: str, interpreter: str, script: bytes, first: str
) -> None:
    environment = tmp_path / above / "envs/my"
    environment.joinpath("bin").mkdir(parents=True)
    program = shutil.which(interpreter)
    assert program, f"there is no {interpreter}"
    environment.joinpath("bin", interpreter).symlink_to(program)
    tool, link = environment / "bin/tool", tmp_path / "link"
    tool.write_bytes(to(bytes(environment)).rewrite(script % OLD))
    tool.chmod(0o755)
    link.symlink_to(tool)
    for name in (tool, link):
        output = subprocess.check_output([name, "a b", "$x", ""], env={}, text=True)
        assert output.splitlines() == [first.format(environment), str(name), "a b", "$x", ""]


def conda_binary(prefix: bytes, room: int = ROOM.size_bytes) -> bytes:
    """As conda installs it: two strings, one of which names the prefix twice."""
    one = prefix + b"/lib" + bytes(room - len(prefix)) + b"\0"
    two = b"x:" + prefix + b"/a:" + prefix + bytes(2 * (room - len(prefix))) + b"\0"
    return b"\x7fELF\0" + one + b"next\0" + two + b"end"


@pytest.mark.parametrize("new", [SHORT, EQUAL, LONG, b"/" + b"n" * 63])
def test_placeholder_binary_becomes_what_conda_would_have_written(new: bytes) -> None:
    there = to(new).rewrite(conda_binary(OLD), ROOM)
    assert there == conda_binary(new)
    assert Relocation([Move(new, OLD)]).rewrite(there, ROOM) == conda_binary(OLD)


def test_a_path_longer_than_conda_left_room_for_is_refused() -> None:
    with pytest.raises(CannotRelocate, match="room for a path of 64 characters"):
        to(b"/" + b"n" * 64).rewrite(conda_binary(OLD), ROOM)


def test_other_binaries_keep_every_byte_in_place() -> None:
    content = b"\0\x10/w/conda/envs/my\0-rpath=/w/conda/envs/my/lib,next string\0"
    there = b"\0\x10/o/envs/my//////\0-rpath=/o/envs/my///////lib,next string\0"
    assert to(SHORT).rewrite(content) == there
    assert Relocation([Move(SHORT, OLD)]).rewrite(there) == content
    with pytest.raises(CannotRelocate, match="room for a path of 16 characters"):
        to(LONG).rewrite(content)


def test_binary_without_room_for_the_base_prefix_may_stay() -> None:
    """It is outside the environment, and no reason to refuse a push."""
    relocation = to(SHORT, b"/data/alice/miniconda3")
    built = b"\0/w/conda/pkgs/x.c\0"
    assert relocation.rewrite(built) == built
    content = built + OLD + b"/lib\0"
    assert relocation.rewrite(content) == built + SHORT + b"///////lib\0"


def test_a_binary_that_changed_since_conda_wrote_it_is_one_like_others() -> None:
    content = b"\0" + OLD + b"/lib\0other strings\0"
    assert to(SHORT).rewrite(content, ROOM) == b"\0" + SHORT + b"///////lib\0other strings\0"


def zipped(before: bytes = b"", content: bytes = b"x") -> bytes:
    file = io.BytesIO(before)
    with zipfile.ZipFile(file, "a") as opened:
        opened.writestr("__main__.py", content)
    return file.getvalue()


def test_a_script_with_an_archive_behind_it_changes_its_first_line_only() -> None:
    archive = zipped()
    for new in (LONG, SHORT):
        assert to(new).rewrite(LINE % OLD + archive) == LINE % new + archive
    # An archive that would begin earlier than it says cannot be read.
    script = zipped(PYTHON % OLD)
    archive = script[len(PYTHON % OLD) :]
    assert to(LONG).rewrite(script) == PYTHON % LONG + archive
    assert to(SHORT).rewrite(script) == PYTHON % (SHORT + b"//////") + archive


@pytest.mark.parametrize("script", [zipped(LINE % OLD), LINE % OLD + zipped()])
@pytest.mark.parametrize("new", [SHORT, EQUAL, LONG, DEEP, BLANK])
def test_a_script_with_an_archive_behind_it_comes_back_as_it_was(script: bytes, new: bytes) -> None:
    there = to(new).rewrite(script)
    assert Relocation([Move(new, OLD)]).rewrite(there) == script
    with zipfile.ZipFile(io.BytesIO(there)) as opened:
        assert opened.read("__main__.py") == b"x"


def test_an_archive_behind_a_line_for_env_begins_no_earlier() -> None:
    """A plain line at a longer path is shorter, if it was one for `env` because of a blank."""
    script = zipped(FOR_ENV + b'"%s/bin/node"\n' % BLANK)
    there = Relocation([Move(BLANK, LONG)]).rewrite(script)
    assert there.splitlines()[0].rstrip() == b"#!%s/bin/node" % LONG
    assert len(there) == len(script)
    with zipfile.ZipFile(io.BytesIO(there)) as archive:
        assert archive.read("__main__.py") == b"x"


def test_code_between_a_line_and_an_archive_does_not_move_towards_the_start() -> None:
    """It may know its distance from there, as in `tail -c +100 "$0"`."""
    head = b"#!%s/bin/bash\n" % OLD
    payload = b'tail -c +100 "$0" > x.zip; exit\n' + zipped(content=b"\0")
    assert to(SHORT).rewrite(head + payload) == b"#!%s/bin/bash\n" % (SHORT + b"//////") + payload


@pytest.mark.parametrize("script", [zipped(LINE % OLD), LINE % OLD + zipped()])
def test_a_script_with_an_archive_behind_it_runs_at_a_shorter_path_with_a_blank(
    script: bytes,
) -> None:
    there = to(b"/a b").rewrite(script)
    assert there.startswith(b"#!/bin/sh\n'''exec' \"/a b/bin/python3.11\" ")
    with zipfile.ZipFile(io.BytesIO(there)) as archive:
        assert archive.read("__main__.py") == b"x"


def test_path_in_an_archive_stays_and_in_its_stub_moves() -> None:
    with pytest.raises(StaysAsItIs, match="archive"):
        to(SHORT).rewrite(zipped(content=b"\n" + OLD + b"\n"))
    before = b"\x7fELF\0" + OLD + b"/lib\0"
    there = b"\x7fELF\0" + SHORT + b"///////lib\0"
    assert to(SHORT).rewrite(zipped(before)) == there + zipped(before)[len(before) :]
    # A program that reads archives is none.
    reader = b"PK\x03\x04\0PK\x05\x06\0PK\x01\x02\0"
    assert to(SHORT).rewrite(before + reader) == there + reader
    assert to(SHORT).rewrite(reader + conda_binary(OLD), ROOM) == reader + conda_binary(SHORT)


class Counted(bytes):
    """Counts the bytes that are looked through for a needle."""

    looked_through = 0

    def find(self, needle: bytes, start: int = 0) -> int:  # type: ignore[override]
        found = super().find(needle, start)
        self.looked_through += (len(self) if found < 0 else found) - start
        return found


def test_absent_name_is_not_looked_for_at_each_place_of_another() -> None:
    """A log of gigabytes that names the path in each line would take days."""
    relocation = between(OLD, b"/disk7/conda/envs/my", SHORT)
    content = Counted(b"\0" + b"/w/conda/envs/my/lib\n" * 1000)
    there = relocation.rewrite(content)
    assert there == b"\0" + b"/o/envs/my///////lib\n" * 1000
    assert content.looked_through < 10 * len(content)


def test_conda_text_may_hold_nuls() -> None:
    assert to(LONG).rewrite(b"\0" + OLD, Placeholder(TEXT, 64)) == b"\0" + LONG


LINKS = [
    (b"/w/conda/envs/my/lib/x", b"/o/envs/my/lib/x"),
    (b"/w/conda/envs/my", b"/o/envs/my"),
    (b"/w/conda/envs/my2", b"/o/envs/my2"),
    (b"/w/conda/pkgs/x-1/lib", b"/o/pkgs/x-1/lib"),
    (b"/w/conda/bin/activate", b"/o/bin/activate"),
    (b"/w/conda/lib", b"/o/lib"),
    (b"/w/conda", b"/o"),
    (b"/w/conda/datasets", b"/w/conda/datasets"),
    (b"../w/conda/envs/my", b"../w/conda/envs/my"),
    (b"/etc/hosts", b"/etc/hosts"),
]


@pytest.mark.parametrize(("before", "after"), LINKS)
def test_targets_of_symlinks_are_relocated(before: bytes, after: bytes) -> None:
    assert to(SHORT, b"/o").link_target(before) == after


BYTES = st.binary(max_size=12).filter(lambda part: not {*b"/#P"} & {*part})


@given(st.lists(BYTES, max_size=5), st.sampled_from([SHORT, EQUAL, LONG, DEEP]))
def test_rewriting_there_and_back_gives_the_same_bytes(parts: list[bytes], new: bytes) -> None:
    """And neither time is anything left that names the path it came from."""
    content = OLD.join(parts)
    relocation, back = to(new), Relocation([Move(new, OLD)])
    try:
        there = relocation.rewrite(content)
    except CannotRelocate:
        assert b"\0" in content
        assert len(new) > len(OLD)
        return
    assert not relocation.names_any(there)
    assert back.rewrite(there) == content


def test_a_name_that_ends_like_the_other_one_is_replaced_once() -> None:
    """The prefix is a link to a directory with the same end; the file names that directory."""
    real = b"/data" + OLD
    relocation = Relocation([Move(OLD, SHORT), Move(real, SHORT)])
    room = bytes(ROOM.size_bytes - len(real))
    content = b"\x7fELF\0" + real + b"/lib" + room + b"\0" + bytes(16) + b"next\0"
    there = relocation.rewrite(content, ROOM)
    room = bytes(ROOM.size_bytes - len(SHORT))
    assert there == b"\x7fELF\0" + SHORT + b"/lib" + room + b"\0" + bytes(16) + b"next\0"


def test_file_without_room_stays_where_only_a_link_differs() -> None:
    """Elsewhere a file that cannot name the new path cannot be had at all."""
    link, real = b"/workspace/envs/my", b"/d/envs/my"
    binary = b"\0" + real + b"/lib\0"
    assert between(link, real, link).rewrite(binary) == binary
    assert between(link, real, link).rewrite(binary[1:-1]) == link + b"/lib"
    with pytest.raises(CannotRelocate):
        between(link, real, b"/workspace/envs/your").rewrite(binary)
    # Of a script with an archive behind it, only the first line has to have room.
    script = b"#!" + real + b"/bin/python\n"
    assert between(link, real, link).rewrite(script + b"PK\0") == (
        b"#!" + link + b"/bin/python\nPK\0"
    )
