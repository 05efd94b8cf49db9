"""rsync's arguments, its output and its failures, without an rsync."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.agent.server import program_version, rsync_run
from envsync.agent.staging.writer_guard import REFUSED
from envsync.errors import ConnectionLost, EnvsyncError, Locked, NoSpace, TransferFailed
from envsync.transport import rsync, rsync_command
from envsync.transport.job import Ask, Job, Receiver, Supply
from envsync.transport.rsync_command import RsyncSender, joined, sender_argv
from envsync.transport.rsync_failures import failure
from envsync.transport.rsync_output import Output

SENDER = RsyncSender(
    program="/usr/bin/rsync",
    source=b"/prefix/envs/myenv",
    ssh_argv=("/usr/bin/ssh", "-o", "BatchMode=yes"),
    ssh_host="server2",
)
JOB = Job(
    Supply(),
    Receiver(None, cast(Ask, None), "/prefix/bin/python", ()),
    [(b"lib/small.py", 1)],
    all_fetches=True,
    tree="/prefix/envs/.envsync/myenv/trees/0123",
    token="0123",
    limit_bits_per_second=None,
    on_sent=lambda _: None,
)
LARGE = [*JOB.items, (b"lib/large.so", 1 << 20)]

OF_3_1 = frozenset(
    b"--ignore-times --from0 --files-from --no-implied-dirs --no-dirs -s --chmod --partial-dir "
    b"--temp-dir --whole-file --no-whole-file --copy-dest --timeout --no-human-readable --info "
    b"--no-compress --bwlimit --rsh --rsync-path".split()
)


def argv(job: Job = JOB, sender: RsyncSender = SENDER, *, compress: bool = False) -> list[bytes]:
    return sender_argv(job, sender, "/usr/bin/rsync", compress=compress)


def split_as_rsync_does(text: str) -> list[str]:
    """`do_cmd` of rsync's main.c."""
    words: list[str] = []
    at = 0
    while at < len(text):
        if text[at] == " ":
            at += 1
            continue
        word, quote = "", ""
        while at < len(text) and (text[at] != " " or quote):
            char = text[at]
            if char in "'\"" and not quote:
                quote = char
                at += 1
                continue
            if char == quote:
                at += 1
                if at >= len(text) or text[at] != quote:
                    quote = ""
                    continue
            word += char
            at += 1
        assert not quote
        words.append(word)
    return words


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
def test_the_remote_shell_survives_as_one_string(words: list[str]) -> None:
    assert split_as_rsync_does(joined(words)) == words


@pytest.mark.parametrize("switch", [True, False])
def test_never_deletes_links_or_writes_in_place(switch: bool) -> None:
    items = LARGE if switch else JOB.items
    text = b" ".join(argv(replace(JOB, items=items), compress=switch))
    for forbidden in (b"--inplace", b"--delete", b"--link-dest", b"--append", b"--owner"):
        assert forbidden not in text


def test_an_rsync_of_3_1_knows_every_option() -> None:
    """`--secluded-args` is what later ones call `-s`; zstd is asked for where both list it."""
    for items in (LARGE, JOB.items):
        words = argv(replace(JOB, items=items, limit_bits_per_second=10**6))[1:]
        options = {word.partition(b"=")[0] for word in words if word.startswith(b"-")}
        assert options <= OF_3_1, options - OF_3_1


def test_the_delta_is_against_the_live_tree_where_a_file_is_large() -> None:
    assert b"--copy-dest=/prefix/envs/myenv" in argv(replace(JOB, items=LARGE))
    assert b"--whole-file" in argv()


@pytest.mark.parametrize(("bits", "kibibytes"), [(8_192_000, 1000), (1, 1), (8191, 1)])
def test_a_limit_is_never_none(bits: int, kibibytes: int) -> None:
    assert b"--bwlimit=%d" % kibibytes in argv(replace(JOB, limit_bits_per_second=bits))


def test_the_receiver_is_a_program_of_fixed_ascii(tmp_path: Path) -> None:
    """And one that runs: here as far as its refusal, since there is no such tree."""
    tree = tmp_path / "odd ' name" / "trees" / "0123"
    target = replace(JOB.target, python=sys.executable)
    words = argv(replace(JOB, tree=str(tree), target=target))
    [option] = [item for item in words if item.startswith(b"--rsync-path=")]
    line = option.partition(b"=")[2].decode("ascii")
    assert not set(line) & set("!$`\\;&|<>*?~#\n")
    done = subprocess.run(
        ["/bin/sh", "-c", f"{line} --server"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 76
    assert done.stderr.startswith(REFUSED)


@pytest.mark.parametrize("path", ["/opt/conda/bin/python3.12", "/home/a-b_c/x+y@z=1,2:3"])
def test_plain_paths(path: str) -> None:
    assert rsync_command.is_plain(path)


@pytest.mark.parametrize("path", ["", "python", "/a b", "/a'b", "/a$b", "/é", "/a\n", "/a~b"])
def test_paths_that_shells_differ_about(path: str) -> None:
    assert not rsync_command.is_plain(path)


@pytest.mark.parametrize(("host", "target"), [("gpu02", b"gpu02:."), ("fd00::2", b"[fd00::2]:.")])
def test_an_address_is_no_daemons_module(host: str, target: bytes) -> None:
    """`fd00::2:.` would be the module `2:.` of the rsync daemon on fd00."""
    assert argv(sender=replace(SENDER, ssh_host=host))[-1] == target


def test_versions() -> None:
    said = "rsync  version 3.2.7  protocol version 31\nCompress list:\n    zstd lz4 zlibx none\n"
    assert rsync_command.version(said) == (3, 2)
    assert rsync_command.speaks_zstd(said)
    assert rsync_command.version("rsync  version v3.4.1  protocol") == (3, 4)
    assert rsync_command.version("openrsync: protocol version 29") is None
    assert not rsync_command.speaks_zstd("rsync  version 3.1.3  protocol version 31\n")
    # Python refuses to read such a number, and another server told it.
    assert rsync_command.version(f"rsync  version {'9' * 5000}.1  protocol") is None


def test_no_setting_of_the_user_gets_through() -> None:
    given_ = {"RSYNC_RSH": "evil", "RSYNC_PARTIAL_DIR": "x", "HOME": "/h", "LC_ALL": "de_DE"}
    assert rsync_run.environment(given_) == {"HOME": "/h", "LC_ALL": "C"}


@given(st.integers(1, 40))
def test_output_however_it_is_cut(size: int) -> None:
    said = (
        b"\r        32,768   0%\r     1048576  10%    1.00MB/s    0:00:10\r"
        b"    10485760 100%   10.00MB/s    0:00:01 (xfr#3, to-chk=0/4)\n"
        b"\nNumber of files: 4\nTotal bytes sent: 1234\nTotal bytes received: 66\n"
    )
    output = Output()
    told = [output.feed(said[at : at + size]) for at in range(0, len(said), size)]
    assert sum(told) == 10485760
    assert output.files == 3
    assert output.wire_bytes == 1300


def test_numbers_that_are_none_count_nothing() -> None:
    output = Output()
    assert output.feed(b"9" * 5000 + b"  10%\n") == 0
    output.feed(b"1 100% 1.00MB/s 0:00:01 (xfr#" + b"9" * 50 + b", to-chk=0/4)\n")
    assert output.files == 0
    output.feed(b"Total bytes sent: 1\nTotal bytes received: " + b"9" * 5000 + b"\n")


def test_output_is_bounded() -> None:
    output = Output()
    for _ in range(100):
        output.feed(b"x" * 100_000)
    assert output.wire_bytes is None
    assert len(output._line) <= 4096


FULL = 'rsync: [receiver] write failed on "x": No space left on device (28)\nrsync error: (code 11)'


@pytest.mark.parametrize(
    ("exit_code", "said", "alive", "expected", "words"),
    [
        (11, FULL, True, NoSpace, "full"),
        (23, 'rsync: [receiver] mkstemp "x" failed: Disk quota exceeded (122)', True, NoSpace, ""),
        (12, "connection unexpectedly closed", False, ConnectionLost, "connection was lost"),
        (12, "connection unexpectedly closed", True, TransferFailed, "interrupted"),
        (30, "timeout", True, TransferFailed, "received nothing"),
        (255, "ssh: connect to host", True, TransferFailed, "its connection"),
        (-9, "", True, TransferFailed, "signal 9"),
        (1, "unknown option", True, TransferFailed, "exit status 1"),
        (12, REFUSED + "another one has begun", True, Locked, "another push"),
    ],
)
def test_failures(
    exit_code: int, said: str, alive: bool, expected: type[EnvsyncError], words: str
) -> None:
    error = failure(exit_code, said, "server2", is_link_alive=alive)
    assert type(error) is expected
    assert words in error.message
    assert error.server == "server2"
    assert error.hint


def test_output_before_rsync_is_blamed_on_rsync() -> None:
    """Login files that print something were a reason not to start it."""
    said = "protocol version mismatch -- is your shell clean?\n(see the rsync manpage)\n"
    error = failure(2, said, "server2", is_link_alive=True)
    assert type(error) is TransferFailed
    assert error.message.startswith("its rsync prints something")
    assert "omit --transport" in error.hint


def test_server_that_grants_one_session_is_told_as_that() -> None:
    said = "mux_client_request_session: session request failed: Session open refused by peer\n"
    error = failure(255, said, "server2", is_link_alive=True)
    assert type(error) is TransferFailed
    assert "refuses rsync a session" in error.message
    assert "--transport stream" in error.hint
    assert "MaxSessions" in error.hint


def test_an_rsync_that_does_not_say_what_it_can_sends_uncompressed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One on a filesystem that does not answer, say; the link is slow."""
    program = tmp_path / "rsync"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(program_version, "_SECONDS", 0.1)
    job = cast(Job, SimpleNamespace(size_bytes=1 << 30, limit_bits_per_second=1_000_000))
    assert not rsync._compresses(job, str(program), "Compress list:\n    zstd lz4\n")
