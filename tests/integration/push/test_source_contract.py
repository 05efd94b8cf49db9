"""Sources, held to the contract: here, over an agent and packed, and each at another path."""

from __future__ import annotations

import io
import os
import tarfile
from functools import partial
from pathlib import Path

import pytest

from envsync.agent.server.helper_processes import NO_HELPERS
from envsync.errors import NotFound
from envsync.push.ends.local_source import LocalSource, open_local
from envsync.push.ends.remote_source import RemoteSource, open_remote
from envsync.push.ends.source import Source
from envsync.push.packing.conda_unpack import UNPACK
from envsync.push.packing.packed_source import packed_source
from envsync.push.request.method import PACK
from envsync.push.request.places import Place
from envsync.push.request.settings import PushSettings
from tests.integration.push.process_link import process_link
from tests.integration.push.source_contract import SHORTER, SourceContract, nodes
from tests.support import disk

NAME = "myenv"
pytestmark = pytest.mark.usefixtures("own_homes")


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    prefix = tmp_path / "conda"
    place = prefix / "envs" / NAME
    place.mkdir(parents=True)
    disk.build(os.fsencode(place), nodes(place))
    return prefix


def opened_here(prefix: Path) -> LocalSource:
    return open_local(Place("server1", str(prefix)), NAME, ())


def opened_over_an_agent(prefix: Path) -> RemoteSource:
    place = Place("server2", str(prefix), partial(process_link, "server2"))
    return open_remote(place, NAME, ())


class TestLocalSource(SourceContract):
    @pytest.fixture
    def opened(self, prefix: Path) -> Source:
        return opened_here(prefix)


class TestLocalSourceElsewhere(SourceContract):
    @pytest.fixture
    def opened(self, prefix: Path) -> Source:
        return opened_here(prefix).at(SHORTER)


class TestRemoteSource(SourceContract):
    @pytest.fixture
    def opened(self, prefix: Path) -> Source:
        return opened_over_an_agent(prefix)


class TestRemoteSourceElsewhere(SourceContract):
    @pytest.fixture
    def opened(self, prefix: Path) -> Source:
        return opened_over_an_agent(prefix).at(SHORTER)


PACKED_AT = Path("/packed", "x" * 200)


def make_archive(archive: Path) -> None:
    """As conda-pack leaves one, of an environment that stood at `PACKED_AT`."""
    place = archive.with_suffix("")
    place.mkdir()
    disk.build(os.fsencode(place), nodes(PACKED_AT))
    records = [("bin/tool", str(PACKED_AT), "text"), ("bin/program", str(PACKED_AT), "binary")]
    lines = ",\n".join(map(repr, records))
    script = f"#!/usr/bin/env python\n_prefix_records = [\n{lines}\n]\n".encode()
    with tarfile.open(archive, "w") as file:
        for path in sorted(place.rglob("*")):
            file.add(path, path.relative_to(place), recursive=False)
        member = tarfile.TarInfo(UNPACK)
        member.size, member.mode = len(script), 0o755
        file.addfile(member, io.BytesIO(script))


class TestPackedSource(SourceContract):
    """Of an archive: conda-pack itself is in `test_pack_archive` and `tests/integration/cli`."""

    @pytest.fixture
    def packed(self, prefix: Path, tmp_path: Path) -> Source:
        archive = tmp_path / "myenv.tar"
        make_archive(archive)
        settings = PushSettings(
            NAME, "server1", "alice@server1", PACK, archive=str(archive), local=()
        )
        return packed_source(settings, Place("server1", str(prefix)), NO_HELPERS)

    @pytest.fixture
    def opened(self, packed: Source) -> Source:
        return packed

    def test_packed_source_has_the_history_of_its_origin(
        self, source: Source, prefix: Path
    ) -> None:
        source.look.remember("1" * 64)
        origin = opened_here(prefix)
        assert "1" * 64 in origin.had()
        origin.look.remember("2" * 64)
        assert "2" * 64 in source.look.state().had


class TestPackedSourceElsewhere(TestPackedSource):
    @pytest.fixture
    def opened(self, packed: Source) -> Source:
        return packed.at(SHORTER)


@pytest.mark.parametrize("opened", [opened_here, opened_over_an_agent])
def test_error_of_a_sources_agent_names_its_server(prefix: Path, opened: object) -> None:
    assert callable(opened)
    source: Source = opened(prefix)
    try:
        for path in sorted((prefix / "envs" / NAME).rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        another = (prefix / "envs" / NAME).rename(prefix / "envs" / "another")
        (another / "conda-meta").mkdir()
        (another / "conda-meta/history").touch()
        (prefix / "envs/notes.txt").touch()
        with pytest.raises(NotFound) as caught:
            source.look.state()
        assert caught.value.server == source.look.server
        assert "there: another" in caught.value.details
    finally:
        source.close()
