"""Choosing servers, and knowing one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from envsync.errors import InventoryError, UsageError
from envsync.inventory import Environment, Inventory, Server
from envsync.inventory.names import nearest, suggestion

INVENTORY = Inventory(
    path=Path("envsync.yaml"),
    servers=(
        Server("server1", "server1"),
        Server("server2", "gpu02.lab.example"),
        *(Server(f"gpu{n:02}", f"gpu{n:02}", groups=("gpu",)) for n in range(3, 9)),
        Server("edge", "192.0.2.7", groups=("gpu", "far")),
    ),
    environments=(
        Environment("myenv", source="gpu04", push_to=("server2", "@gpu")),
        Environment("other"),
    ),
)


@pytest.mark.parametrize(
    ("tokens", "names"),
    [
        ([], []),
        (["server2"], ["server2"]),
        (["server2", "server1"], ["server2", "server1"]),
        (["server2", "server2"], ["server2"]),
        (["gpu[04-06]"], ["gpu04", "gpu05", "gpu06"]),
        (["gpu[03,08]", "gpu[03-04]"], ["gpu03", "gpu08", "gpu04"]),
        (["@far", "@gpu"], ["edge", "gpu03", "gpu04", "gpu05", "gpu06", "gpu07", "gpu08"]),
        (["gpu07", "@far"], ["gpu07", "edge"]),
    ],
)
def test_tokens_name_servers_in_order_and_once(tokens: list[str], names: list[str]) -> None:
    assert [server.name for server in INVENTORY.select(tokens)] == names


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["sever2"], "envsync.yaml has no server 'sever2'; did you mean 'server2'?"),
        (["zzz"], "envsync.yaml has no server 'zzz'"),
        (["@gpus"], "envsync.yaml has no group '@gpus'; did you mean '@gpu'?"),
        (["@"], "envsync.yaml has no group '@'"),
        (["gpu[07-09]"], "envsync.yaml has no server 'gpu09'"),
        (["gpu[4-6]"], "envsync.yaml has no server 'gpu4'; did you mean 'gpu04'?"),
        (
            ["gpu02.lab.example"],
            "envsync.yaml has no server 'gpu02.lab.example'; it is the host of 'server2'",
        ),
        (["gpu[9-1]"], "expected a range such as gpu[03-08]"),
        ([""], "envsync.yaml has no server ''"),
    ],
)
def test_an_unknown_name_is_told_with_the_known_ones(tokens: list[str], message: str) -> None:
    with pytest.raises(InventoryError) as caught:
        INVENTORY.select(tokens)
    assert caught.value.message.startswith(message)
    if "envsync.yaml has" in message:
        assert (
            "servers: server1, server2, gpu03, gpu04, gpu05, gpu06, gpu07, gpu08, edge"
            in caught.value.details
        )
        assert "groups: @far, @gpu" in caught.value.details


def test_a_host_of_several_servers_is_told_with_all_of_them() -> None:
    servers = tuple(Server(f"gpu{number:02}", "127.0.0.1") for number in range(28))
    with pytest.raises(InventoryError) as caught:
        Inventory(path=Path("envsync.yaml"), servers=servers).select(["127.0.0.1"])
    named = ", ".join(f"'gpu{number:02}'" for number in range(8))
    assert caught.value.message.endswith(f"; it is the host of {named} and 20 more")


@pytest.mark.parametrize(
    ("token", "hint"),
    [
        ("gpu03,gpu04", "separate servers by spaces: gpu03 gpu04"),
        ("gpu03,gpu99", "use a name from the inventory"),
        ("alice@gpu03", "`user:` and `port:` belong in the inventory; here, say gpu03"),
        ("gpu03:22", "`user:` and `port:` belong in the inventory; here, say gpu03"),
        ("@gpu03", "use a name from the inventory"),
    ],
)
def test_a_token_of_another_form_is_answered_with_ours(token: str, hint: str) -> None:
    with pytest.raises(InventoryError) as caught:
        INVENTORY.select([token])
    assert caught.value.hint == hint


@pytest.mark.parametrize("inventory", [INVENTORY, Inventory()])
@pytest.mark.parametrize(("token", "kind"), [("@gpu", "group"), ("gpu[03-04]", "range")])
def test_group_or_range_is_refused_where_one_server_is_meant(
    token: str, kind: str, inventory: Inventory
) -> None:
    with pytest.raises(InventoryError) as caught:
        inventory.server(token)
    assert caught.value.message == f"expected one server, got the {kind} {token!r}"


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("gpu1", ["gpu01"]),
        ("gpu2", ["gpu02"]),
        ("GPU01", ["gpu01"]),
        ("gpu024", ["gpu24"]),
        ("gpo11", ["gpu11"]),
        ("gpu0", []),
        ("gpu25", []),
        ("gpu124", ["gpu12", "gpu14", "gpu24"]),
        ("node4", ["node004", "node04"]),
    ],
)
def test_the_nearest_names_are_no_random_ones(word: str, near: list[str]) -> None:
    """A server that is suggested at random is a server that is pushed to by mistake."""
    known = [f"gpu{number:02}" for number in range(1, 25)] + ["node04", "node004", "node40"]
    assert nearest(word, known) == near


def test_names_that_are_equally_near_are_all_suggested() -> None:
    assert suggestion("cpu3", ["cpu1", "cpu2"]) == "; did you mean 'cpu1' or 'cpu2'?"
    assert suggestion("cpu4", ["cpu1", "cpu2", "cpu3"]) == (
        "; did you mean 'cpu1', 'cpu2' or 'cpu3'?"
    )


def test_all_unknown_names_are_told() -> None:
    with pytest.raises(InventoryError) as caught:
        INVENTORY.select(["a", "server1", "b", "a"])
    assert caught.value.details[0] == "not in the inventory: a, b"


def test_error_names_a_few_of_many_servers() -> None:
    servers = tuple(Server(f"gpu{number}", f"gpu{number}") for number in range(200))
    many = Inventory(path=Path("envsync.yaml"), servers=servers)
    with pytest.raises(InventoryError) as caught:
        many.select(["node[1-99]"])
    unknown, known = caught.value.details
    assert unknown.endswith("node11, node12 and 87 more")
    assert known.endswith("gpu10, gpu11 and 188 more")


def test_targets_leave_the_source_out() -> None:
    names = [server.name for server in INVENTORY.targets("myenv")]
    assert names == ["server2", "gpu03", "gpu05", "gpu06", "gpu07", "gpu08", "edge"]


@pytest.mark.parametrize("name", ["other", "myenw"])
def test_targets_that_nobody_named(name: str) -> None:
    with pytest.raises(InventoryError, match=f"does not say where '{name}' is pushed") as caught:
        INVENTORY.targets(name)
    assert "name servers" in caught.value.hint
    assert ("did you mean 'myenv'?" in caught.value.message) == (name == "myenw")


def test_an_environment_that_is_not_listed_has_the_defaults() -> None:
    assert INVENTORY.environment("third") == Environment("third")


@pytest.mark.parametrize("name", ["base", "../x", "-x", "a/b", "", "a\nb"])
def test_an_environment_that_cannot_be(name: str) -> None:
    for inventory in (INVENTORY, Inventory()):
        with pytest.raises(UsageError, match=r"expected an environment|base is conda itself") as no:
            inventory.environment(name)
        assert no.value.code == "usage", "as for --as"


# --- without a file -----------------------------------------------------------------------


def test_without_a_file_any_host_is_a_server() -> None:
    inventory = Inventory(prefix="/opt/conda")
    assert inventory.select(["gpu[1-2]", "2001:db8::1", "gpu1"]) == (
        Server("gpu1", "gpu1", prefix="/opt/conda"),
        Server("gpu2", "gpu2", prefix="/opt/conda"),
        Server("2001:db8::1", "2001:db8::1", prefix="/opt/conda"),
    )
    assert Inventory().select(["a"])[0].prefix is None


def test_without_a_file_a_server_is_called_as_it_was_written() -> None:
    """Two users of one host are two: each has environments of its own there."""
    inventory = Inventory()
    named = ["alice@x.example", "bob@x.example", "x.example", "alice@x.example", "c[1-2]@x"]
    assert inventory.select(named) == (
        Server("alice@x.example", "x.example", user="alice"),
        Server("bob@x.example", "x.example", user="bob"),
        Server("x.example", "x.example"),
        Server("c1@x", "x", user="c1"),
        Server("c2@x", "x", user="c2"),
    )


@pytest.mark.parametrize("token", ["", "-oProxyCommand=id", "a b", "a/b", "x;id", "-l@host", "a@"])
def test_without_a_file_a_host_must_still_be_one(token: str) -> None:
    with pytest.raises(InventoryError, match="expected a "):
        Inventory().select([token])


def test_without_a_file_there_are_no_groups() -> None:
    with pytest.raises(InventoryError, match="no group '@gpu': no inventory was found"):
        Inventory().select(["@gpu"])


# --- its own entry ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("as_name", "environ", "hostname", "own"),
    [
        ("server1", {}, "elsewhere", "server1"),
        ("server1", {"ENVSYNC_SELF": "edge"}, "gpu03", "server1"),
        (None, {"ENVSYNC_SELF": "edge"}, "gpu03", "edge"),
        (None, {"ENVSYNC_SELF": ""}, "gpu03", "gpu03"),
        (None, {}, "server1", "server1"),
        (None, {}, "SERVER1", "server1"),
        (None, {}, "server1.lab.example", "server1"),
        (None, {}, "gpu02.lab.example", "server2"),
        (None, {}, "gpu02.lab.example.", "server2"),
        (None, {}, "gpu02", "server2"),
        (None, {}, "gpu02.other.example", None),
        (None, {}, "192.0.2.7", "edge"),
        (None, {}, "192", None),
        (None, {}, "laptop", None),
        (None, {}, "", None),
    ],
)
def test_own_name_is_found(
    as_name: str | None, environ: dict[str, str], hostname: str, own: str | None
) -> None:
    assert INVENTORY.own_name(as_name, environ, hostname) == own


def test_a_name_counts_more_than_a_host() -> None:
    inventory = Inventory(servers=(Server("a", "b"), Server("b", "c")), path=Path("x"))
    assert inventory.own_name(None, {}, "b") == "b"


def test_localhost_is_every_machine_and_so_none() -> None:
    inventory = Inventory(servers=(Server("a", "localhost"),), path=Path("x"))
    assert inventory.own_name(None, {}, "localhost") is None
    assert inventory.own_name(None, {}, "localhost.localdomain") is None


def test_a_hostname_that_fits_two_entries_is_not_guessed() -> None:
    inventory = Inventory(servers=(Server("a", "gpu"), Server("b", "gpu")), path=Path("x"))
    with pytest.raises(InventoryError, match="matches several servers: a, b") as caught:
        inventory.own_name(None, {}, "gpu")
    assert "ENVSYNC_SELF" in caught.value.hint
    assert inventory.own_name("b", {}, "gpu") == "b"


@pytest.mark.parametrize(("as_name", "environ"), [("x", {}), (None, {"ENVSYNC_SELF": "x"})])
def test_an_own_name_must_be_in_the_inventory(as_name: str | None, environ: dict[str, str]) -> None:
    with pytest.raises(InventoryError, match="no server 'x'") as caught:
        INVENTORY.own_name(as_name, environ, "gpu03")
    assert "--as" in caught.value.hint


def test_an_empty_own_name_is_refused_if_it_is_given_as_an_option() -> None:
    assert INVENTORY.own_name(None, {"ENVSYNC_SELF": ""}, "server1") == "server1"
    with pytest.raises(InventoryError):
        INVENTORY.own_name("", {}, "server1")


def test_without_a_file_the_own_name_is_what_is_given() -> None:
    inventory = Inventory()
    assert inventory.own_name("laptop", {}, "x") == "laptop"
    assert inventory.own_name(None, {}, "x") is None
    with pytest.raises(InventoryError, match="expected a server name") as caught:
        inventory.own_name("alice@laptop", {}, "x")
    assert "--as" in caught.value.hint
