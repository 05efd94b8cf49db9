"""Runs the daemon through a hundred installs in a row, while servers go down and come back.

There are four targets: two are always up, one is off half of the time, one loses its link at
random. A reader samples all of them throughout.

Run by `python -m bench.daemon --long`.
"""

from __future__ import annotations

import contextlib
import random
import re
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bench.memory import resident_mb
from tests.conda import template
from tests.integration.daemon.running import Daemon, published
from tests.integration.push.pip_process import pip_argv
from tests.integration.push.places import environment, site_packages
from tests.integration.push.tree_listing import tree
from tests.lab.lab import Lab, LabHost

TARGETS = ("server2", "server3", "server4", "server5")
PACKAGE, MODULES = "lablong", 40
SETTLE_SECONDS, GAP_SECONDS_MAX = 1.0, 4.0
OFF_SECONDS = 12.0
CUT_SECONDS_MAX, LINK_SECONDS_MAX = 6.0, 15.0
END_SECONDS = 180.0
_WHEELS = "/run/lab/wheels"
_NUMBER = re.compile(rb"number = (\d+)\n")
_INVENTORY = """\
prefix: {prefix}
servers: {{server1: {{}}, server2: {{}}, server3: {{}}, server4: {{}}, server5: {{}}}}
environments:
  myenv: {{source: server1, push_to: [server2, server3, server4, server5], watch: true}}
watch: {{settle: {settle}s, rescan: 1h}}
"""


def run(installs: int) -> bool:
    """Print the results; return whether all was as it has to be."""
    with Lab.start(["server1", *TARGETS]) as lab:
        conda = template()
        lab.controller.install_conda(conda)
        for host in lab.targets:
            host.install_conda(conda, environments=False)
        text = _INVENTORY.format(prefix=lab.controller.prefix, settle=SETTLE_SECONDS)
        _install(lab.controller, 0)
        with Daemon(lab.controller, text) as daemon:
            for host in lab.targets:
                daemon.wait_state(host.name, "in-step")
            return _run(lab, daemon, installs)


def _run(lab: Lab, daemon: Daemon, installs: int) -> bool:
    began, pauses = time.monotonic(), random.Random(installs)
    reader = Reader(lab.targets)
    resident = [resident_mb(daemon.pid)]
    with reader.reading(), _trouble(lab):
        for number in range(1, installs + 1):
            _install(lab.controller, number)
            time.sleep(pauses.uniform(0, GAP_SECONDS_MAX))
            resident.append(resident_mb(daemon.pid))
    seconds = time.monotonic() - began
    _wait_all_in_step(daemon, lab, installs)
    after = time.monotonic() - began - seconds
    source = _contents(lab.controller)
    unequal = [host.name for host in lab.targets if _contents(host) != source]
    print(f"{installs} installs in {seconds:.0f} s; all in step {after:.1f} s after the last")
    print(f"published: {', '.join(f'{h.name} {published(h) - 1}' for h in lab.targets)}")
    print(f"unequal in the end: {', '.join(unequal) or 'none'}")
    print(f"samples: {reader.samples}, of versions that were half there: {len(reader.mixed)}")
    print(*reader.mixed[:5], sep="\n")
    tenth, last = resident[min(10, installs)], resident[-1]
    print(f"resident: {tenth:.1f} MB after ten installs, {last:.1f} MB after all")
    trouble = Counter(re.findall(r"will be retried: (.*)", daemon.log()))
    print(f"told of: {sum(trouble.values())} failures of {len(trouble)} kinds")
    return not unequal and not reader.mixed and "Traceback" not in daemon.log()


@contextlib.contextmanager
def _trouble(lab: Lab) -> Iterator[None]:
    """Until the block ends, one server is off half of the time and one loses its link."""
    over, chance = threading.Event(), random.Random(7)
    off, lossy = lab[TARGETS[2]], lab[TARGETS[3]]

    def come_and_go() -> None:
        while not over.wait(OFF_SECONDS):
            off.stop_sshd()
            over.wait(OFF_SECONDS)
            off.start_sshd()

    def lose_the_link() -> None:
        while not over.wait(chance.uniform(1, LINK_SECONDS_MAX)):
            lossy.cut()
            over.wait(chance.uniform(0.5, CUT_SECONDS_MAX))
            lossy.restore()

    threads = [threading.Thread(target=act) for act in (come_and_go, lose_the_link)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


class Reader:
    """Samples the live environment on each host, as a job that starts there would see it."""

    def __init__(self, hosts: list[LabHost]) -> None:
        self._hosts = hosts
        self._over = threading.Event()
        self.samples = 0
        self.mixed: list[str] = []

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        thread = threading.Thread(target=self._read)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _read(self) -> None:
        while not self._over.wait(0.05):
            for host in self._hosts:
                found = _sample(host)
                self.samples += found is not None
                if found:
                    self.mixed.append(f"{host.name}: {found}")


def _sample(host: LabHost) -> str | None:
    """Return what is not whole in the live environment, or "" if it is one whole version.

    None if another version was published during the reading.
    """
    top = environment(host)
    packages = site_packages(host).relative_to(top)
    try:
        before = top.stat().st_ino
        numbers = Counter(
            _number(path) for path in sorted((top / packages / PACKAGE).glob("module_*.py"))
        )
        infos = sorted(path.name for path in (top / packages).glob(f"{PACKAGE}-*"))
        remains = [path.name for path in (top / packages).glob("~*")]
        after = top.stat().st_ino
    except OSError as error:
        # Another version may have been published meanwhile, but the name itself must exist.
        return None if top.exists() else f"{top} is not there: {error}"
    if before != after:
        return None
    [(number, count)] = numbers.most_common(1) or [("", 0)]
    is_whole = count == MODULES and len(numbers) == 1 and not remains
    is_whole = is_whole and infos == [f"{PACKAGE}-{number}.dist-info"]
    return "" if is_whole else f"{dict(numbers)}, {infos}, {remains}"


def _number(path: Path) -> str:
    found = _NUMBER.search(path.read_bytes())
    return "torn" if found is None else found[1].decode()


def _install(host: LabHost, number: int) -> None:
    """Run a real `pip install` of version `number`."""
    wheel = _write_wheel(host, number)
    argv, environ = pip_argv(host, "install", "--no-index", "--no-deps", wheel)
    process = host.popen(argv, env=environ, cwd="/")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err


def _write_wheel(host: LabHost, number: int) -> str:
    info = f"{PACKAGE}-{number}.dist-info"
    files = {f"{PACKAGE}/module_{n:02d}.py": f"number = {number}\n" for n in range(MODULES)}
    files[f"{PACKAGE}/__init__.py"] = ""
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {number}\n"
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    place = host.path(_WHEELS)
    place.mkdir(exist_ok=True)
    name = f"{PACKAGE}-{number}-py3-none-any.whl"
    with zipfile.ZipFile(place / name, "w") as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)
    return f"{_WHEELS}/{name}"


def _wait_all_in_step(daemon: Daemon, lab: Lab, installs: int) -> None:
    """Wait until all targets have the last version and the source is at rest."""
    deadline = time.monotonic() + END_SECONDS
    while True:
        rows = daemon.source()["servers"]
        is_over = all(row["state"] == "in-step" for row in rows)
        if is_over and all(_sample(host) == "" for host in lab.targets):
            here = next(iter(_versions(lab.controller)))
            if here == str(installs) and all(_versions(h) == {here} for h in lab.targets):
                return
        assert time.monotonic() < deadline, daemon.log()[-3000:]
        time.sleep(0.5)


def _versions(host: LabHost) -> set[str]:
    return {_number(path) for path in (site_packages(host) / PACKAGE).glob("module_*.py")}


def _contents(host: LabHost) -> dict[bytes, tuple[str, bytes]]:
    """Return kind and content of each entry, without bytecode that Python compiles by itself."""
    seen = tree(environment(host))
    return {
        path: (entry.kind, entry.content)
        for path, entry in seen.items()
        if b"__pycache__" not in path and path != b"conda-meta/state"
    }
