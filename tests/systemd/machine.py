"""A machine on a host of the lab, with systemd as PID 1."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.host import CHECKOUT, CommandFailed
from tests.lab.lab import LabHost
from tests.lab.namespaces import EnteredProcess, NsenterProcess
from tests.support.processes import children, wait_until
from tests.systemd.requirements import PATH

if TYPE_CHECKING:
    from typing_extensions import Self

USER = "alice"
HOME = f"/home/{USER}"
BOOTED = ("running", "degraded")
_STATE = "/run/lab/machine"
_ROOT = f"{_STATE}/root"
_CONSOLE = f"{_STATE}/console"
_WANTS_REBOOT = 133
_POLL_SECONDS = 0.1
_ENTER = ("-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w")

# Directories that are emptied: enabled units and state of this machine.
_EMPTY = (
    "/etc/systemd/system", "/etc/systemd/user", "/etc/init.d", "/etc/cron.d",
    *(f"/etc/rc{level}.d" for level in "0123456S"),
    "/home", "/var/log/journal", "/var/lib/systemd",
)  # fmt: skip
_MASKED = ("console-getty.service", "getty-static.service", "systemd-firstboot.service")

_MOUNT = """
mkdir -p "$1"; mount -t tmpfs -o mode=755 tmpfs "$1"; mkdir -p "$1/upper" "$1/work" "$1/root"
cd "$1/upper"
for directory in $2; do
    [ -d "$directory" ] || continue
    mkdir -p -m 755 ".$directory"
    setfattr -n trusted.overlay.opaque -v y ".$directory" 2>/dev/null ||
        python3 -c 'import os, sys; os.setxattr(sys.argv[1], "trusted.overlay.opaque", b"y")' \
            ".$directory"
done
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 /sys/fs/cgroup 2>/dev/null ||
    mount -o remount,bind,rw /sys/fs/cgroup
"""
_BOOT = """
group=/sys/fs/cgroup/$1; console=$2; shift 2
find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
mkdir "$group" && echo 0 >"$group/cgroup.procs" && exec "$@" >>"$console" 2>&1
"""


class Machine:
    """A machine with systemd; use it in a `with`. It has the network and storage of `host`.

    Its user `alice` is the lab's, with the home /home/alice, and can log in to the targets.
    """

    def __init__(self, host: LabHost) -> None:
        self.host = host
        self._cgroup = f"envsync-tests-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._nspawn: EnteredProcess | None = None
        self.leader = 0

    def __enter__(self) -> Self:
        try:
            self.host.namespaces.set_up("sh", "-ec", _MOUNT, "sh", _STATE, " ".join(_EMPTY))
            self._sweep()
            self._furnish()
            self.boot()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Boot and end

    def boot(self, until: Sequence[str] = BOOTED) -> None:
        """Start PID 1, and wait until `systemctl is-system-running` says one of `until`."""
        process = self.host.namespaces.popen(
            ["/bin/sh", "-c", _BOOT, "sh", self._cgroup, _CONSOLE, *self._nspawn_argv()],
            env={"PATH": PATH, "LANG": "C.UTF-8", "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            stdin=subprocess.DEVNULL,
        )
        self._nspawn = process

        def is_up() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"the machine did not boot: {self.console()}")
            time.sleep(_POLL_SECONDS)  # polling takes CPU time from the boot
            if not self._find_leader():
                return False
            state = self.run(["systemctl", "is-system-running"], check=False).stdout.strip()
            return state in until

        wait_until(is_up, "systemd is up", timeout_seconds=30)

    def reboot(self, until: Sequence[str] = BOOTED) -> None:
        """Reboot in order; the contents of the disks stay."""
        assert self._nspawn is not None
        # `systemctl reboot` can be killed by the reboot before it reports success.
        asked = self.run(["systemctl", "reboot"], check=False)
        status = self._nspawn.wait(timeout=40)
        assert status == _WANTS_REBOOT, f"{asked}\n{self.console()}"
        self.boot(until)

    def close(self) -> None:
        """End the machine like a power cut. Can be called more than once."""
        if self._nspawn is not None:
            if self._find_leader():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.leader, signal.SIGKILL)  # PID 1, and so all its processes
            else:
                self._nspawn.kill()
            self._nspawn.wait(timeout=20)
            self._nspawn = None
        directory = f"/sys/fs/cgroup/{self._cgroup}"
        script = 'find "$1" -depth -type d -exec rmdir {} + 2>/dev/null; [ ! -e "$1" ]'

        def is_gone() -> bool:
            with contextlib.suppress(RuntimeError):
                self.host.namespaces.set_up("sh", "-c", script, "sh", directory)
                return True
            return False

        wait_until(is_gone, "the machine's cgroup is empty")

    def console(self) -> str:
        """Return the end of the console's output."""
        with contextlib.suppress(OSError):
            return self.host.path(_CONSOLE).read_text(errors="replace")[-4000:]
        return ""

    # Use

    def path(self, path: str) -> Path:
        """Return the path at which the test process finds an absolute path of the machine."""
        return Path(f"/proc/{self.leader}/root{path}")

    def write_file(self, path: str, content: str, mode: int = 0o644) -> None:
        target = self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        target.chmod(mode)

    def popen(self, argv: Sequence[str], *, user: str = "root") -> NsenterProcess[str]:
        """Start a command with the variables of a login, none of them inherited."""
        home = HOME if user == USER else "/root"
        variables = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": home, "USER": user, "LOGNAME": user}
        become: list[str] = []
        if user != "root":
            variables["XDG_RUNTIME_DIR"] = f"/run/user/{self.uid}"
            become = ["runuser", "-u", user, "--"]
        environment = [f"{name}={value}" for name, value in variables.items()]
        return NsenterProcess(
            [
                *("nsenter", f"--target={self.leader}", *_ENTER, "--"),
                *(*become, "env", "-i", "-C", home, *environment, *argv),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(
        self,
        argv: Sequence[str],
        *,
        user: str = "root",
        check: bool = True,
        timeout_seconds: float = 30,
    ) -> subprocess.CompletedProcess[str]:
        with self.popen(argv, user=user) as process:
            try:
                out, err = process.communicate(timeout=timeout_seconds)
            except BaseException:
                process.kill()
                raise
        done = subprocess.CompletedProcess(list(argv), process.returncode, out, err)
        if check and done.returncode != 0:
            raise CommandFailed(f"{argv} ended with {done.returncode}\n{out}\n{err}")
        return done

    @property
    def uid(self) -> int:
        return self.host.path("/run/home/alice").stat().st_uid

    # Making

    def _sweep(self) -> None:
        """Remove the empty cgroups of test processes that were killed."""
        for group in self.host.path("/sys/fs/cgroup").glob("envsync-tests-*"):
            if not Path("/proc", group.name.split("-")[2]).exists():
                script = 'find "$1" -depth -type d -exec rmdir {} + 2>/dev/null; :'
                place = f"/sys/fs/cgroup/{group.name}"
                self.host.namespaces.set_up("sh", "-c", script, "sh", place)

    def _furnish(self) -> None:
        """Turn the overlay of this machine's root into another machine."""
        root = self.host.path(_ROOT)
        for directory in _needed_directories():
            _let_pass(root, directory)
        self._write_accounts(root)
        (root / "home" / USER).mkdir()
        (root / "root").chmod(0o711)
        machine = {
            "hostname": f"{self.host.name}\n",
            "hosts": self.host.path("/etc/hosts").read_text(),
            "machine-id": f"{uuid.uuid4().hex}\n",
            "fstab": "",
            "systemd/journald.conf.d/tests.conf": "[Journal]\nStorage=persistent\n",
        }
        for name, content in machine.items():
            file = root / "etc" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True)
            file.write_text(content)
        (root / "var/log/journal").mkdir(parents=True, exist_ok=True)
        units = root / "etc/systemd/system"
        (units / "default.target").symlink_to("/lib/systemd/system/multi-user.target")
        for unit in _MASKED:
            (units / unit).symlink_to("/dev/null")

    def _write_accounts(self, root: Path) -> None:
        account = f"{USER}:x:{self.uid}:{self.uid}::{HOME}:/bin/bash\n"
        lines = {
            "passwd": account,
            "group": f"{USER}:x:{self.uid}:\n",
            "shadow": f"{USER}:*:20000:0:99999:7:::\n",
        }
        for name, line in lines.items():
            file = root / "etc" / name
            theirs = Path("/etc", name) if name == "group" else self.host.path(f"/etc/{name}")
            kept = theirs.read_text().splitlines(keepends=True)
            others = (one for one in kept if one.split(":")[0] not in (USER, "root"))
            first = {"passwd": "root:x:0:0:root:/root:/bin/bash\n", "group": "root:x:0:\n"}
            file.write_text(first.get(name, "root:*:20000:0:99999:7:::\n") + line + "".join(others))

    def _nspawn_argv(self) -> list[str]:
        host = self.host
        storage = Path(host.prefix).parents[1]
        binds = [f"--bind={storage}", f"--bind={host.home(USER)}:{HOME}"]
        binds += [f"--bind-ro={path}" for path in _needed_directories() if _is_hidden(path)]
        return [
            *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--settings=no"),
            *(f"--machine={host.name}", f"--directory={_ROOT}", "--boot", "--console=pipe"),
            *("--network-namespace-path=/proc/self/ns/net", "--private-users=no"),
            *("--link-journal=no", "--timezone=off", "--resolv-conf=off"),
            *("--kill-signal=SIGRTMIN+3", "--capability=CAP_NET_ADMIN", *binds),
        ]

    def _find_leader(self) -> bool:
        """Set `leader` to the pid of PID 1 as seen here, or 0; return whether it lives."""
        assert self._nspawn is not None
        nspawn = self._nspawn.inner_pid()
        found = [] if nspawn is None else [pid for pid in children(nspawn) if _is_first(pid)]
        self.leader = found[0] if found else 0
        return bool(found)


def _is_first(pid: int) -> bool:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return line.split()[-1] == "1" and Path(f"/proc/{pid}/comm").read_text() != (
                    "systemd-nspawn\n"
                )
    return False


def _is_hidden(directory: Path) -> bool:
    """Return whether the overlay of the root lacks a directory, or it is mounted over."""
    is_covered = any(directory.is_relative_to(place) for place in ("/tmp", "/run"))
    return is_covered or directory.stat().st_dev != Path("/").stat().st_dev


def _needed_directories() -> list[Path]:
    """Return the directories of the tested program and its interpreter."""
    paths = [CHECKOUT, Path(sys.prefix), Path(sys.base_prefix), *map(Path, sys.path)]
    found = {path.resolve() for path in paths if path.is_dir() and path.is_absolute()}
    return sorted(path for path in found if path != Path("/"))


def _let_pass(root: Path, directory: Path) -> None:
    """Let ordinary users reach a directory, which can be in root's home."""
    for parent in directory.parents:
        place = root / parent.relative_to("/")
        if not place.is_dir():
            place.mkdir(parents=True)
        if place != root:
            place.chmod(place.stat().st_mode | 0o011)
