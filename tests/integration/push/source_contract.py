"""What every implementation of `envsync.push.ends.source` is held to.

A test module subclasses the suite and gives it an `opened`: the source of an environment with
the files of `NODES`, as it is for the target that the implementation is about.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from envsync.agent.trees.outgoing import HEAD
from envsync.agent.wire import codec
from envsync.agent.wire.source_operations import OutsidePath
from envsync.errors import AgentFailed, PreflightRefused
from envsync.push.ends.source import Source
from envsync.transport.job import Item
from envsync.tree import manifest as manifests
from envsync.tree.entry import FILE
from envsync.tree.manifest import Manifest
from envsync.tree.revision import revision_of
from tests.support.pushes import environment
from tests.support.trees import Tree, file, symlink, walk

SHORTER, LONGER = "/s/envs/myenv", f"/srv/{'x' * 250}/envs/myenv"
ASKED_AT_ONCE = 8


def nodes(stands_at: Path) -> Tree:
    """An environment that names the place where it stands, with a program that has no room."""
    place = os.fsencode(stands_at)
    return environment(
        {
            b"bin/tool": file(b"#!%s/bin/python\nprint(1)\n" % place, 0o755),
            b"bin/program": file(b"\x7fELF\0" + place + b"/lib\0rest", 0o755),
            b"lib/plain.py": file(b"a = 1\n" * 300),
            b"lib/deep/er/empty": file(b""),
            b"data": symlink(b"/srv/nowhere"),
        }
    )


def manifest_of(source: Source) -> Manifest:
    return manifests.decode(source.manifest(b""))


def files_of(manifest: Manifest) -> dict[bytes, bytes]:
    """The digest of each file by its path."""
    return {path: entry.content for path, entry in walk(manifest) if entry.kind == FILE}


def read(source: Source, items: Collection[Item]) -> dict[bytes, bytes]:
    """The contents of these files, by whatever way the source has for them."""
    supply = source.supply
    told: list[int] = []
    if supply.relayed is None:
        stream = b"".join(supply.contents(items, lambda _, size: told.append(size)))
    else:
        stream = b"".join(_decoded(supply.relayed(items, (codec.ZLIB, codec.NONE), told.append)))
    assert sum(told) > 0
    found, at = {}, 0
    for number, (path, size_bytes) in enumerate(items):
        assert HEAD.unpack_from(stream, at) == (number, size_bytes)
        at += HEAD.size
        found[path] = stream[at : at + size_bytes]
        at += size_bytes
    assert at == len(stream)
    return found


def _decoded(blocks: Iterator[bytes]) -> Iterator[bytes]:
    decoder = codec.Decoder()
    for block in blocks:
        yield from decoder.decode(block)
    yield from decoder.finish()


def place_of(source: Source) -> Path:
    """Where it stands, which is on this machine in every test."""
    return Path(source.look.state().path)


class SourceContract:
    @pytest.fixture
    def opened(self) -> Source:
        raise NotImplementedError

    @pytest.fixture
    def source(self, opened: Source) -> Iterator[Source]:
        yield opened
        opened.close()
        opened.close()

    def test_source_is_looked_at_once_for_all_paths(self, source: Source) -> None:
        assert source.look.known_revision == ""
        elsewhere = source.at(SHORTER)
        assert elsewhere.look is source.look
        with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
            looks = [pool.submit(source.look.state) for _ in range(ASKED_AT_ONCE)]
            found = {id(look.result()) for look in looks}
        assert found == {id(elsewhere.look.state())}
        assert source.look.known_revision == source.look.state().revision
        assert not source.look.is_being_hashed()

    def test_source_is_confirmed_at_rest_and_renewed_after_a_change(self, source: Source) -> None:
        before = source.look.state()
        assert source.look.confirmed(before)
        (place_of(source) / "lib/added").write_bytes(b"new\n")
        source.look.look_again(is_changed=True)
        found = source.look.state()
        assert found.revision != before.revision
        assert not source.look.confirmed(before)
        assert source.look.renewed(before) is found
        assert source.look.confirmed(found)
        assert b"lib/added" in files_of(manifest_of(source))

    def test_a_change_that_left_no_trace_is_found_by_reading(self, source: Source) -> None:
        path = place_of(source) / "lib/plain.py"
        assert source.look.confirmed(source.look.state())
        assert not source.look.changed()
        before = path.stat()
        path.write_bytes(b"b = 2\n" * 300)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert source.look.changed()

    def test_the_manifest_is_that_of_the_revision_that_it_has_there(self, source: Source) -> None:
        state = source.look.state()
        manifest = manifest_of(source)
        assert source.mirrored(state).revision_there == revision_of(manifest)
        assert source.revision_there() == revision_of(manifest)
        assert source.mirrored(state).revision == state.revision

    def test_manifest_refers_to_directories_that_the_target_has(self, source: Source) -> None:
        manifest = manifest_of(source)
        known = b"".join(manifests.references(manifest))
        assert len(source.manifest(known)) < len(source.manifest(b""))
        assert revision_of(manifests.decode(source.manifest(known), manifest)) == revision_of(
            manifest
        )

    def test_only_files_of_the_manifest_can_be_asked_for_and_each_once(
        self, source: Source
    ) -> None:
        assert [*source.items([b"lib/plain.py"])] == [(b"lib/plain.py", 1800)]
        assert not source.items([])
        for wrong in ([b"lib/none"], [b"lib"], [b"data"], [b"lib/plain.py"] * 2):
            with pytest.raises(AgentFailed):
                source.items(wrong)

    def test_contents_are_as_they_have_to_be_there(self, source: Source) -> None:
        digests = files_of(manifest_of(source))
        contents = read(source, source.items([*digests]))
        hashed = {path: hashlib.sha256(content).digest() for path, content in contents.items()}
        assert hashed == digests
        named = os.fsencode(source.target_path or source.look.path_known_as)
        assert named in contents[b"bin/tool"]

    def test_files_below_the_supply_path_are_those_that_are_not_rewritten(
        self, source: Source
    ) -> None:
        digests = files_of(manifest_of(source))
        path, rewritten = source.supply.path, source.rewritten()
        assert bool(path) == source.is_here
        assert (source.supply.relayed is None) == source.is_here
        for name, digest in digests.items() if source.is_here else ():
            content = Path(os.fsdecode(path), os.fsdecode(name)).read_bytes()
            assert (hashlib.sha256(content).digest() != digest) == (name in rewritten)

    def test_pushes_ask_and_read_at_once(self, source: Source) -> None:
        def pushed(_: int) -> tuple[bytes, dict[bytes, bytes], tuple[OutsidePath, ...]]:
            manifest = source.manifest(b"")
            items = source.items([*files_of(manifests.decode(manifest))])
            return manifest, read(source, items), source.outside_paths()

        with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
            first, *others = pool.map(pushed, range(ASKED_AT_ONCE))
        assert others == [first] * len(others)

    def test_source_at_its_own_path_is_sent_as_it_is(self, source: Source) -> None:
        stays = source.at(source.look.path_known_as)
        state = stays.look.state()
        assert stays.target_path == ""
        assert stays.mirrored(state) == state
        assert stays.rewritten() == frozenset()
        moved = source.at(SHORTER)
        assert moved.target_path == SHORTER
        assert moved.mirrored(state).revision_there != state.revision_there
        # Only what stands there as it has to be can another server send by itself.
        assert (stays.supply.direct is None) == source.is_here
        assert moved.supply.direct is None

    def test_a_path_that_a_file_has_no_room_for_is_refused(self, source: Source) -> None:
        with pytest.raises(PreflightRefused) as caught:
            source.at(LONGER).mirrored(source.look.state())
        assert caught.value.details
        assert source.at(LONGER).outline() is None

    def test_hashed_source_has_no_outline(self, source: Source) -> None:
        source.look.state()
        assert source.outline() is None

    def test_for_several_pushes_contents_are_read_as_ever(self, source: Source) -> None:
        source.look.serves_several = True
        items = source.at(source.look.path_known_as).items([b"bin/tool"])
        with source.hashing_while_sent() as contents:
            source.look.state()  # which waits for nobody
            if not source.is_here:
                with pytest.raises(AgentFailed):
                    contents(items)
                return
            assert (place_of(source) / "bin/tool").read_bytes() in b"".join(contents(items))

    def test_source_reports_links_that_lead_outside_and_credentials(self, source: Source) -> None:
        known_as = source.look.path_known_as
        source.look.state()
        assert source.outside_paths() == source.at(known_as).outside_paths()
        assert [outside.path for outside in source.outside_paths()] == ["/srv/nowhere"]
        assert source.credentials() == ()
        (place_of(source) / "etc").mkdir()
        (place_of(source) / "etc/pip.conf").write_text("[global]\nindex-url = https://a:b@c/d\n")
        source.look.look_again(is_changed=True)
        source.look.state()
        assert source.credentials() == ("etc/pip.conf",)
        assert source.requirements() == source.at(SHORTER).requirements()
        assert source.newest_glibc() == (b"", ())

    def test_a_sample_has_one_figure_for_each_step(self, source: Source) -> None:
        items = source.items([b"lib/plain.py"])
        sample = source.sample(items, (codec.ZLIB,), ((codec.ZLIB, 1), (codec.ZLIB, 9)))
        assert len(sample.wire_bytes) == len(sample.seconds) == 2
        own = source.sample(items, (codec.ZLIB, codec.NONE), ())
        assert 0 < own.wire_bytes[0] < 1800

    def test_files_of_a_sound_source_are_readable(self, source: Source) -> None:
        source.look.state()
        source.require_readable([])
        source.require_readable([b"lib/plain.py", b"bin/tool"])

    def test_revision_that_a_source_was_told_to_remember_is_known(self, source: Source) -> None:
        before = source.look.state()
        source.look.remember("0" * 64)
        assert "0" * 64 in source.look.renewed(before).had
        assert not source.look.sees("no lock's")

    def test_known_state_is_returned_while_another_call_holds_the_lock(
        self, source: Source
    ) -> None:
        found = source.look.state()
        with source.look._lock, ThreadPoolExecutor(1) as pool:
            began = time.monotonic()
            assert pool.submit(source.look.state).result(30) is found
            assert time.monotonic() - began < 30
