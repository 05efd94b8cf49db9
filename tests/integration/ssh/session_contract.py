"""What every implementation of `envsync.ssh.session` is held to.

A test module subclasses the two suites and gives them an `opener` (a callable that makes
a link with given timeouts) and a `cut` (a callable that breaks the link from outside).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest

from envsync.errors import ConnectionFailed, ConnectionLost, TransferFailed
from envsync.ssh.session import Link, Session, Timeouts
from tests.lab.loopback_sshd import LoopbackSshd
from tests.support.links import upload
from tests.support.processes import wait_until_blocked

if TYPE_CHECKING:
    from typing_extensions import Self

Opener: TypeAlias = Callable[[Timeouts], Link]

# Longer than anything here takes on a busy machine; a bound, not a wait.
LIMIT_SECONDS = 30.0

TAKES_NOTHING = "while kill -0 $PPID; do sleep 0.1; done 2>/dev/null"
"""A command that reads nothing, and lives as long as the connection."""


def sh(script: str) -> str:
    """`script` (without single quotes) as a command that every login shell understands."""
    assert "'" not in script
    return f"exec /bin/sh -c '{script}'"


def read_all(session: Session) -> bytes:
    return b"".join(iter(lambda: session.read(65536), b""))


class InBackground:
    """Runs `call` in a thread and keeps what it raised."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.error: BaseException | None = None
        self.started = threading.Event()
        self._call = call
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self.started.wait(LIMIT_SECONDS)

    def _run(self) -> None:
        self.started.set()
        try:
            self._call()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            self.error = error

    def once_blocked(self) -> Self:
        """Wait until the call waits, which it has to."""
        wait_until_blocked(self._thread)
        return self

    def join(self) -> None:
        self._thread.join(LIMIT_SECONDS)
        assert not self._thread.is_alive(), "it is still blocked"


class SessionContract:
    @pytest.fixture
    def opener(self) -> Opener:
        raise NotImplementedError

    @pytest.fixture
    def cut(self) -> Callable[[], object]:
        raise NotImplementedError

    @pytest.fixture
    def link(self, opener: Opener) -> Iterator[Link]:
        link = opener(Timeouts())
        yield link
        link.close()

    @pytest.fixture
    def impatient(self, opener: Opener) -> Iterator[Link]:
        link = opener(Timeouts(silence_seconds=0.5))
        yield link
        link.close()

    def test_output_and_status(self, link: Link) -> None:
        session = link.run(sh("echo out; exit 3"))
        assert read_all(session) == b"out\n"
        assert session.read(1) == b""
        assert session.exit_status(LIMIT_SECONDS) == 3
        session.close()

    def test_session_returns_what_was_written_to_it(self, link: Link) -> None:
        data = os.urandom(1 << 20) * 8
        session = link.run(sh("cat"))

        def send() -> None:
            session.write(data)
            session.close_stdin()

        writer = InBackground(send)
        digest = hashlib.sha256()
        while chunk := session.read(100_000):
            assert len(chunk) <= 100_000
            digest.update(chunk)
        writer.join()
        assert digest.digest() == hashlib.sha256(data).digest()
        assert session.exit_status(LIMIT_SECONDS) == 0
        session.close()

    def test_every_kind_of_buffer(self, link: Link) -> None:
        session = link.run(sh("cat"))
        session.write(b"bytes ")
        session.write(bytearray(b"array "))
        session.write(memoryview(b"xview")[1:])
        session.write(b"")
        session.close_stdin()
        assert read_all(session) == b"bytes array view"
        session.close()

    def test_stdin_may_be_closed_twice_and_then_takes_nothing(self, link: Link) -> None:
        session = link.run(sh("cat"))
        session.close_stdin()
        session.close_stdin()
        with pytest.raises(ConnectionLost):
            session.write(b"late")
        session.close()

    def test_exit_status_is_none_while_the_command_runs(self, link: Link) -> None:
        session = link.run(sh("cat"))
        assert session.exit_status(0.05) is None
        session.close()

    def test_killed_by_a_signal_leaves_no_status(self, link: Link) -> None:
        session = link.run(sh("kill -9 $$"))
        assert read_all(session) == b""
        assert session.exit_status(LIMIT_SECONDS) is None
        session.close()

    def test_end_of_stderr_is_kept(self, link: Link) -> None:
        session = link.run(sh("echo early >&2; head -c 20000 /dev/zero >&2; echo l\\\\303te >&2"))
        assert read_all(session) == b""
        assert session.exit_status(LIMIT_SECONDS) == 0
        tail = session.stderr_tail()
        assert tail.startswith("\0")
        assert tail.endswith("te\n")
        assert len(tail.encode()) <= 4096 + 8
        session.close()

    def test_unread_stderr_stops_nothing(self, link: Link) -> None:
        session = link.run(sh("head -c 40000000 /dev/zero >&2; echo done"))
        assert read_all(session) == b"done\n"
        session.close()

    def test_several_sessions_at_once(self, link: Link) -> None:
        sessions = [link.run(sh("read word; echo $word")) for _ in range(5)]
        for number, session in enumerate(sessions):
            session.write(b"%d\n" % number)
        assert [read_all(session) for session in sessions] == [b"%d\n" % n for n in range(5)]
        for session in sessions:
            session.close()

    def test_close_unblocks_a_read(self, link: Link) -> None:
        session = link.run(sh("cat"))
        reader = InBackground(lambda: session.read(1)).once_blocked()
        session.close()
        reader.join()
        assert isinstance(reader.error, ConnectionLost)
        session.close()

    def test_close_unblocks_a_write(self, link: Link) -> None:
        session = link.run(sh(TAKES_NOTHING))
        writer = InBackground(lambda: session.write(bytes(64 << 20))).once_blocked()
        session.close()
        writer.join()
        assert isinstance(writer.error, ConnectionLost)

    def test_after_close_nothing_works_and_the_link_lives(self, link: Link) -> None:
        session = link.run(sh("cat"))
        session.close()
        with pytest.raises(ConnectionLost):
            session.write(b"x")
        with pytest.raises(ConnectionLost):
            session.read(1)
        assert read_all(link.run(sh("echo again"))) == b"again\n"

    def test_a_command_that_ends_early(self, link: Link) -> None:
        session = link.run(sh("exit 0"))
        assert session.exit_status(LIMIT_SECONDS) == 0
        with pytest.raises(ConnectionLost) as caught:
            session.write(bytes(64 << 20))
        assert caught.value.server == link.server
        session.close()

    def test_cut_in_mid_read(self, link: Link, cut: Callable[[], object]) -> None:
        session = link.run(sh("echo up; cat"))
        assert session.read(10) == b"up\n"
        reader = InBackground(lambda: session.read(1)).once_blocked()
        cut()
        reader.join()
        assert isinstance(reader.error, ConnectionLost)
        assert reader.error.server == link.server
        assert session.exit_status(LIMIT_SECONDS) is None
        session.close()

    def test_cut_in_mid_write(self, link: Link, cut: Callable[[], object]) -> None:
        session = link.run(sh(f"echo up; {TAKES_NOTHING}"))
        assert session.read(10) == b"up\n"
        writer = InBackground(lambda: session.write(bytes(64 << 20))).once_blocked()
        cut()
        writer.join()
        assert isinstance(writer.error, ConnectionLost)
        with pytest.raises((ConnectionLost, ConnectionFailed)):
            link.run(sh("true"))

    def test_a_silent_command_is_lost(self, impatient: Link) -> None:
        session = impatient.run(sh("cat"))
        began = time.monotonic()
        with pytest.raises(ConnectionLost) as caught:
            session.read(1)
        assert 0.4 < time.monotonic() - began < LIMIT_SECONDS
        assert caught.value.server == impatient.server
        session.close()

    def test_a_command_that_takes_nothing_is_lost(self, impatient: Link) -> None:
        session = impatient.run(sh(TAKES_NOTHING))
        with pytest.raises(ConnectionLost):
            session.write(bytes(64 << 20))
        session.close()

    def test_closing_the_link_ends_its_sessions(self, link: Link) -> None:
        session = link.run(sh("cat"))
        reader = InBackground(lambda: session.read(1)).once_blocked()
        link.close()
        link.close()
        reader.join()
        assert isinstance(reader.error, ConnectionLost)
        session.close()
        with pytest.raises((ConnectionLost, ConnectionFailed)):
            link.run(sh("true"))


class UploadContract:
    """`open_link` opens a link to an sshd, as this user."""

    @pytest.fixture
    def open_link(self) -> Callable[[LoopbackSshd], Link]:
        raise NotImplementedError

    @pytest.fixture
    def uploading_link(
        self, sshd: LoopbackSshd, open_link: Callable[[LoopbackSshd], Link]
    ) -> Iterator[Link]:
        with contextlib.closing(open_link(sshd)) as link:
            yield link

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        source = tmp_path / "source"
        source.write_bytes(os.urandom(3_000_001))
        return source

    def test_upload_writes_the_file(
        self, uploading_link: Link, source: Path, tmp_path: Path
    ) -> None:
        target = tmp_path / os.fsdecode(b"na\xefve \n name")
        sent: list[int] = []
        upload(uploading_link, source, target, sent.append)
        assert target.read_bytes() == source.read_bytes()
        assert sum(sent) == source.stat().st_size
        assert target.stat().st_mode & 0o777 == 0o600

    def test_an_empty_file(self, uploading_link: Link, tmp_path: Path) -> None:
        (tmp_path / "empty").touch()
        upload(uploading_link, tmp_path / "empty", tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == b""

    def test_upload_replaces_an_existing_file(
        self, uploading_link: Link, source: Path, tmp_path: Path
    ) -> None:
        target = tmp_path / "target"
        target.write_bytes(bytes(5_000_000))
        upload(uploading_link, source, target)
        assert target.read_bytes() == source.read_bytes()

    def test_upload_resumes_from_what_is_there(
        self, uploading_link: Link, source: Path, tmp_path: Path
    ) -> None:
        target = tmp_path / "target"
        target.write_bytes(source.read_bytes()[:1_234_567] + b"rubbish beyond the offset")
        sent: list[int] = []
        upload(uploading_link, source, target, sent.append, offset=1_234_567)
        assert target.read_bytes() == source.read_bytes()
        assert sum(sent) == source.stat().st_size - 1_234_567

    def test_resume_of_nothing_fails(
        self, uploading_link: Link, source: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(TransferFailed):
            upload(uploading_link, source, tmp_path / "gone", offset=5)
        assert not (tmp_path / "gone").exists()

    def test_upload_into_a_missing_directory_fails(
        self, uploading_link: Link, source: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(TransferFailed) as caught:
            upload(uploading_link, source, tmp_path / "no" / "where")
        assert caught.value.server == uploading_link.server

    def test_cut_leaves_a_prefix_from_which_it_resumes(
        self, sshd: LoopbackSshd, open_link: Callable[[LoopbackSshd], Link], tmp_path: Path
    ) -> None:
        source, target = tmp_path / "big", tmp_path / "target"
        source.write_bytes(os.urandom(1 << 20) * 40)
        sent = 0

        def cut_half_way(size: int) -> None:
            nonlocal sent
            sent += size
            if sent == 20 << 20:
                sshd.cut()

        with pytest.raises(ConnectionLost), contextlib.closing(open_link(sshd)) as link:
            upload(link, source, target, cut_half_way)
        there = target.read_bytes()
        assert source.read_bytes().startswith(there)
        with contextlib.closing(open_link(sshd)) as again:
            upload(again, source, target, offset=len(there))
        assert target.read_bytes() == source.read_bytes()

    def test_login_files_that_print(
        self, sshd: LoopbackSshd, request: pytest.FixtureRequest, source: Path, tmp_path: Path
    ) -> None:
        """As before an sftp-server, which the login shell starts; internal-sftp has no shell."""
        key = sshd.authorized_keys.read_text()
        sshd.authorized_keys.write_text(f'command="echo welcome; cat >/dev/null" {key}')
        link: Link = request.getfixturevalue("uploading_link")
        with pytest.raises(TransferFailed, match="login files print something") as caught:
            upload(link, source, tmp_path / "target")
        assert caught.value.server == link.server
        assert "omit --transport" in caught.value.hint

    @pytest.mark.parametrize("sftp", [None, "/nonexistent/sftp-server"])
    def test_server_without_sftp(
        self,
        open_link: Callable[[LoopbackSshd], Link],
        source: Path,
        tmp_path: Path,
        sftp: str | None,
    ) -> None:
        with (
            LoopbackSshd(tmp_path, name="bare", sftp=sftp) as bare,
            contextlib.closing(open_link(bare)) as link,
        ):
            with pytest.raises(TransferFailed, match="it has no sftp") as caught:
                upload(link, source, tmp_path / "target")
            assert caught.value.server == "bare"
            assert "use --transport stream" in caught.value.hint
            assert read_all(link.run(sh("echo alive"))) == b"alive\n"
