"""Which servers a token means, and which of them this machine is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from envsync.agent.server.accounts import user_name
from envsync.cli.commands.bootstrap import base_request
from envsync.cli.invocation.site import Site
from envsync.cli.pushing.request import PushOptions, resolve_pull, resolve_push, resolve_unpack
from envsync.errors import InventoryError, UsageError
from envsync.inventory import Inventory, Server
from tests.support.command_line import Envsync

SERVERS = (Server("server1", "server1"), Server("server2", "server2", groups=("gpu",)))
LISTED = Inventory(Path("inv.yaml"), "/conda", SERVERS)
ZERO = Inventory()

UNLISTED = Site(LISTED, None, "laptop", None)
"""A machine that the inventory does not list."""
SITES = {
    "unlisted": UNLISTED,
    "without a file": Site(ZERO, None, "laptop", "/conda"),
    "listed": Site(replace(LISTED, servers=(*SERVERS, Server("laptop", "l"))), "laptop", "h", None),
    "given a name": Site(ZERO, "laptop", "host", "/conda"),
}

every_site = pytest.mark.parametrize("site", SITES.values(), ids=SITES)


@every_site
def test_this_machine_is_meant_by_its_own_name(site: Site) -> None:
    assert site.here_place() == site.place(site.server("laptop"))
    here, there = site.places(["laptop", "server2", "laptop"])
    assert (here.server, here.prefix, here.open_link) == ("laptop", "/conda", None)
    assert (there.server, there.prefix) == ("server2", "/conda")
    assert there.open_link is not None
    for command in ("verify", "history"):
        [asked] = site.servers_of(command, "myenv", ["laptop"])
        assert site.place(asked).open_link is None


@every_site
def test_target_on_this_machine_has_no_link(site: Site) -> None:
    options = PushOptions("myenv", ("laptop",), from_server="server1")
    requests = {
        "pull": resolve_pull(site, options),
        "push --from": resolve_push(site, options),
        "unpack": resolve_unpack(site, options, Path("myenv.tar")),
        "bootstrap --from": base_request(site, "laptop", "server1", dry_run=False),
    }
    for what, request in requests.items():
        [here] = request.destinations
        assert (here.server, here.prefix, here.open_link) == ("laptop", "/conda", None), what


@every_site
def test_this_machine_can_be_named_as_the_source(site: Site) -> None:
    request = base_request(site, "server2", "laptop", dry_run=False)
    assert request.source == site.here_place()
    with pytest.raises(UsageError, match="laptop is this machine"):
        resolve_pull(site, PushOptions("myenv", from_server="laptop"))
    with pytest.raises(UsageError, match="laptop is where conda comes from") as refused:
        base_request(site, "laptop", None, dry_run=False)
    assert "--from" in refused.value.hint


def test_a_machine_that_has_a_name_of_its_own_is_also_its_hostname() -> None:
    """Only without an inventory: with one, a hostname that is not in there is no server."""
    assert [server.name for server in SITES["given a name"].select(["host", "laptop"])] == [
        "laptop"
    ]
    with pytest.raises(InventoryError, match=r"inv\.yaml has no server 'h'"):
        SITES["listed"].server("h")


def test_other_user_of_this_machine_is_another_server() -> None:
    mine, theirs = SITES["without a file"].places([f"{user_name()}@laptop", "nobody-else@laptop"])
    assert (mine.server, mine.open_link) == ("laptop", None)
    assert theirs.server == "nobody-else@laptop"
    assert theirs.open_link is not None


def _all(inventory: Inventory, own: str | None, active: str | None) -> list[str]:
    return [place.server for place in Site(inventory, own, "laptop", active).places_or_all(())]


def test_all_servers_include_this_machine_where_it_has_conda(tmp_path: Path) -> None:
    conda, nowhere = str(tmp_path), str(tmp_path / "nowhere")
    with_prefixes = tuple(replace(server, prefix="/c") for server in SERVERS)
    each_its_own = replace(LISTED, prefix=None, servers=with_prefixes)
    servers = ["server1", "server2"]
    assert _all(replace(LISTED, prefix=conda), None, None) == [*servers, "laptop"]
    assert _all(each_its_own, None, conda) == [*servers, "laptop"]
    assert _all(replace(LISTED, prefix=conda), "server1", None) == servers
    # It only pushes on behalf of others.
    assert _all(replace(LISTED, prefix=nowhere), None, None) == servers
    assert _all(each_its_own, None, None) == servers


def test_without_an_inventory_this_machine_is_all() -> None:
    assert _all(ZERO, None, "/nowhere/conda") == ["laptop"]
    with pytest.raises(UsageError, match="no conda was found here"):
        _all(ZERO, None, None)


def test_unknown_server_is_reported_on_an_unlisted_machine() -> None:
    with pytest.raises(InventoryError, match=r"inv\.yaml has no server 'lapdog'") as unknown:
        UNLISTED.select(["laptop", "lapdog"])
    assert "servers: server1, server2" in unknown.value.details


@pytest.mark.parametrize("command", ["push", "pull", "verify"])
def test_a_server_that_stands_before_its_environment_is_told_so(command: str) -> None:
    asked: dict[str, Callable[[], object]] = {
        "push": lambda: resolve_push(UNLISTED, PushOptions("server2", ("myenv",))),
        "pull": lambda: resolve_pull(UNLISTED, PushOptions("server2", from_server="myenv")),
        "verify": lambda: UNLISTED.servers_of("verify", "server2", ["myenv"]),
    }
    with pytest.raises(InventoryError, match="no server 'myenv'") as exchanged:
        asked[command]()
    line = f"envsync {command} myenv server2"
    assert exchanged.value.hint == f"the environment comes first: {line}"


def test_an_entry_goes_before_a_hostname_that_every_machine_has() -> None:
    """As of a tunnel: it is not this machine."""
    tunnel = Server("localhost", "localhost", port=2222)
    site = Site(replace(LISTED, servers=(tunnel,)), None, "localhost", None)
    assert site.server("localhost") == tunnel
    assert site.place(site.server("localhost")).open_link is not None


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("list laptop", "no environments on laptop"),
        ("gc laptop", "laptop: nothing to free"),
        ("history myenv laptop", "envsync: laptop: there is no environment 'myenv'"),
        ("verify myenv laptop", "envsync: laptop: there is no environment 'myenv'"),
        ("rollback myenv laptop", "envsync: laptop: there is no environment 'myenv' there"),
        ("remove myenv laptop", "envsync: laptop: there is no environment 'myenv' there"),
        ("diff myenv laptop --published", "envsync: laptop: there is no environment 'myenv'"),
    ],
)
def test_every_command_asks_an_unlisted_machine(
    envsync: Envsync, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str, told: str
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "laptop")
    (tmp_path / "conda" / "envs").mkdir(parents=True)
    inventory = f"prefix: {tmp_path}/conda\nservers: {{server1: {{}}}}\n"
    (tmp_path / "envsync.yaml").write_text(inventory)
    ended = envsync(*line.split())
    assert (ended.out + ended.err).startswith(told), ended


def test_environment_need_not_exist_where_it_is_pushed_to(
    envsync: Envsync, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "laptop")
    (tmp_path / "conda" / "envs").mkdir(parents=True)
    (tmp_path / "envsync.yaml").write_text(
        f"prefix: {tmp_path}/conda\nservers: {{laptop: {{}}}}\n"
        "environments: {myenv: {push_to: [laptop]}}\n"
    )
    ended = envsync("history", "myenv", "laptop")
    assert ended.status == 21
    ended = envsync("history", "myenv")
    assert (ended.status, ended.out) == (0, "myenv on laptop: nothing was published there\n")


@pytest.mark.parametrize(
    "line",
    [
        "push base server1",
        "pull base server1",
        "pack base -o base.tar",
        "unpack base.tar server1 --as base",
        "diff base server1",
        "diff base server1 --published",
        "verify base server1",
        "history base server1",
        "rollback base server1",
        "remove base server1",
    ],
)
def test_base_is_refused_with_its_reason_before_a_server_is_asked(
    envsync: Envsync, tmp_path: Path, line: str
) -> None:
    (tmp_path / "base.tar").touch()
    (tmp_path / "envsync.yaml").write_text("prefix: /nowhere/conda\nservers: {server1: {}}\n")
    ended = envsync(*line.split())
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("envsync: base is conda itself, which differs on every server")
