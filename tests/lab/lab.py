"""Several hosts on one machine, with their own network.

    server1 ─┐
    server2 ─┼─ bridge, in its own namespace, in which the relays run too
    server3 ─┘

Nothing of it is visible from outside: addresses, mounts and processes exist only inside the
hosts' namespaces, and end with the test process.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.host import CHECKOUT, INTERFACE, MEMBER, USER, Host
from tests.lab.namespaces import Authority, Namespaces

if TYPE_CHECKING:
    from typing_extensions import Self

HOSTS = ("server1", "server2", "server3")
_BRIDGE = "br0"
_SUBNET = "10.91.0"
_PREFIX = "alice/miniconda3"
_UID = os.geteuid() or 4242
_GID = os.getegid() or 4242
_MEMBER_ID = 4243
# Where a classic BPF program finds a random number: SKF_AD_OFF + SKF_AD_RANDOM.
_BPF_RANDOM = 2**32 - 0x1000 + 56
GROUP, GROUP_NUMBER = "labusers", 4344
"""A group of which the ordinary accounts are members; they are not in the group `strangers`."""
FAR = "-far"
"""`ssh server2-far` leads to server2 through a relay, as long as `Lab.relay` runs one."""


class LabHost(Host):
    """A host whose link to the others can be slowed down or cut."""

    def __init__(
        self,
        name: str,
        address: str,
        prefix: str,
        top: str,
        namespaces: Namespaces,
        switch: Namespaces,
    ) -> None:
        super().__init__(name, address, prefix, top, namespaces)
        self._switch = switch

    def limit(self, rate: str) -> None:
        """Limit the link to `rate` (in the notation of tc: "200mbit") in both directions."""
        shape = ["root", "tbf", "rate", rate, "burst", "256k", "latency", "50ms"]
        for side, device in self._ends():
            side.set_up("tc", "qdisc", "replace", "dev", device, *shape)

    def lose(self, share: float, rate: str = "1gbit") -> None:
        """Drop a random share of the packets in both directions, and limit the link to `rate`.

        It does without netem, which not every kernel has: a program of four instructions sends a
        share of the packets to a class whose queue has no room.
        """
        self.unlimit()
        below = round(share * 2**32)
        program = f"4,32 0 0 {_BPF_RANDOM},53 1 0 {below},6 0 0 {0x10002},6 0 0 {0x10001}"
        lines = [
            "qdisc replace dev {0} root handle 1: htb default 1",
            f"class add dev {{0}} parent 1: classid 1:1 htb rate {rate} quantum 60000",
            f"class add dev {{0}} parent 1: classid 1:2 htb rate {rate} quantum 60000",
            "qdisc add dev {0} parent 1:2 handle 2: bfifo limit 1",
            f"filter add dev {{0}} parent 1: protocol ip bpf bytecode '{program}'",
        ]
        for side, device in self._ends():
            text = "\n".join(lines).format(device)
            side.set_up("tc", "-batch", "-", input_text=text)

    def lost_packets(self) -> int:
        """Return how many packets `lose` has dropped so far."""
        told = [side.set_up("tc", "-s", "qdisc", "show", "dev", dev) for side, dev in self._ends()]
        dropped = [re.search(r"bfifo 2:.*?dropped (\d+)", text, re.DOTALL) for text in told]
        return sum(int(match.group(1)) for match in dropped if match)

    def unlimit(self) -> None:
        """Undo `limit` and `lose`."""
        for side, device in self._ends():
            if re.search(r"tbf|htb", side.set_up("tc", "qdisc", "show", "dev", device)):
                side.set_up("tc", "qdisc", "del", "dev", device, "root")

    def _ends(self) -> tuple[tuple[Namespaces, str], ...]:
        return (self.namespaces, INTERFACE), (self._switch, self.name)

    def cut(self) -> None:
        """Silently drop every packet to and from this host.

        The link is removed from the bridge and not set down, so that the host's interface keeps
        its carrier, as when a link breaks far away.
        """
        self._switch.set_up("ip", "link", "set", self.name, "nomaster")

    def restore(self) -> None:
        self._switch.set_up("ip", "link", "set", self.name, "master", _BRIDGE)


class Lab:
    """Hosts and their network. Make one with `Lab.start`; close it, or use it in a `with`."""

    def __init__(
        self,
        authority: Authority,
        switch: Namespaces,
        hosts: Mapping[str, LabHost],
    ) -> None:
        self.hosts = hosts
        self._authority = authority
        self._switch = switch
        self._keys = _generate_keys(["client", *hosts])

    @classmethod
    def start(cls, names: Sequence[str] = HOSTS) -> Lab:
        top = storage_top()
        addresses = {name: f"{_SUBNET}.{11 + number}" for number, name in enumerate(names)}
        etc = _etc(addresses)
        authority = Authority()
        switch = Namespaces(authority, "switch", {})
        spaces = {name: Namespaces(authority, name, etc) for name in names}
        hosts = {
            name: LabHost(name, addresses[name], f"{top}/{_PREFIX}", top, spaces[name], switch)
            for name in names
        }
        lab = cls(authority, switch, hosts)
        try:
            for space in (switch, *spaces.values()):
                space.wait_ready()
            lab._connect()
            lab.reset()
        except BaseException:
            lab.close()
            raise
        return lab

    @property
    def controller(self) -> LabHost:
        """The first host, where the tests run envsync."""
        return next(iter(self.hosts.values()))

    @property
    def targets(self) -> list[LabHost]:
        return list(self.hosts.values())[1:]

    @property
    def namespaces(self) -> list[Namespaces]:
        return [self._switch, *(host.namespaces for host in self.hosts.values())]

    def __getitem__(self, name: str) -> LabHost:
        return self.hosts[name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def reset(self) -> None:
        """Restore the state after `start`: empty storage and homes, plain links, the same keys."""

        def reset(host: LabHost) -> None:
            host.wipe()
            host.unlimit()
            host.restore()
            self._write_identity(host)
            host.start_sshd()

        self.on_all(reset)

    def on_all(self, act: Callable[[LabHost], object]) -> None:
        """Call `act` with every host in parallel; raise the first exception."""
        with ThreadPoolExecutor(len(self.hosts)) as pool:
            list(pool.map(act, self.hosts.values()))

    @contextlib.contextmanager
    def relay(self, name: str, *, delay_seconds: float) -> Iterator[str]:
        """Yield a name by which `ssh` reaches the host with a delay on every byte, each way."""
        host = self.hosts[name]
        address = _far_address(host.address)
        argv = [sys.executable, str(CHECKOUT / "tests" / "lab" / "relay.py")]
        argv += [address, "22", host.address, "22", str(delay_seconds)]
        process = self._switch.popen(argv, env={"PATH": os.environ["PATH"]}, stdout=subprocess.PIPE)
        assert process.stdout is not None
        try:
            if process.stdout.readline() != b"listening\n":
                raise RuntimeError("the relay could not listen, see stderr")
            yield host.name + FAR
        finally:
            process.kill()
            process.wait(timeout=10)
            process.stdout.close()

    def close(self) -> None:
        """End all hosts. Can be called more than once."""
        for space in reversed(self.namespaces):
            space.close()
        self._authority.close()
        for host in self.hosts.values():
            host.reap()

    def _connect(self) -> None:
        lines = ["link set lo up", f"link add {_BRIDGE} type bridge forward_delay 0"]
        lines.append(f"link set {_BRIDGE} up")
        for host in self.hosts.values():
            lines += [
                f"link add {host.name} type veth peer name {INTERFACE} netns {host.namespaces.pid}",
                f"link set {host.name} master {_BRIDGE} up",
                f"addr add {_far_address(host.address)}/24 dev {_BRIDGE}",
            ]
        # Not in the switch's PID namespace, because the pids in these lines are as seen here.
        self._switch.set_up("ip", "-batch", "-", input_text="\n".join(lines), only=["-n"])
        for host in self.hosts.values():
            mine = [
                "link set lo up",
                f"addr add {host.address}/24 dev {INTERFACE}",
                f"link set {INTERFACE} up",
            ]
            host.namespaces.set_up("ip", "-batch", "-", input_text="\n".join(mine))
        for space in self.namespaces:
            # Allow port 22 without privileges, for labs of ordinary users.
            setting = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
            space.set_up("sh", "-c", f"echo 0 > {setting}")

    def _write_identity(self, host: LabHost) -> None:
        """Write the host key, and homes with a key that all hosts accept and all known hosts."""
        host.write_file("/run/lab/host_key", self._keys[host.name].private)
        public = self._keys["client"].public
        for user, uid, gid in _accounts():
            ssh = f"{host.home(user)}/.ssh"
            host.write_file(f"{ssh}/id_ed25519", self._keys["client"].private)
            host.write_file(f"{ssh}/authorized_keys", public)
            host.write_file(f"{ssh}/known_hosts", self.known_hosts())
            host.write_file(f"{ssh}/config", "Host *\n    BatchMode yes\n    ConnectTimeout 10\n")
            for path in (host.path(host.home(user)), *host.path(host.home(user)).rglob("*")):
                os.chown(path, uid, gid)

    def known_hosts(self) -> str:
        """Return one line for each host, with its name and address and those of its relay."""
        lines = []
        for host in self.hosts.values():
            names = [host.name, host.address, host.name + FAR, _far_address(host.address)]
            lines.append(f"{','.join(names)} {self._keys[host.name].public}")
        return "".join(lines)


def storage_top() -> str:
    """Return a directory that every system has and that contains nothing the tests need."""
    needed = [CHECKOUT, Path(sys.executable), Path(sys.base_prefix), Path(tempfile.gettempdir())]
    for top in ("/srv", "/mnt", "/media", "/opt"):
        if Path(top).is_dir() and not any(path.is_relative_to(top) for path in needed):
            return top
    raise RuntimeError("/srv, /mnt, /media and /opt are all in use: no place for the lab's prefix")


def _accounts() -> list[tuple[str, int, int]]:
    """Return name, uid and gid of the accounts that can log in."""
    user = (USER, _UID, _GID)
    if os.geteuid() != 0:
        return [user]
    return [("root", 0, 0), user, (MEMBER, _MEMBER_ID, _MEMBER_ID)]


def _far_address(address: str) -> str:
    network, _, number = address.rpartition(".")
    return f"{network}.{int(number) + 100}"


def _etc(addresses: Mapping[str, str]) -> dict[str, str]:
    """Return the hosts' own files in /etc, by name: with each other's names, and the accounts."""
    hosts = "127.0.0.1 localhost\n"
    for name, address in addresses.items():
        hosts += f"{address} {name}\n{_far_address(address)} {name}{FAR}\n"
    accounts = Path("/etc/passwd").read_text().splitlines(keepends=True)
    passwd = "root:x:0:0:root:/run/home/root:/bin/bash\n"
    passwd += f"{USER}:x:{_UID}:{_GID}::/run/home/{USER}:/bin/sh\n"
    passwd += f"{MEMBER}:x:{_MEMBER_ID}:{_MEMBER_ID}::/run/home/{MEMBER}:/bin/sh\n"
    ours = ("root", USER, MEMBER)
    passwd += "".join(line for line in accounts if line.split(":")[0] not in ours)
    shadow = "".join(f"{name}:*:20000:0:99999:7:::\n" for name in ours)
    group = Path("/etc/group").read_text()
    group += f"{GROUP}:x:{GROUP_NUMBER}:{USER},{MEMBER}\nstrangers:x:4345:\n"
    return {
        "hosts": hosts,
        "passwd": passwd,
        "shadow": shadow,
        "group": group,
    }


@dataclass(frozen=True, slots=True)
class _Key:
    private: str
    public: str


def _generate_keys(names: Sequence[str]) -> dict[str, _Key]:
    keys = {}
    with tempfile.TemporaryDirectory() as directory:
        for name in names:
            path = Path(directory, name)
            options = ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)]
            subprocess.run(["ssh-keygen", *options], check=True)
            keys[name] = _Key(path.read_text(), path.with_suffix(".pub").read_text())
    return keys
