"""What conda's and pip's configuration can carry, through everything that envsync lets out."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from envsync.agent.places.event_history import HistoryEvent
from envsync.agent.places.layout import environment_layout
from envsync.agent.places.records import Records
from envsync.agent.publishing.check import run_check
from envsync.agent.publishing.check_process import CHECK_OUTPUT_BYTES
from envsync.agent.server.processes import shown_command
from envsync.agent.wire.messages import ProcessUse
from envsync.cli.daemon import work as daemon_work
from envsync.cli.invocation.invocation import Invocation
from envsync.cli.output.terminal import LINE_CHARACTERS_MAX, Terminal
from envsync.cli.pushing.report_text import report_lines
from envsync.cli.run.crash import save_traceback
from envsync.daemon.log import Log
from envsync.daemon.rows import ErrorFacts
from envsync.daemon.systemd.notify import _status_lines
from envsync.daemon.worker_messages import Failure
from envsync.errors import CheckFailed
from envsync.push.steps.report import PushReport

SECRET = "tk-0f7e3c1d-5b1a-4d3e-9c55-2f1be4a1d0aa"
PLAIN = "Zq7plainPassword"
CARRIED = {
    "channel with a token": f"https://conda.lab.example/t/{SECRET}/main/linux-64/x-1-0.conda",
    "channel with a password": f"https://alice:{PLAIN}@conda.lab.example/main",
    "history": f"# cmd: conda install -c https://h.example/t/{SECRET}/c numpy",
    "specs in the history": f"# update specs: ['https://alice:{PLAIN}@h.example/c::numpy']",
    "pip.conf": f"index-url = https://alice:{PLAIN}@pypi.lab.example/simple",
    "pip.conf with a token": f"extra-index-url=https://h.example/simple?token={PLAIN}",
    ".condarc": f"channels: [https://conda.lab.example/t/{SECRET}/c, defaults]",
    ".condarc alias": f"channel_alias: https://user:{PLAIN}@h.example:8443/t/{SECRET}",
    "direct_url.json": f'{{"url": "git+https://{PLAIN}@git.lab.example/tool.git"}}',
    "option of pip": f"pip install --index-url https://__token__:{PLAIN}@h.example/simple x",
}

Out = Callable[[str, Path, pytest.MonkeyPatch, pytest.CaptureFixture[str]], str]


def _report(text: str) -> PushReport:
    """With it wherever a server's words can be."""
    return PushReport(
        "server2",
        "myenv",
        "pushed",
        changes=(text,),
        warnings=(text,),
        in_use=(ProcessUse(17, text),),
        overwritten=text,
        put_back=text,
        recovered=text,
        transport_reason=text,
        error=CheckFailed(text, hint=text, details=[text]),
    )


def _terminal(text: str, *_: object) -> str:
    out, err = io.StringIO(), io.StringIO()
    terminal = Terminal(out, err, {})
    for line in report_lines(_report(text), verbose=True):
        terminal.say(line)
    terminal.warning(text)
    terminal.error(CheckFailed(text, hint=text, details=[text, "x" * LINE_CHARACTERS_MAX + text]))
    # Cut in the middle of what is hidden.
    cut = LINE_CHARACTERS_MAX - len(text) + 12
    terminal.error(CheckFailed("-" * cut + " " + text))
    terminal.table(["A"], [[text]])
    return out.getvalue() + err.getvalue()


def _json(text: str, _: Path, __: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    invocation = Invocation({})
    invocation.result = {"servers": [_report(text).to_json()]}
    invocation.print_document(19, CheckFailed(text, details=[text]).to_json())
    return capsys.readouterr().out


def _daemons_worker(
    text: str, _: Path, __: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    daemon_work._send(Failure(text, CheckFailed(text, hint=text, details=[text])))
    return capsys.readouterr().out


def _records(text: str, directory: Path, *_: object) -> str:
    layout = environment_layout(str(directory), "myenv")
    layout.create()
    records = Records(layout)
    records.history.log(HistoryEvent("publish", "alice", 1.0, changes=(text,)))
    records.held.hold("0" * 64, f"its check failed: {text}")
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert len(files) == 2
    return "".join(path.read_text() for path in files)


def _log(text: str, *_: object) -> str:
    lines: list[str] = []
    log = Log(lines.append, {})
    log.warning(text, server="server2")
    log.failure(ErrorFacts.of(CheckFailed(text, hint=text)))
    return "\n".join([*lines, *_status_lines(text)])


def _crash(text: str, directory: Path, *_: object) -> str:
    saved = save_traceback(RuntimeError(text), {"XDG_STATE_HOME": str(directory)})
    assert saved is not None
    return saved.read_text()


def _command_line(text: str, *_: object) -> str:
    """Of a process that uses the environment; and one where the cut falls into it."""
    argv = text.encode().replace(b" ", b"\0")
    return shown_command(argv) + shown_command(b"-" * (395 - len(argv) // 2) + b"\0" + argv)


@pytest.mark.parametrize("text", CARRIED.values(), ids=CARRIED)
@pytest.mark.parametrize(
    "out", [_terminal, _json, _daemons_worker, _records, _log, _crash, _command_line]
)
def test_nothing_lets_a_credential_out(
    out: Out,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = out(text, tmp_path, monkeypatch, capsys)
    assert "***" in told
    assert PLAIN[:6] not in told
    assert SECRET[:12] not in told


def test_long_output_is_not_cut_within_a_line(tmp_path: Path) -> None:
    said = tmp_path / "said"
    first = f"{CARRIED['channel with a password']}\n"
    # What is kept begins within the password.
    missing = CHECK_OUTPUT_BYTES - len(first.partition("plain")[2]) - 1
    said.write_text(first + "y" * missing + "\n")
    failure = run_check(f"cat {said}; false", 20.0, bytes(tmp_path), bytes(tmp_path))
    assert failure is not None
    assert [set(line) for line in failure.output] == [{"y"}]
