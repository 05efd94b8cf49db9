"""Links can be slow, long and cut."""

from __future__ import annotations

import time

import pytest

from tests.lab.host import CommandFailed
from tests.lab.lab import Lab

_SEND = "dd if=/dev/zero bs=1M count={megabytes} status=none | ssh {server} 'cat > /dev/null'"
_RECEIVE = "ssh {server} 'dd if=/dev/zero bs=1M count={megabytes} status=none' > /dev/null"


def _seconds(lab: Lab, command: str, server: str = "server2", megabytes: int = 0) -> float:
    started = time.monotonic()
    lab.controller.run(["sh", "-c", command.format(server=server, megabytes=megabytes)])
    return time.monotonic() - started


@pytest.mark.parametrize("command", [_SEND, _RECEIVE], ids=["to the host", "from the host"])
def test_rate_limit_holds_roughly(fresh_lab: Lab, command: str) -> None:
    fresh_lab["server2"].limit("40mbit")
    assert _seconds(fresh_lab, command, megabytes=10) > 1.8, "10 MB at 5 MB/s"
    fresh_lab["server2"].unlimit()
    # On a busy machine one may take as long all the same; a link that is still limited lets
    # none be quicker, and then the test's own time limit ends it.
    while _seconds(fresh_lab, command, megabytes=10) > 1.8:
        pass


def test_rate_limit_is_of_one_host(fresh_lab: Lab) -> None:
    fresh_lab["server2"].limit("1mbit")
    assert _seconds(fresh_lab, _SEND, server="server3", megabytes=10) < 40, "80 s at that rate"


def test_a_link_that_loses_packets(fresh_lab: Lab) -> None:
    host = fresh_lab["server2"]
    host.lose(0.02)
    # Three megabytes may be 50 packets (the kernel joins what goes out together), of which
    # one time in three none is lost; the test's own time limit ends what never loses any.
    while host.lost_packets() == 0:
        _seconds(fresh_lab, _SEND, megabytes=3)
    host.unlimit()
    _seconds(fresh_lab, _SEND, megabytes=3)
    assert host.lost_packets() == 0, "what counted them is gone"


def test_relay_delays_both_ways(fresh_lab: Lab) -> None:
    with fresh_lab.relay("server2", delay_seconds=0.1) as far:
        assert fresh_lab.controller.run(["ssh", far, "hostname"]).stdout == "server2\n"
        # Connecting takes at least five round trips: banner, kex, auth, channel.
        assert _seconds(fresh_lab, "ssh {server} true", server=far) > 5 * 0.2
    with pytest.raises(CommandFailed, match="Connection refused"):
        fresh_lab.controller.run(["ssh", far, "true"])


def test_relay_carries_bytes_unchanged(fresh_lab: Lab) -> None:
    with fresh_lab.relay("server3", delay_seconds=0.02) as far:
        script = (
            "head -c 3000000 /dev/urandom > /run/bytes; "
            f"ssh {far} sha256sum < /run/bytes; sha256sum < /run/bytes"
        )
        sums = fresh_lab.controller.run(["sh", "-c", script]).stdout.splitlines()
    assert len(sums) == 2
    assert len(set(sums)) == 1


def test_cut_and_restore(fresh_lab: Lab) -> None:
    controller, host = fresh_lab.controller, fresh_lab["server2"]
    quick = ["ssh", "-o", "ConnectTimeout=1", "server2", "hostname"]
    with controller.popen(["ssh", "server2", "echo begun; cat"], stdin=-1) as session:
        assert session.stdin is not None
        assert session.stdout is not None
        assert session.stdout.readline() == b"begun\n"
        host.cut()
        with pytest.raises(CommandFailed, match=r"timed out|No route to host"):
            controller.run(quick)
        session.stdin.write(b"through\n")
        session.stdin.flush()
        assert session.poll() is None, "a cut link is silent: nobody is told"
        host.restore()
        assert session.stdout.readline() == b"through\n"
        session.stdin.close()
        assert session.wait(timeout=10) == 0
    assert controller.run(["ssh", "server2", "hostname"]).stdout == "server2\n"


def test_sshd_can_be_stopped_and_started(fresh_lab: Lab) -> None:
    host = fresh_lab["server3"]
    host.stop_sshd()
    with pytest.raises(CommandFailed, match="Connection refused"):
        fresh_lab.controller.run(["ssh", "server3", "true"])
    host.start_sshd("AllowUsers nobody\n")
    with pytest.raises(CommandFailed, match="Permission denied"):
        fresh_lab.controller.run(["ssh", "server3", "true"])
