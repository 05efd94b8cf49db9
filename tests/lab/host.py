"""A host of the lab: to the tests, a machine with an sshd."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.conda import ENVIRONMENT, CondaPrefix, Template, cache_root
from tests.lab.namespaces import EnteredProcess, Namespaces
from tests.support.processes import wait_until

CHECKOUT = Path(__file__).resolve().parents[2]
INTERFACE = "eth0"
USER = "alice"
"""An ordinary account on every host; the only account if the tests do not run as root."""
MEMBER = "bob"
"""Another account in the group of `USER`; it exists only if the tests run as root."""
Argument = str | os.PathLike[str]

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_STATE = "/run/lab"
_SSHD_CONFIG = """\
ListenAddress {address}
HostKey /run/lab/host_key
PidFile none
AuthorizedKeysFile .ssh/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
UseDNS no
PrintMotd no
Subsystem sftp internal-sftp
LogLevel VERBOSE
KexAlgorithms curve25519-sha256,curve25519-sha256@libssh.org
"""
"""Of the key exchanges, not OpenSSH's own first choice, which costs each login of `ssh` 0.07 s of
CPU time."""


class CommandFailed(AssertionError):
    """A command that had to succeed failed."""


class Host:
    """A host in namespaces of its own. `prefix` is the same path on all hosts.

    `top`, a directory above the prefix, is this host's own storage: a tmpfs, unless
    `use_directory` mounts another one there.
    """

    def __init__(
        self, name: str, address: str, prefix: str, top: str, namespaces: Namespaces
    ) -> None:
        self.name = name
        self.address = address
        self.prefix = prefix
        self.namespaces = namespaces
        self._top = top
        self._sshd: EnteredProcess | None = None

    @property
    def user(self) -> str:
        """The account that commands run as and that `ssh HOST` logs in to."""
        return USER if os.geteuid() != 0 else "root"

    # Commands

    def run(
        self,
        argv: Sequence[Argument],
        *,
        input: str | None = None,  # noqa: A002  (the name that subprocess.run gives it)
        check: bool = True,
        timeout_seconds: float = 30,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the host, as `user`; bytes that are not UTF-8 become surrogates."""
        process = self.popen(
            argv, env=env, cwd=cwd, stdin=subprocess.PIPE if input is not None else None
        )
        try:
            data = None if input is None else input.encode(errors="surrogateescape")
            out, err = process.communicate(data, timeout=timeout_seconds)
        except BaseException:
            process.kill()
            process.communicate()
            raise
        done = subprocess.CompletedProcess(
            [os.fspath(argument) for argument in argv],
            process.returncode,
            out.decode(errors="surrogateescape"),
            err.decode(errors="surrogateescape"),
        )
        if check and done.returncode != 0:
            raise CommandFailed(
                f"{self.name}: {done.args} ended with {done.returncode}\n"
                f"stdout: {done.stdout}\nstderr: {done.stderr}"
            )
        return done

    def popen(
        self,
        argv: Sequence[Argument],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        stdin: int | None = None,
        stdout: int | None = subprocess.PIPE,
        stderr: int | None = subprocess.PIPE,
    ) -> EnteredProcess:
        """Start a command; its `send_signal`, `terminate` and `kill` reach the command itself."""
        return self.namespaces.popen(
            argv,
            env={**self.environment(), **(env or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=stdout,
            stderr=stderr,
        )

    def environment(self) -> dict[str, str]:
        """Return the variables that commands get, none of them inherited from the test process."""
        return {
            "PATH": f"{Path(sys.executable).parent}:{_SYSTEM_PATH}",
            "HOME": self.home(),
            "USER": self.user,
            "LOGNAME": self.user,
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def python(self, code: str, *arguments: str, timeout_seconds: float = 30) -> str:
        """Run `code` with the tests' interpreter and return its output; it can import `tests`."""
        argv = [sys.executable, "-c", code, *arguments]
        env = {"PYTHONPATH": str(CHECKOUT)}
        return self.run(argv, env=env, timeout_seconds=timeout_seconds).stdout

    # Files

    def path(self, path: Argument) -> Path:
        """Return the path at which the test process can read and write the host's file `path`."""
        return self.namespaces.path(os.fspath(path))

    def home(self, user: str = "") -> str:
        return f"/run/home/{user or self.user}"

    def install_conda(self, template: Template, *, environments: bool = True) -> CondaPrefix:
        """Install a conda prefix: base, and `myenv` unless `environments` is false."""
        return template.copy(
            self.path(self.prefix), prefix=Path(self.prefix), environments=environments
        )

    def change_package(self, spec: str, *, environment: str = ENVIRONMENT) -> None:
        """Do what `conda install SPEC` does there, for example with `lab-variant ==2.0`."""
        self._make("--env", environment, "--change", spec)

    def install_wheel(self, name: str, version: str, *, environment: str = ENVIRONMENT) -> None:
        """Do what `pip install NAME==VERSION` does there."""
        self._make("--env", environment, "--wheel", f"{name}=={version}")

    def _make(self, *arguments: str) -> None:
        argv = [sys.executable, "-m", "tests.conda.make", self.prefix, *arguments]
        cache = {"XDG_CACHE_HOME": str(cache_root().parent)}
        self.run(argv, cwd=str(CHECKOUT), env=cache, timeout_seconds=60)

    def remount(self, options: str) -> None:
        """Change the storage's mount options: `size=60m` (tmpfs), `ro`, `rw`."""
        # With device and directory given, mount adds no options from the mount table.
        options = f"remount,{options}"
        self.namespaces.set_up_when_idle("mount", "-o", options, "tmpfs", self._top)

    def use_directory(self, directory: Path) -> None:
        """Put the storage into a directory of this machine, and so on a real filesystem."""
        self.namespaces.set_up("mount", "--bind", str(directory), self._top)
        self.path(self.prefix).mkdir(parents=True, exist_ok=True)

    def refuse_exchange(self) -> None:
        """Make the storage unable to swap two names, as NFS and an old ZFS are (uses bindfs)."""
        self.namespaces.set_up("bindfs", self._top, self._top)

    def mount_from(self, other: Host, directory: str) -> None:
        """Mount a directory of another host at the same path here (by sshfs), without caching."""
        fresh = "dir_cache=no,attr_timeout=0,entry_timeout=0,negative_timeout=0"
        self.run(["sshfs", "-o", fresh, f"{other.name}:{directory}", directory])

    def cover_with_overlay(self) -> None:
        """Make the storage the lower layer of an overlay; writes go to an upper one."""
        script = (
            "mkdir -p /run/lab/upper && mount -t tmpfs tmpfs /run/lab/upper && "
            "mkdir /run/lab/upper/upper /run/lab/upper/work && mount -t overlay overlay "
            '-o "lowerdir=$1,upperdir=/run/lab/upper/upper,workdir=/run/lab/upper/work" "$1"'
        )
        self.namespaces.set_up("sh", "-ec", script, "sh", self._top)

    def mount_over(self, directory: str, place: str) -> None:
        """Bind-mount a directory of the host at another path as well."""
        self.namespaces.set_up("mount", "--bind", directory, place)

    # Processes

    def processes(self, pattern: str = "") -> list[int]:
        """Return the processes whose command line matches `pattern`, by their pids as seen here."""
        return [
            pid for pid in self.namespaces.pids()[1:] if re.search(pattern, self.command_line(pid))
        ]

    @staticmethod
    def command_line(pid: int) -> str:
        """Return the arguments joined by blanks; empty if the process has ended."""
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return ""
        return arguments.rstrip(b"\0").replace(b"\0", b" ").decode(errors="surrogateescape")

    @staticmethod
    def pid_on_host(pid: int) -> int:
        """Return the pid that a process has on the host itself."""
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
        raise AssertionError("this kernel tells no NSpid")

    def kill(self, pid: int, sig: int = 9) -> None:
        self.namespaces.kill(pid, sig)

    # sshd

    def write_file(self, path: str, content: str, mode: int = 0o600) -> None:
        target = self.path(path)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        target.write_text(content)
        target.chmod(mode)

    def start_sshd(self, extra_configuration: str = "") -> None:
        """(Re)start the host's sshd and wait until it listens.

        `extra_configuration` comes first, and the first setting of a keyword wins.
        """
        self.stop_sshd()
        log = self.path(f"{_STATE}/sshd.log")
        log.unlink(missing_ok=True)
        configuration = extra_configuration + _SSHD_CONFIG.format(address=self.address)
        self.write_file(f"{_STATE}/sshd_config", configuration)
        program = shutil.which("sshd", path=_SYSTEM_PATH) or "sshd"
        process = self.popen(
            [program, "-D", "-E", f"{_STATE}/sshd.log", "-f", f"{_STATE}/sshd_config"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._sshd = process

        def listens() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"sshd on {self.name} ended: {self.sshd_log()}")
            return "Server listening" in self.sshd_log()

        wait_until(listens, f"sshd on {self.name} listens")

    def stop_sshd(self) -> None:
        """Stop the listener; open sessions go on."""
        if self._sshd is not None:
            self._sshd.kill()
            self._sshd.wait(timeout=10)
            self._sshd = None

    def freeze_sshd(self) -> None:
        """Suspend the listener and all sessions; connections stay open, but carry nothing."""
        if self._sshd is not None:
            self._sshd.freeze()
        self._signal_sessions(signal.SIGSTOP)

    def thaw_sshd(self) -> None:
        self._signal_sessions(signal.SIGCONT)
        if self._sshd is not None:
            self._sshd.thaw()

    def _signal_sessions(self, sig: int) -> None:
        for pid in self.processes(r"^sshd: "):
            with contextlib.suppress(ProcessLookupError):
                self.kill(pid, sig)

    def reap(self) -> None:
        """Reap the sshd of a host that is gone."""
        if self._sshd is not None:
            self._sshd.wait(timeout=10)
            self._sshd = None

    def sshd_log(self) -> str:
        log = self.path(f"{_STATE}/sshd.log")
        return log.read_text(errors="replace") if log.exists() else ""

    def sshd_pid(self) -> int:
        """Return the listener's pid as seen here."""
        pid = None if self._sshd is None else self._sshd.inner_pid()
        if pid is None:
            raise AssertionError(f"no sshd runs on {self.name}")
        return pid

    # A clean slate

    def wipe(self) -> None:
        """End every process except PID 1, and give the host new, empty storage and homes."""
        self.stop_sshd()
        self.end_processes()
        script = (
            'while umount -l "$1" 2>/dev/null; do :; done; '
            'mount -t tmpfs -o mode=755 tmpfs "$1"; rm -rf /run/home/* /run/lab/sshd*; '
            'mkdir -p "$2" && rmdir "$2"'
        )
        self.namespaces.set_up("sh", "-ec", script, "sh", self._top, self.prefix)
        self.path(self.prefix).mkdir(mode=0o755)

    def end_processes(self) -> None:
        def ended() -> bool:
            pids = self.namespaces.pids()[1:]
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    self.kill(pid)
            return not pids

        wait_until(ended, f"all processes on {self.name} have ended")
