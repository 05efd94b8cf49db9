"""What a push command line means, and what it refuses before any server is touched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envsync.cli.commands.pull import pull
from envsync.cli.invocation.site import Site
from envsync.cli.pushing.request import (
    PushOptions,
    PushRequest,
    require_archive,
    require_environment,
    resolve_pull,
    resolve_push,
)
from envsync.cli.run.program import program
from envsync.errors import EnvsyncError, NotFound, UsageError
from envsync.inventory import Environment, Inventory, Server
from envsync.tree.local import DEFAULT_LOCAL
from envsync.tree.sharing import Share


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    (tmp_path / "envs" / "myenv").mkdir(parents=True)
    (tmp_path / "conda-meta").mkdir()
    return str(tmp_path)


@pytest.fixture
def site(prefix: str) -> Site:
    servers = (
        Server("server1", "server1", prefix=prefix),
        Server("server2", "server2", prefix=prefix, groups=("gpu",)),
        Server("server3", "s3", prefix=prefix, groups=("gpu",), limit_bits_per_second=10**6),
        Server("elsewhere", "elsewhere", prefix="/data/miniconda3"),
    )
    environment = Environment(
        "myenv",
        source="server1",
        push_to=("server1", "@gpu"),
        keep=3,
        check="true",
        check_timeout_seconds=5.0,
        in_use="wait",
        local=("mine/**",),
    )
    inventory = Inventory(Path("x.yaml"), prefix, servers, (environment,))
    return Site(inventory, "server1", "server1", None)


def _request(site: Site, *servers: str, **options: Any) -> PushRequest:
    return resolve_push(site, PushOptions("myenv", servers, **options))


def _servers(request: PushRequest) -> list[str]:
    return [destination.server for destination in request.destinations]


def test_the_inventory_says_where_to_and_how(site: Site, prefix: str) -> None:
    request = _request(site)
    assert _servers(request) == ["server2", "server3"]
    assert request.left_out == ()
    settings = request.settings
    assert settings.source == f"server1:{prefix}"
    assert settings.who.endswith("@server1")
    assert settings.local == (*DEFAULT_LOCAL, "mine/**")
    assert (settings.keep, settings.check, settings.check_timeout_seconds) == (3, "true", 5.0)
    assert (settings.in_use, settings.method, settings.transport) == ("wait", "auto", "auto")


def test_options_reach_the_settings(site: Site) -> None:
    request = _request(
        site,
        "server2",
        dry_run=True,
        overwrite=True,
        allow_shrink=True,
        retry_held=True,
        limit="200Mbit",
        transport="stream",
        method="mirror",
    )
    settings = request.settings
    assert settings.dry_run
    assert settings.overwrite
    assert settings.allow_shrink
    assert settings.retry_held
    assert settings.limit_bits_per_second == 200_000_000
    assert (settings.transport, settings.method) == ("stream", "mirror")


def test_a_server_has_its_own_limit_unless_one_is_given(site: Site) -> None:
    limits = [each.limit_bits_per_second for each in _request(site, "@gpu").destinations]
    assert limits == [None, 10**6]
    request = _request(site, "server3", limit="1Gbit")
    assert request.destinations[0].limit_bits_per_second is None
    assert request.settings.limit_bits_per_second == 10**9


def test_this_machine_is_left_out_and_reported_where_it_was_named(site: Site) -> None:
    request = _request(site, "server2", "server1")
    assert _servers(request) == ["server2"]
    assert request.left_out == ("server1",)


def test_a_server_may_have_a_prefix_of_its_own(site: Site) -> None:
    request = _request(site, "elsewhere", "server2")
    assert [d.prefix for d in request.destinations] == ["/data/miniconda3", site.own_prefix]


def test_environment_may_have_another_name_on_the_target(site: Site) -> None:
    settings = _request(site, "server2", name_there="other").settings
    assert (settings.environment, settings.name_there) == ("myenv", "other")
    with pytest.raises(UsageError, match="--as: expected an environment"):
        _request(site, "server2", name_there="../x")


def test_server_named_by_from_is_the_source(site: Site, prefix: str) -> None:
    request = _request(site, "server1", "server2", "server3", from_server="server2")
    assert _servers(request) == ["server1", "server3"]
    assert [d.open_link is None for d in request.destinations] == [True, False]
    assert (request.source.server, request.settings.source) == ("server2", f"server2:{prefix}")
    assert request.left_out == ("server2",)


def test_a_pull_has_this_machine_for_its_target(site: Site) -> None:
    request = resolve_pull(site, PushOptions("myenv", from_server="server3"))
    assert request.source.open_link is not None
    [destination] = request.destinations
    assert (destination.server, destination.open_link) == ("server1", None)
    with pytest.raises(UsageError, match="server1 is this machine"):
        resolve_pull(site, PushOptions("myenv", from_server="server1"))


@pytest.mark.parametrize("insisted", [True, False])
def test_a_pull_can_insist_on_another_platform(site: Site, insisted: bool) -> None:
    arguments = ["myenv", "server3", *["--force-platform"][: int(insisted)]]
    # Below the program, as ever: click keeps what a command's first context says of `--help`.
    with program.make_context("envsync", ["pull"], resilient_parsing=True) as above:
        written = pull.make_context("pull", arguments, above, resilient_parsing=True).params
    request = resolve_pull(site, PushOptions(**written))
    assert request.settings.force_platform is insisted


def test_push_without_an_inventory_uses_the_active_prefix(prefix: str) -> None:
    site = Site(Inventory(), None, "here", prefix)
    request = _request(site, "alice@gpu7", "bob@gpu7")
    there = [("alice@gpu7", prefix), ("bob@gpu7", prefix)]
    assert [(d.server, d.prefix) for d in request.destinations] == there
    assert request.settings.source == f"here:{prefix}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"servers": ("server1",)}, "server1 is the source: there is nowhere to push to"),
        ({"servers": ("server9",)}, "has no server 'server9'; did you mean 'server"),
        ({"servers": ("@cpu",)}, "has no group '@cpu'"),
        ({"method": "rebuilt"}, "there is no method 'rebuilt'; did you mean 'rebuild'?"),
        ({"method": "mirror", "from_history": True}, "--from-history rebuilds the environment"),
        ({"method": "rebuild", "force_platform": True}, "but --method rebuild sends none"),
        ({"from_history": True, "force_platform": True}, "but --from-history sends none"),
        ({"transport": "pigeon"}, "there is no transport 'pigeon'"),
        ({"transport": "rsnc"}, "there is no transport 'rsnc'; did you mean 'rsync'?"),
        ({"limit": "3"}, "--limit: expected a rate"),
        ({"transport": "scp", "limit": "1Mbit", "servers": ("server2",)}, "cannot limit its rate"),
        ({"transport": "scp", "servers": ("server3",)}, "cannot limit its rate"),
        (
            {"transport": "rsync", "from_server": "server2", "servers": ("server3",)},
            "--transport rsync cannot be used: the source is another server",
        ),
        ({"from_server": "server9", "servers": ("server2",)}, "has no server 'server9'"),
    ],
)
def test_push_options_that_contradict_are_refused(
    site: Site, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_push(site, PushOptions("myenv", **options))
    assert message in caught.value.message


def test_only_names_that_can_be_pushed_are_offered(site: Site, prefix: str) -> None:
    Path(prefix, "envs", "odd\x1b[31m").mkdir()
    with pytest.raises(NotFound) as caught:
        resolve_push(site, PushOptions("nope", ("server2",)))
    assert "there: myenv" in caught.value.details


def test_a_near_name_is_offered(site: Site) -> None:
    with pytest.raises(NotFound, match="there is no environment 'mynev' here; did you mean 'my"):
        resolve_push(site, PushOptions("mynev", ("server2",)))


def test_a_link_that_leads_to_nothing(site: Site, prefix: str) -> None:
    Path(prefix, "envs", "gone").symlink_to("/nonexistent/env")
    with pytest.raises(NotFound, match="'gone' here is a link to /nonexistent/env") as caught:
        resolve_push(site, PushOptions("gone", ("server2",)))
    assert caught.value.hint.endswith(f"rm {prefix}/envs/gone")
    with pytest.raises(NotFound) as missed:
        resolve_push(site, PushOptions("gune", ("server2",)))
    assert "did you mean" not in missed.value.message


def test_without_an_inventory_this_machine_is_known_by_its_hostname(prefix: str) -> None:
    site = Site(Inventory(), None, "here", prefix)
    here, there = site.places(["here", "server2"])
    assert here.open_link is None
    assert there.open_link is not None


def test_no_server_and_no_inventory(prefix: str) -> None:
    site = Site(Inventory(), None, "here", prefix)
    with pytest.raises(UsageError, match="no server was named") as caught:
        _request(site)
    assert caught.value.hint == "envsync push myenv SERVER"


def test_base_is_refused_with_its_reason(site: Site) -> None:
    with pytest.raises(UsageError, match="base is conda itself") as caught:
        resolve_push(site, PushOptions("base", ("server2",)))
    assert "`envsync bootstrap SERVER`" in caught.value.hint


@pytest.mark.parametrize("name", ["../x", "a b", "-x"])
def test_name_that_no_environment_can_have_is_refused(site: Site, name: str) -> None:
    with pytest.raises(EnvsyncError, match="expected an environment"):
        resolve_push(site, PushOptions(name, ("server2",)))


def test_the_inventory_names_another_source(site: Site) -> None:
    other = Site(site.inventory, "server2", "server2", None)
    with pytest.raises(UsageError, match="server1 pushes myenv, and this is server2"):
        _request(other, "server3")
    assert _servers(_request(other, "server3", from_server="server2")) == ["server3"]


def test_a_prefix_that_may_not_be_looked_at_has_nothing() -> None:
    """Here one of a name that no file can have: the superuser may look everywhere."""
    with pytest.raises(NotFound, match="there is no environment 'myenv' here"):
        require_environment(f"/{'x' * 300}", "myenv")
    with pytest.raises(NotFound, match="there is no file"):
        require_archive(Path("x" * 300))


def test_a_pull_heeds_what_the_inventory_says_of_this_server(site: Site, prefix: str) -> None:
    own = Server(
        "server1", "s1", prefix="/elsewhere", limit_bits_per_second=9000, share=Share("lab", "read")
    )
    others = site.inventory.servers[1:]
    site = replace(site, inventory=replace(site.inventory, servers=(own, *others)))
    [here] = resolve_pull(site, PushOptions("myenv", from_server="server2")).destinations
    assert (here.server, here.prefix, here.open_link) == ("server1", "/elsewhere", None)
    assert here.limit_bits_per_second == 9000
    assert str(here.share) == "lab may read"
