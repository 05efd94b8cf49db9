"""What `transport.job.Transport` promises, by every transport over a real sshd."""

from __future__ import annotations

import math
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from envsync.errors import EnvsyncError
from envsync.transport import rsync
from envsync.transport.job import Transport
from tests.integration.transport.two_ends import TwoEnds, write_below

LONG = b"/".join([b"d" * 200] * 19) + b"/" + b"f" * 250
"""A path that the kernel takes from the environment's top, and not from the root."""

NAMES = (
    b"plain",
    b"with blank and\ttab",
    b"new\nline",
    b"not utf-8 \xff\xfe",
    b"-rf",
    b"--delete",
    b"#comment",
    b";comment",
    b"~tilde",
    b"*?[a]",
    b"'quote\"$(id)`",
    b"back\\slash \\#012",
    b":colon:.",
    b"host:path",
    b".hidden",
    b"n" * 255,
    LONG,
)
MODES = (0o644, 0o755, 0o400, 0o444, 0o4755, 0o2755, 0o600, 0o666)


def odd_files(ends: TwoEnds) -> None:
    for number, name in enumerate(NAMES):
        ends.write(name, b"content %d" % number, mtime_ns=1_700_000_000_123_456_789 + number)
        ends.write(b"-dir/" + name[:250].rsplit(b"/")[-1], b"other %d" % number)
    for mode in MODES:
        ends.write(b"modes/%o" % mode, b"mode %o" % mode, mode)
    ends.write(b"empty", b"")
    ends.write(b"old", b"before 1970", mtime_ns=-1_500_000_000)
    ends.write(b"large", os.urandom(1 << 20) * 3 + b"end")
    ends.write(b"soft", b"the same again\n" * 200_000)


def test_brings_every_file_exactly(ends: TwoEnds, transport: Transport) -> None:
    odd_files(ends)
    push = ends.begin()
    assert transport.refusal(push.job) is None

    sent = transport.send(push.job)

    assert sent.failed == ()
    assert push.staged_files() == ends.source_files()
    assert sum(ends.sent_bytes) == pytest.approx(push.job.size_bytes, rel=0.01)
    push.target.complete()
    assert push.staged_files() == ends.source_files()


def test_transport_reports_how_many_files_have_arrived(ends: TwoEnds, transport: Transport) -> None:
    for number in range(300):
        ends.write(b"d%d/%d" % (number % 7, number), b"%d" % number)
    ends.write(b"large", os.urandom(3 << 20))
    push, told = ends.begin(), list[int]()
    transport.send(replace(push.job, on_files=told.append))
    assert all(files > 0 for files in told)
    # A bundle is one file until it has come.
    assert sum(told) == (0 if transport.name == "scp" else len(push.job.items))


def test_transport_compresses(
    ends: TwoEnds, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    # rsync compresses on a slow link alone, and within one machine a link can be fast.
    monkeypatch.setattr(rsync, "_COMPRESS_BELOW_BYTES_PER_SECOND", math.inf)
    for number in range(40):
        ends.write(b"%d" % number, b"%d the same again\n" % number * 50_000)
    push = ends.begin()
    wire_bytes = transport.send(push.job).wire_bytes
    assert wire_bytes is not None
    assert 0 < wire_bytes < push.job.size_bytes / 4


def test_brings_new_files_where_old_ones_are(ends: TwoEnds, transport: Transport) -> None:
    """Also of the same size and time; and nobody who has the old one open sees a change."""
    ends.write(b"a/file", b"new content")
    ends.write(b"untouched", b"stays")
    push = ends.begin()
    tree = os.fsencode(push.job.tree)
    write_below(tree, b"a/file", b"old content", 0o400)
    os.link(tree + b"/a/file", tree + b"/other-name")

    with Path(push.job.tree, "a/file").open("rb") as old:
        transport.send(push.only(b"a/file"))
        assert old.read() == b"old content"

    files = push.staged_files()
    assert files.pop(b"other-name")[2] == b"old content"
    assert {path: content for path, (_, _, content) in files.items()} == {b"a/file": b"new content"}


def test_sends_some_again(ends: TwoEnds, transport: Transport) -> None:
    for name in (b"a", b"b", b"c"):
        ends.write(name, b"content of " + name)
    push = ends.begin()
    transport.send(push.job)
    for name in (b"a", b"b"):
        Path(push.job.tree, name.decode()).write_bytes(b"damaged")

    assert transport.send(push.only(b"b")).failed == ()

    files = push.staged_files()
    assert files[b"a"][2] == b"damaged"
    assert files[b"b"] == ends.source_files()[b"b"]


def test_names_what_is_gone_and_brings_the_rest(ends: TwoEnds, transport: Transport) -> None:
    for name in (b"d/gone", b"d/shrunk", b"d/stays", b"z"):
        ends.write(name, b"content of " + name)
    push = ends.begin()
    (ends.source / "d" / "gone").unlink()
    ends.write(b"d/shrunk", b"short")

    sent = transport.send(push.job)

    assert set(sent.failed) == {b"d/gone", b"d/shrunk"}
    files = push.staged_files()
    assert files.keys() - {b"d/shrunk"} == {b"conda-meta/history", b"d/stays", b"z"}


def test_does_not_follow_what_became_a_link(ends: TwoEnds, transport: Transport) -> None:
    ends.write(b"file", b"content")
    ends.write(b"secret", b"another")
    push = ends.begin()
    (ends.source / "file").unlink()
    (ends.source / "file").symlink_to("secret")

    sent = transport.send(push.only(b"file"))

    assert sent.failed == (b"file",)
    assert push.staged_files() == {}


def test_file_that_became_a_directory_fails_alone(ends: TwoEnds, transport: Transport) -> None:
    ends.write(b"file", b"content")
    ends.write(b"z", b"last")
    push = ends.begin()
    (ends.source / "file").unlink()
    ends.write(b"file/inner", b"another")

    sent = transport.send(push.job)

    assert sent.failed == (b"file",)
    assert push.staged_files().keys() == {b"conda-meta/history", b"z"}


def test_resumes_after_the_link_is_cut(ends: TwoEnds, transport: Transport) -> None:
    for number in range(30):
        ends.write(b"large%d" % number, os.urandom(1 << 20))
    push = ends.begin()

    def cut(sent_bytes: int) -> None:
        ends.sent_bytes.append(sent_bytes)
        if sum(ends.sent_bytes) > 8 << 20:
            ends.sshd.cut()

    with pytest.raises(EnvsyncError) as caught:
        transport.send(push.with_progress(cut))
    assert caught.value.code in ("connection-lost", "transfer-failed")
    assert caught.value.server in ("loopback", None)
    push.close()

    again = ends.begin()
    sent = transport.send(again.job)
    again.target.complete()
    assert sent.failed == ()
    assert sent.wire_bytes is not None
    assert sent.wire_bytes < 25 << 20
    assert again.staged_files() == ends.source_files()


def test_leaves_nothing_beside_the_version(ends: TwoEnds, transport: Transport) -> None:
    odd_files(ends)
    push = ends.begin()
    transport.send(push.job)
    push.target.complete()
    push.publish(transport.name)
    left = {path.name for path in ends.state.iterdir()}
    assert left <= {"lock", "writers", "staging.json", "generations", "trees", "history.jsonl"}
    assert list((ends.state / "trees").iterdir()) == []
    cache = Path(os.environ["XDG_CACHE_HOME"], "envsync")
    assert [path.name for path in cache.iterdir()] == ["content"]


def test_keeps_to_a_limit_or_refuses(ends: TwoEnds, transport: Transport) -> None:
    """Half a second's worth takes no less, however fast the machine is."""
    ends.write(b"large", os.urandom(2_500_000))
    job = ends.begin().limited(40_000_000)
    if transport.name == "scp":
        assert transport.refusal(job) == "it cannot limit its rate"
        return
    assert transport.refusal(job) is None
    started = time.monotonic()
    transport.send(job)
    assert time.monotonic() - started > 0.3
