"""Which environments a daemon keeps in step, and when it refuses to start."""

from __future__ import annotations

from pathlib import Path

import pytest

from envsync.daemon.assignments import Assignment, find_assignments
from envsync.errors import InventoryError, UsageError
from envsync.inventory.model import Environment, Inventory, Server

SERVERS = (
    Server("server1", "server1", prefix="/p"),
    Server("server2", "server2", prefix="/p"),
    Server("odd", "odd"),
)


def inventory(*environments: Environment) -> Inventory:
    return Inventory(Path("/x.yaml"), None, SERVERS, environments)


def test_only_watched_environments_of_this_machine_are_assigned() -> None:
    to = ("server2", "server1")
    found = find_assignments(
        inventory(
            Environment("mine", source="server1", push_to=to, watch=True),
            Environment("by-hand", source="server1", push_to=to),
            Environment("theirs", source="server2", push_to=to, watch=True),
            Environment("nowhere", source="server1", watch=True),
            Environment("nowhere-there", source="server2", watch=True),
            Environment("from-anywhere", push_to=to, watch=True),
        ),
        "server1",
        "host",
    )
    mine = Assignment("mine", "/p/envs/mine", {"server2": "server2 /p"}, settle_seconds=10.0)
    assert found.by_name == {"mine": mine}
    assert found.elsewhere == {"theirs": "server2"}
    assert found.rescan_seconds == 3600.0


def test_place_of_a_server_depends_on_what_a_push_depends_on() -> None:
    """By what a push to it depends on; a jump host or a key leads to the same place."""
    entry = Environment("mine", source="server1", push_to=("x",), watch=True, local=("logs/**",))

    def place(server: Server) -> str:
        found = find_assignments(
            Inventory(Path("/x"), None, (SERVERS[0], server), (entry,)), "server1", ""
        )
        assert found.by_name["mine"].local == ("logs/**",)
        return found.by_name["mine"].places["x"]

    same = [Server("x", "h", prefix="/p"), Server("x", "h", prefix="/p", jump="j")]
    assert len({place(server) for server in same}) == 1
    others = [
        Server("x", "other", prefix="/p"),
        Server("x", "h", prefix="/p", port=23),
        Server("x", "h", prefix="/p", user="u"),
        Server("x", "h", prefix="/q"),
    ]
    assert len({place(server) for server in (*same, *others)}) == 5


def test_a_machine_without_a_name() -> None:
    with pytest.raises(UsageError, match="not in the inventory: its hostname is 'host'") as raised:
        find_assignments(inventory(), None, "host")
    assert raised.value.hint == "say which server it is: --as NAME"
    assert raised.value.details == ("servers: server1, server2, odd",)


def test_a_machine_whose_conda_is_nowhere() -> None:
    with pytest.raises(InventoryError, match="does not say where conda is on odd"):
        find_assignments(inventory(), "odd", "host")
