"""Contents that the server has in other places need not come from the source."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from envsync.agent.target.push import TargetPush
from envsync.agent.wire.messages import PlanFacts
from envsync.conda.manifest_packages import metadata_paths
from envsync.tree.manifest import EMPTY, Manifest, decode, encode, references
from tests.support import disk
from tests.support.ordinary_user import home_of_ordinary_user
from tests.support.pushes import Server, environment
from tests.support.trees import Node, Tree, file, manifest_of

SITE = b"lib/python3.11/site-packages/"
BIG = os.urandom(1 << 20)
OTHER = os.urandom(1 << 20)
WANTED = environment(
    {
        b"conda-meta/big-1.0-0.json": file(b"{}"),
        SITE + b"wheel-1.0.dist-info/METADATA": file(b"Name: wheel"),
        SITE + b"wheel/data": file(OTHER),
        b"lib/big.so": file(BIG, 0o755),
        b"new": file(b"only here"),
    }
)


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def make(server: Server, name: str, nodes: Tree) -> Path:
    """Another environment of the prefix, made by hand."""
    path = server.prefix / "envs" / name
    path.mkdir()
    disk.build(os.fsencode(path), nodes)
    return path


def staged(server: Server, nodes: Tree) -> tuple[PlanFacts, set[bytes]]:
    """What a push plans, and which paths have to come."""
    target = server.target()
    try:
        target.inspect(lock=True)
        staged = TargetPush(target).stage(manifest_of(nodes))
        return staged.facts, {*staged.fetches.paths()}
    finally:
        target.lock.release()


def noted(nodes: dict[bytes, Node]) -> dict[bytes, Node]:
    """The same environment with the installers' notes about its files."""
    big = {"_path": "lib/big.so", "sha256_in_prefix": hashlib.sha256(BIG).hexdigest()}
    pip = base64.urlsafe_b64encode(hashlib.sha256(OTHER).digest()).rstrip(b"=")
    return {
        **nodes,
        b"conda-meta/big-1.0-0.json": file(json.dumps({"paths_data": {"paths": [big]}}).encode()),
        SITE + b"wheel-1.0.dist-info/RECORD": file(b"wheel/data,sha256=%s,1\n" % pip),
    }


def test_an_environment_that_was_pushed_under_another_name(server: Server) -> None:
    server.push(WANTED)
    envs = server.prefix / "envs"
    for above in (envs, envs / ".envsync"):
        (above / server.name).rename(above / "older")
    facts, fetches = staged(server, {**WANTED, b"newer": file(b"since then")})
    assert fetches == {b"newer"}
    assert facts.reused_from == ("older",)
    assert facts.reused_bytes == sum(len(node.data) for node in WANTED.values())


def test_environment_whose_state_is_closed_to_this_user_is_reused() -> None:
    with home_of_ordinary_user() as home:
        theirs, mine = Server(home, "theirs"), Server(home, "mine")
        theirs.push(WANTED)
        os.chmod(theirs.state, 0)
        try:
            facts, fetches = staged(mine, {**WANTED, b"newer": file(b"since then")})
        finally:
            os.chmod(theirs.state, 0o700)
    assert fetches == {b"newer"}
    assert facts.reused_from == ("theirs",)


def test_unhashed_environment_is_reused_by_its_installers_notes(server: Server) -> None:
    make(server, "by-hand", noted(WANTED))
    facts, fetches = staged(server, WANTED)
    assert not {b"lib/big.so", SITE + b"wheel/data"} & fetches
    assert facts.reused_from == ("by-hand",)
    assert facts.reused_bytes == len(BIG) + len(OTHER)


def test_the_package_cache(server: Server) -> None:
    package = server.prefix / "pkgs/big-1.0-0"
    (package / "info").mkdir(parents=True)
    (package / "lib").mkdir()
    (package / "lib/big.so").write_bytes(BIG)
    rows = [{"_path": "lib/big.so", "sha256": hashlib.sha256(BIG).hexdigest()}]
    (package / "info/paths.json").write_text(json.dumps({"paths": rows}))
    facts, fetches = staged(server, WANTED)
    assert b"lib/big.so" not in fetches
    assert facts.reused_from == ("the package cache",)
    staging = Path(os.fsdecode(server.earlier()[0]))
    assert (staging / "lib/big.so").stat().st_ino != (package / "lib/big.so").stat().st_ino


def test_a_note_that_lies_costs_nothing_but_the_transfer(server: Server) -> None:
    path = make(server, "by-hand", noted(WANTED))
    changed = bytearray(BIG)
    changed[77] ^= 1
    (path / "lib/big.so").write_bytes(changed)
    facts, fetches = staged(server, WANTED)
    assert b"lib/big.so" in fetches
    assert facts.fetch_bytes >= len(BIG)
    assert facts.reused_bytes == len(OTHER)


def rewrite(path: Path) -> None:
    """Other bytes of the same length, in place and anew."""
    with (path / "lib/big.so").open("r+b") as big:
        big.write(b"another")
    data = path / os.fsdecode(SITE) / "wheel/data"
    data.unlink()
    data.write_bytes(BIG)


@pytest.mark.parametrize("happen", [shutil.rmtree, rewrite], ids=["gone", "another one"])
def test_candidate_that_changes_between_plan_and_copy_is_not_used(
    happen: Callable[[Path], None], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(server, "by-hand", noted(WANTED))
    from envsync.agent.staging.staging import Staging

    plain = Staging.bring_forward

    def without(self: Staging, *arguments: object) -> object:
        happen(path)
        return plain(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Staging, "bring_forward", without)
    facts, fetches = staged(server, WANTED)
    assert {b"lib/big.so", SITE + b"wheel/data"} <= fetches
    assert facts.reused_bytes == 0


def test_nothing_is_sent_ahead_where_most_is_there_already(server: Server) -> None:
    make(server, "by-hand", WANTED)
    target = server.target()
    assert target.elsewhere().has_most_of(metadata_paths(manifest_of(WANTED)))
    stranger = environment({b"conda-meta/stranger-1-0.json": file(b"{}")})
    assert not target.elsewhere().has_most_of(metadata_paths(manifest_of(stranger)))
    assert not target.elsewhere().has_most_of(metadata_paths(manifest_of(environment({}))))


def test_published_tree_with_few_of_the_packages_is_not_chosen(
    server: Server,
) -> None:
    """Because the tree that has most of them has no record."""
    other, big = b"conda-meta/other-%d-0.json", b"conda-meta/big-1.0-0.json"
    wanted = environment({big: file(b"{}"), **{other % n: file(b"{}") for n in range(3)}})
    packages = metadata_paths(manifest_of(wanted))
    server.push(environment({big: file(b"{}")}))
    envs = server.prefix / "envs"
    for above in (envs, envs / ".envsync"):
        (above / server.name).rename(above / "older")
    make(server, "by-hand", wanted)
    elsewhere = server.target().elsewhere()
    assert elsewhere.likeliest(packages) is None
    assert elsewhere.has_most_of(packages)
    assert elsewhere.likeliest(frozenset([big])) is not None


def test_a_manifest_refers_to_what_was_published_under_another_name(server: Server) -> None:
    server.push(WANTED)
    envs = server.prefix / "envs"
    for above in (envs, envs / ".envsync"):
        (above / server.name).rename(above / "older")
    wanted = manifest_of({**WANTED, b"newer": file(b"since then")})
    push = TargetPush(server.target())
    assert push.refer_to(metadata_paths(wanted))
    known = references(push.base_manifest)
    encoded = encode(wanted, known)
    assert decode(encoded, push.base_manifest) == wanted
    # The top directory alone is another one.
    assert len(encoded) < len(encode(Manifest({b"": wanted.directories[b""]}, 0, 0))) + 20 * 40


def test_files_that_look_alike_are_copied_before_the_hashes_are_known(server: Server) -> None:
    server.push(WANTED)
    older = Path(os.fsdecode(server.live)).with_name("older")
    Path(os.fsdecode(server.live)).rename(older)
    server.state.rename(server.state.with_name("older"))
    nodes = {**WANTED, b"newer": file(b"since then"), b"lib/big.so": file(OTHER, 0o700)}
    del nodes[b"new"]
    target = server.target()
    try:
        target.inspect(lock=True)
        push = TargetPush(target)
        assert push.refer_to(metadata_paths(manifest_of(nodes)))
        assert push.begin_alike()
        staged = push.stage(manifest_of(nodes))
    finally:
        target.lock.release()
    assert [*staged.fetches.paths()] == [b"newer"]
    facts = staged.facts
    assert (facts.origin, facts.reused_from) == ("new", ("older",))
    there = sum(node.data != b"since then" and len(node.data) for node in nodes.values())
    assert facts.reused_bytes == there
    server.push(nodes, is_hashed_meanwhile=True)
    assert server.manifest() == manifest_of(nodes)
    assert (older / "lib/big.so").read_bytes() == BIG


def test_nothing_is_referred_to_where_something_else_stands(server: Server) -> None:
    make(server, "stranger", environment({b"conda-meta/other-1-0.json": file(b"{}")}))
    push = TargetPush(server.target())
    assert not push.refer_to(metadata_paths(manifest_of(WANTED)))
    assert push.base_manifest == EMPTY
