"""An environment made anew by the target's own tool: a real solver, a real pip, no network."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path

import pytest

from envsync.agent.server.machine import platform_facts
from envsync.agent.target import inspection
from envsync.errors import PreflightRefused, RebuildFailed, TargetDrifted
from tests.conda.package import Package
from tests.integration.rebuild.two_prefixes import TwoPrefixes
from tests.rebuild.servers import install_command, pin, remake_channel, write_wheel


def names_in(top: Path, text: bytes) -> list[str]:
    """The files and links below a directory that name a text."""
    found = []
    for directory, directories, names in os.walk(top):
        for name in (*directories, *names):
            path = Path(directory, name)
            if path.is_symlink():
                content = os.fsencode(path.readlink())
            else:
                content = path.read_bytes() if path.is_file() else b""
            found += [str(path.relative_to(top))] if text in content else []
    return found


@pytest.mark.timeout(120)
def test_rebuilt_environment_runs_under_its_own_name(prefixes: TwoPrefixes, with_pip: Path) -> None:
    (prefixes.source / "pkgs").rename(prefixes.source / "pkgs-hidden")
    (with_pip / "labtool-1.2.3-py3-none-any.whl").unlink()
    write_wheel(with_pip, "labtool", "1.2.4")
    report = prefixes.push()
    assert (report.outcome, report.tool) == ("pushed", "conda 26.7.1")
    assert [change.partition(" (")[0] for change in report.changes] == [
        "labtool==1.2.3 -> labtool==1.2.*"
    ]
    tries = [(told.tool, told.attempt) for told in prefixes.progress if told.tool]
    runs = [("conda 26.7.1", 1), ("pip", 1), ("pip", 2), ("pip check", 1)]
    assert tries == [("looking for conda", 1), *runs]
    assert report.record is not None
    assert report.record.method == "rebuild"
    assert report.record.source_revision == report.revision
    top = prefixes.made
    assert prefixes.left_over == []
    assert names_in(top, os.fsencode(prefixes.target) + b"/.") == []
    assert names_in(top, b"envs/myenv") != []
    (prefixes.source / "envs").rename(prefixes.source / "envs-hidden")
    assert prefixes.run(top / "bin/lab-cli") == f"lab-cli {top}\n"
    assert prefixes.run(top / "bin/lab-where") == f"{top}\n"
    assert prefixes.run(top / "bin/lab-native", "passwd", "root").startswith("root:")
    assert prefixes.run(top / "bin/labtool") == "1.2.4\n"
    assert "labtool" in prefixes.run(top / "bin/python", "-m", "pip", "list")
    assert top.stat().st_mode & 0o777 == 0o755
    _has_true_records(top)
    (prefixes.source / "envs-hidden").rename(prefixes.source / "envs")
    assert prefixes.push().outcome == "in-step"


def _has_true_records(top: Path) -> None:
    """What conda and pip wrote down of each file is so."""
    for record in top.glob("conda-meta/*.json"):
        for path in json.loads(record.read_bytes())["paths_data"]["paths"]:
            if "sha256_in_prefix" in path and path["path_type"] != "softlink":
                assert _sha256(top / path["_path"]) == path["sha256_in_prefix"], path["_path"]
    site = next(top.glob("lib/python3*/site-packages"))
    for line in (site / "labtool-1.2.4.dist-info/RECORD").read_text().splitlines():
        path, digest, _ = line.rsplit(",", 2)
        if digest:
            assert digest == f"sha256={_sha256_of_pip((site / path).resolve())}", path


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sha256_of_pip(path: Path) -> str:
    return base64.urlsafe_b64encode(bytes.fromhex(_sha256(path))).rstrip(b"=").decode()


# --- what cannot be had gives way ---------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "changes"),
    [
        ([pin("1.2.3", "b_0")], ["lab-pin=1.2.3=a_0 -> lab-pin=1.2.3"]),
        (
            [pin("1.2.9", "a_0"), pin("1.3", "a_0")],
            ["lab-pin=1.2.3=a_0 -> lab-pin=1.2.3", "lab-pin=1.2.3 -> lab-pin=1.2.*"],
        ),
        (
            [pin("1.9", "a_0"), pin("2.0", "a_0")],
            [
                "lab-pin=1.2.3=a_0 -> lab-pin=1.2.3",
                "lab-pin=1.2.3 -> lab-pin=1.2.*",
                "lab-pin=1.2.* -> lab-pin=1.*",
            ],
        ),
    ],
)
def test_first_the_build_then_the_version(
    prefixes: TwoPrefixes, tmp_path: Path, there: list[Package], changes: list[str]
) -> None:
    channel = tmp_path / "channel"
    prefixes.create(channel, [pin("1.2.3", "a_0"), pin("1.0", "0", name="lab-other")])
    remake_channel(channel, [*there, pin("1.0", "0", name="lab-other")])
    report = prefixes.push()
    assert [change.partition(" (")[0] for change in report.changes] == changes
    version = (prefixes.made / "share/lab-pin/version.txt").read_text()
    assert version == f"{there[0].version} {there[0].build}\n"
    history = prefixes.target / "envs/.envsync/myenv/history.jsonl"
    assert json.loads(history.read_text())["changes"] == list(report.changes)


def test_of_two_in_each_others_way_the_strictest_gives_way(
    prefixes: TwoPrefixes, tmp_path: Path
) -> None:
    channel = tmp_path / "channel"
    prefixes.create(channel, [pin("1.0", "a_0"), pin("1.0", "0", name="lab-other")])
    newer = pin("1.0", "b_0", depends=["lab-other >=1.5"])
    remake_channel(channel, [newer, *(pin(v, "0", name="lab-other") for v in ("1.0", "1.7"))])
    report = prefixes.push()
    assert [change.partition(" (")[0] for change in report.changes] == [
        "lab-pin=1.0=a_0 -> lab-pin=1.0",
        "lab-other=1.0=0 -> lab-other=1.0",
        "lab-other=1.0 -> lab-other=1.*",
        "lab-pin=1.0 -> lab-pin=1.*",
    ]
    assert (prefixes.made / "share/lab-other/version.txt").read_text() == "1.7 0\n"


def test_on_another_platform_what_is_for_one_alone_is_left_out(
    prefixes: TwoPrefixes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = platform_facts()._replace(machine="sparc64")
    monkeypatch.setattr(inspection, "platform_facts", lambda: there)
    install_command(prefixes.target, "mamba")
    channel = tmp_path / "channel"
    prefixes.create(channel, [pin("1.0", "a_0"), pin("2", "0", name="lab-x86")])
    remake_channel(channel, [pin("1.0", "b_0")])
    planned = prefixes.push("auto", dry_run=True)
    assert (planned.method, planned.tool) == ("rebuild", "mamba 1.5.8")
    assert "sparc64" in planned.method_reason
    report = prefixes.push("auto")
    assert report.method == "rebuild"
    assert report.changes[0].startswith("the builds of 2 packages -> their versions")
    assert report.changes[-1].startswith("lab-x86=2 -> left out")
    assert (prefixes.made / "share/lab-pin/version.txt").read_text() == "1.0 b_0\n"


def test_files_of_no_package_are_named_as_not_sent(prefixes: TwoPrefixes, tmp_path: Path) -> None:
    prefixes.create(tmp_path / "channel", [pin("1.0", "0")])
    (prefixes.source / "envs/myenv/share/mydata.txt").write_text("mine")
    warning = (
        "files that belong to no package are not sent by a rebuild: share/mydata.txt "
        "(--method mirror sends them)"
    )
    assert warning in prefixes.push(dry_run=True).warnings
    assert warning in prefixes.push().warnings
    assert not (prefixes.made / "share/mydata.txt").exists()


# --- what ends it ---------------------------------------------------------------------------


@pytest.mark.timeout(120)
def test_whatever_fails_the_version_before_stands_there(
    prefixes: TwoPrefixes, tmp_path: Path
) -> None:
    channel = tmp_path / "channel"
    one, other = pin("1.0", "a_0"), pin("1.0", "0", name="lab-other")
    prefixes.create(channel, [one])
    prefixes.push()
    stands = prefixes.made.stat().st_ino, names_in(prefixes.made, b"")

    prefixes.create(channel, [one, other])
    remake_channel(channel, [one])
    with pytest.raises(RebuildFailed) as gone:
        prefixes.push()
    assert gone.value.message == "conda 26.7.1 there cannot install lab-other"
    assert "relaxed: lab-other=1.0=0 -> lab-other=1.0" in gone.value.details[0]

    channel.rename(tmp_path / "channel-away")
    with pytest.raises(RebuildFailed, match="cannot find a channel of the source"):
        prefixes.push()
    for record in (prefixes.source / "envs/myenv/conda-meta").glob("*.json"):
        text = record.read_text()
        record.write_text(text.replace(channel.as_uri(), "http://127.0.0.1:9/channel"))
    with pytest.raises(RebuildFailed, match="cannot reach the servers that have the packages"):
        prefixes.push()

    (prefixes.target / "condabin/conda").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "/usr/bin:/bin")
        with pytest.raises(PreflightRefused, match="there is no mamba, micromamba or conda"):
            prefixes.push()
    assert prefixes.left_over == []
    assert (prefixes.made.stat().st_ino, names_in(prefixes.made, b"")) == stands


def test_a_rebuilt_version_drifts_and_rolls_back_like_any_other(
    prefixes: TwoPrefixes, tmp_path: Path
) -> None:
    channel = tmp_path / "channel"
    prefixes.create(channel, [pin("1.0", "a_0")])
    prefixes.push()
    first = prefixes.made.stat().st_ino
    prefixes.create(channel, [pin("1.0", "a_0"), pin("1.0", "0", name="lab-other")])
    prefixes.push()
    assert (prefixes.made / "share/lab-other").exists()
    (prefixes.made / "by-hand").write_text("mine\n")
    with pytest.raises(TargetDrifted):
        prefixes.push()
    (prefixes.made / "by-hand").unlink()
    prefixes.rollback()
    assert prefixes.made.stat().st_ino == first
    assert not (prefixes.made / "share/lab-other").exists()
