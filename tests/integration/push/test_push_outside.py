"""What leads out of the environment: told, or refused where the inventory says so."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.conda.interpreter import patchelf
from tests.integration.push.command import Envsync
from tests.integration.push.places import environment
from tests.integration.push.stamped import Stamped
from tests.lab.lab import Lab

TARGET = "server2"
PREFLIGHT = 8


@pytest.fixture
def envsync(fresh_lab: Lab) -> Envsync:
    """An environment with one link that leads out of it."""
    for host in fresh_lab.hosts.values():
        host.path(f"{host.prefix}/envs").mkdir()
        host.path(f"{host.prefix}/conda-meta").mkdir()
    controller = fresh_lab.controller
    Stamped(controller)
    (environment(controller) / "data").symlink_to("/srv/shared/data")
    return Envsync(controller)


def test_path_that_leads_outside_is_reported(envsync: Envsync, fresh_lab: Lab) -> None:
    """And the kernelspec that leads in from outside, which a notebook there will not find."""
    controller = fresh_lab.controller
    top = f"{controller.prefix}/share/jupyter/kernels"
    for name, python in (("lab", "envs/myenv/bin/python"), ("other", "envs/other/bin/python")):
        controller.path(f"{top}/{name}").mkdir(parents=True)
        argv = [f"{controller.prefix}/{python}", "-m", "ipykernel_launcher"]
        kernel = controller.path(f"{top}/{name}/kernel.json")
        kernel.write_text(json.dumps({"argv": argv, "display_name": name}))
    assert envsync.push(TARGET).server["warnings"] == [
        "data (symlink) leads to /srv/shared/data, which is not there",
        f"kernelspec lab (not sent) is outside, at {top}/lab/kernel.json, which is not there",
    ]


def test_where_binaries_look_for_libraries_is_told(envsync: Envsync, fresh_lab: Lab) -> None:
    """Also at another path: there it is the neighbour there that counts."""
    controller, target = fresh_lab.controller, fresh_lab[TARGET]
    library = environment(controller) / "lib/liblab.so"
    library.parent.mkdir()
    shutil.copy2("/bin/ls", library)
    patchelf("--set-rpath", "$ORIGIN:$ORIGIN/../../other/lib", library)
    target.path("/srv/conda/envs").mkdir(parents=True)
    target.path("/srv/conda/conda-meta").mkdir()
    target.path(f"{target.prefix}/envs/other/lib").mkdir(parents=True)
    told = "lib/liblab.so (RPATH) leads to {}/envs/other/lib, which is {}"
    assert envsync.push(TARGET).server["warnings"][1:] == [told.format(target.prefix, "there")]
    envsync.configure(
        f"prefix: {controller.prefix}\n"
        "servers: {server1: {}, server2: {prefix: /srv/conda}}\nenvironments: {myenv: {}}\n"
    )
    warnings = envsync.push(TARGET).server["warnings"]
    assert told.format("/srv/conda", "not there") in warnings


def test_outside_fail_refuses(envsync: Envsync, fresh_lab: Lab) -> None:
    envsync.configure(
        f"prefix: {fresh_lab.controller.prefix}\nservers: {{server1: {{}}, server2: {{}}}}\n"
        "environments: {myenv: {outside: fail}}\n"
    )
    planned = envsync.push(TARGET, "--dry-run", expect=PREFLIGHT)
    assert planned.server["outcome"] == "planned"
    refused = envsync.push(TARGET, expect=PREFLIGHT)
    assert refused.said == planned.said
    assert "1 path leads out" in refused.said
    assert "/srv/shared/data" in refused.said
    assert not environment(fresh_lab[TARGET]).exists()


def test_outside_path_that_the_target_lacks_is_reported_first(
    envsync: Envsync, fresh_lab: Lab
) -> None:
    """By a dry run as by a push, and before all that leads outside, which may be much."""
    controller, target = fresh_lab.controller, fresh_lab[TARGET]
    (environment(controller) / "conda-meta/cuda-version-12.4-h0_0.json").write_text("{}")
    (environment(controller) / "lib/python3.11/site-packages").mkdir(parents=True)
    site = f"{target.home()}/.local/lib/python3.11/site-packages"
    target.path(f"{site}/numpy").mkdir(parents=True)
    planned = envsync.push(TARGET, "--dry-run").server["warnings"]
    assert planned == envsync.push(TARGET).server["warnings"]
    assert [line.partition(" ")[0] for line in planned] == [site, "it", "data"]
