"""Malformed inventories: each message names file, line, key path and what was expected."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envsync.errors import InventoryError
from envsync.inventory import load, names
from envsync.inventory.document import MAX_VALUES, parse
from envsync.inventory.loader import MAX_FILE_BYTES
from envsync.inventory.references import MAX_SERVERS
from envsync.inventory.schema import EnvironmentEntry, InventoryFile


class Malformed(NamedTuple):
    text: str
    message: str
    """What follows `FILE:`."""


SERVERS = 'servers: {server1: {}, server2: {groups: [gpu]}, "gpu[01-03]": {groups: [gpu]}}\n'


def _server(entry: str) -> str:
    return f"servers:\n  server1: {{}}\n  gpu[03-08]:\n    user: alice\n    {entry}\n"


def _environment(entry: str) -> str:
    return f"{SERVERS}environments:\n  myenv:\n    {entry}\n"


WHOLE_FILE = {
    "empty": Malformed("", "1: expected a mapping with at least `servers`, got nothing"),
    "comments only": Malformed(
        "# nothing\n", "1: expected a mapping with at least `servers`, got nothing"
    ),
    "null": Malformed("~\n", "1: expected a mapping with at least `servers`, got nothing"),
    "a list": Malformed("- server1\n", "1: expected a mapping with at least `servers`, got a list"),
    "a text": Malformed(
        "server1\n", "1: expected a mapping with at least `servers`, got 'server1'"
    ),
    "no servers": Malformed(
        "prefix: /opt/conda\n", "1: servers: expected at least one server, got nothing"
    ),
    "servers left empty": Malformed(
        "\nservers:\n", "2: servers: expected at least one server, got nothing"
    ),
    "no server in servers": Malformed(
        "\nservers: {}\n", "2: servers: expected at least one server, got nothing"
    ),
    "servers as a list": Malformed(
        "servers: [server1]\n",
        "1: servers: expected a mapping such as gpu01: {user: alice}, one for each server,"
        " got a list",
    ),
    "two documents": Malformed("servers: {a: }\n---\nservers: {b: }\n", "2: expected valid YAML: "),
    "open bracket": Malformed("servers:\n  a: [\n  b: {}\n", "2: expected valid YAML: "),
    "open quote": Malformed(
        'servers:\n  a: "x\n  b: {}\n',
        "2: expected valid YAML: the quote that opens here is never closed",
    ),
    "tab": Malformed(
        "servers:\n\tserver1: {}\n",
        "2: expected valid YAML: a line is indented with a tab; use spaces",
    ),
    "wrong indentation": Malformed(
        "servers:\n  a: {}\n b: {}\n",
        "3: expected valid YAML: this line is not indented like the others of its block,"
        " which begins on line 1",
    ),
    "group without quotes": Malformed(
        "servers: {a: {}}\nenvironments:\n  x:\n    push_to: [a, @gpu]\n",
        '4: expected valid YAML: a group needs quotes, as in "@gpu"',
    ),
    "range without quotes in a list": Malformed(
        "servers: {a: {}}\nenvironments:\n  x:\n    push_to: [gpu[01-03]]\n",
        '4: expected valid YAML: a range inside [ ] or { } needs quotes, as in ["gpu[03-08]"]',
    ),
    "range without quotes in a mapping": Malformed(
        "servers: {gpu[01-03]: {}}\n",
        '1: expected valid YAML: a range inside [ ] or { } needs quotes, as in ["gpu[03-08]"]',
    ),
    "control character": Malformed(
        "servers:\n  a: \x01\n", "2: expected text without control characters, got '\\x01'"
    ),
    "a character that there is none": Malformed(
        'servers:\n  a: {user: "\\U00110000"}\n',
        "2: expected valid YAML: an escape that stands for no character",
    ),
    "a character beyond all numbers": Malformed(
        'servers:\n  a: {}\nprefix: "/x\\UFFFFFFFF"\n', "3: expected valid YAML: "
    ),
    "key twice": Malformed(
        "servers:\n  a: {}\n  b: {}\n  a: {}\n",
        "4: servers.a: expected every key once, got 'a' again (first on line 2)",
    ),
    "section twice": Malformed(
        "servers: {a: {}}\nwatch: {}\nservers: {b: {}}\n",
        "3: servers: expected every key once, got 'servers' again (first on line 1)",
    ),
    "list as a key": Malformed(
        "servers:\n  ? [a, b]\n  : {}\n  c: {}\n", "2: servers: expected plain text as a key"
    ),
    "tag": Malformed(
        "servers:\n  a: !!python/object/apply:os.system [id]\n",
        "2: servers.a: expected a value without a tag, got the tag",
    ),
    "unknown section": Malformed(
        "server: {a: {}}\nservers: {b: {}}\n",
        "1: server: expected one of environments, prefix, servers, watch, got an unknown key;"
        " did you mean 'servers'?",
    ),
    "relative prefix": Malformed(
        "prefix: miniconda3\nservers: {a: {}}\n",
        "1: prefix: expected an absolute path such as /workspace/alice/miniconda3,"
        " got 'miniconda3'",
    ),
    "prefix with a newline": Malformed(
        'prefix: "/opt\\nconda"\nservers: {a: {}}\n',
        "1: prefix: expected an absolute path such as /workspace/alice/miniconda3,"
        " got '/opt\\nconda'",
    ),
    "environments as a list": Malformed(
        "servers: {a: {}}\nenvironments: [myenv]\n",
        "2: environments: expected a mapping such as myenv: {push_to: [gpu01]}, got a list",
    ),
    "watch a text": Malformed(
        "servers: {a: {}}\nwatch: 10s\n",
        "2: watch: expected a mapping such as {settle: 10s}, got '10s'",
    ),
    "too many servers": Malformed(
        "servers:\n" + "".join(f"  s{number}x[1-1000]: {{}}\n" for number in range(21)),
        f"1: servers: expected at most {MAX_SERVERS} servers in all ranges",
    ),
    "unknown watch key": Malformed(
        "servers: {a: {}}\nwatch:\n  setle: 10s\n",
        "3: watch.setle: expected one of rescan, settle, got an unknown key;"
        " did you mean 'settle'?",
    ),
    "settle": Malformed(
        "servers: {a: {}}\nwatch:\n  settle: soon\n",
        "3: watch.settle: expected a duration such as 10s, 5m or 1h, got 'soon'",
    ),
    "rescan never": Malformed(
        "servers: {a: {}}\nwatch:\n  rescan: 0\n",
        "3: watch.rescan: expected a duration longer than 0 s, such as 10s, 5m or 1h, got '0'",
    ),
    "deep": Malformed("servers: " + "[" * 100 + "]" * 100, "1: servers: expected a mapping"),
    "very deep": Malformed("servers: " + "[" * 1_000, "1: expected fewer levels"),
    "alias inside itself": Malformed("servers: &a\n  x: *a\n", "1: expected fewer levels"),
    "alias bomb": Malformed(
        "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(
            f"{new}: &{new} [{','.join(['*' + old] * 10)}]\n"
            for old, new in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "1: ",
    ),
    "unknown alias": Malformed("servers: {a: *x}\n", "1: expected valid YAML: "),
    "own key over a merged one": Malformed(
        "servers:\n  a: &a\n    port: 22\n  b:\n    <<: *a\n    port: x\n",
        "6: servers.b.port: expected a whole number from 1 to 65535, got 'x'",
    ),
    "merge of a text": Malformed(
        "servers:\n  a:\n    <<: x\n", "3: servers.a.<<: expected an alias of a mapping"
    ),
}

# What follows `expected valid YAML: `, and the line of it.
YAML_SLIPS = {
    "a key without a colon": (
        "servers:\n  a:\n    port: 3\n    user x\n  b: {}\n",
        4,
        "a key without a colon and a space after it",
    ),
    "a line too far right": (
        "servers:\n  a:\n    user: x\n      port: 22\n",
        4,
        "an unexpected colon: this line is indented too far",
    ),
    "a line too far left": (
        "servers:\n  a:\n    user: x\n   port: 22\n",
        4,
        "this line is not indented like the others of its block, which begins on line 2",
    ),
    "the first line too far right": (
        " prefix: /x\nservers: {a: {}}\n",
        2,
        "this line is indented less than the first one",
    ),
    "a list among keys": ("servers:\n  a: {}\n  - b\n", 3, "a list item (-) among keys"),
    "a list after its key": (
        "servers:\n  a:\n    groups: - gpu\n",
        3,
        "a list on the line of its key is written [one, two]",
    ),
    "a colon in a command": (
        "environments:\n  e:\n    check: echo a: b\n",
        3,
        "an unexpected colon: this line is indented too far, it or the one above lacks its own,",
    ),
    "quotes inside quotes": (
        'environments:\n  e:\n    check: "python -c "import x""\n',
        3,
        "text after a closing quote or bracket",
    ),
    "a backslash": (
        'environments:\n  e:\n    check: "grep \\d"\n',
        3,
        'inside "..." a backslash is written \\\\;',
    ),
    "a glob in a list": (
        "environments:\n  e:\n    local: [*.log]\n",
        3,
        'a text that begins with * needs quotes, as in "*.log"',
    ),
    "a mark that there is none": ("servers: {a: *x}\n", 1, "no value has the anchor &x; a text"),
    "a mark that there is twice": (
        "servers:\n  a: &x {}\n  b: &x {}\n",
        3,
        "the anchor &x is defined twice; first on line 2",
    ),
    "an ampersand": ("servers: {a: {user: & }}\n", 1, "a text that begins with & needs quotes"),
    "an exclamation mark": ("servers: {a: {user: !x}}\n", 1, "a text that begins with ! needs"),
    "a percent sign": ("servers: {a: {user: %x}}\n", 1, "a text that begins with % needs quotes"),
    "a bar": ("servers:\n  a: |x\n", 2, "a text that begins with | or > needs quotes"),
    "a question mark": ("servers: {a: {user: ?}}\n", 1, "a text that begins with ? needs quotes"),
    "a dash": ("servers: {a: {user: - x}}\n", 1, "a text that begins with - needs quotes"),
    "two commas": ("servers: {a: {user: x,, port: 1}}\n", 1, "there is no value before ','"),
    "no comma": (
        "servers:\n  a: {user: x port: 3}\n",
        2,
        "a comma is missing, or the bracket that opens on line 2 is not closed",
    ),
    "a bracket that stays open": (
        "servers:\n  a: {groups: [g\n",
        2,
        "the bracket that opens here is never closed",
    ),
    "a bracket that stays open after a comma": ("servers: {a: {},\n", 2, "a bracket is never"),
    "a bracket too many": ("servers:\n  a: {}}\n", 2, "a } without its opening bracket"),
    "a tab at the end": ("servers:\n  a: x\t\n", 2, "a tab, where only spaces can be"),
    "a second document": ("servers: {a: {}}\n---\nservers: {}\n", 2, "a second inventory begins"),
    "what has no words of ours": ("%YAML 3.0\n---\na: b\n", 1, "found incompatible YAML document"),
}

SERVER_ENTRIES = {
    "port": Malformed(
        _server("port: abc"),
        "5: servers.gpu[03-08].port: expected a whole number from 1 to 65535, got 'abc'",
    ),
    "port too large": Malformed(
        _server("port: 65536"),
        "5: servers.gpu[03-08].port: expected a whole number from 1 to 65535, got '65536'",
    ),
    "port zero": Malformed(
        _server("port: 0"),
        "5: servers.gpu[03-08].port: expected a whole number from 1 to 65535, got '0'",
    ),
    "port a list": Malformed(
        _server("port: [22]"),
        "5: servers.gpu[03-08].port: expected a whole number from 1 to 65535, got a list",
    ),
    "port a fraction": Malformed(
        _server("port: 22.5"),
        "5: servers.gpu[03-08].port: expected a whole number from 1 to 65535, got '22.5'",
    ),
    "unknown key": Malformed(
        _server("prot: 22"),
        "5: servers.gpu[03-08].prot: expected one of groups, host, identity_file, jump, limit,"
        " port, prefix, share, user, got an unknown key; did you mean 'port'?",
    ),
    "host an option": Malformed(
        _server("host: -oProxyCommand=id"),
        "5: servers.gpu[03-08].host: expected a host name, an address or a host of ~/.ssh/config,"
        " got '-oProxyCommand=id'",
    ),
    "a jump through itself": Malformed(
        _server("jump: bastion, gpu05"),
        "5: servers.gpu[03-08].jump: expected another host than the server's own, got 'gpu05'",
    ),
    "a host as its own jump": Malformed(
        "servers:\n  server1: {host: gpu05, jump: gpu05}\n",
        "2: servers.server1.jump: expected another host than the server's own, got 'gpu05'",
    ),
    "one host for six": Malformed(
        _server("host: gpu03"),
        "5: servers.gpu[03-08].host: expected a range of 6 hosts, one for each server, got 'gpu03'",
    ),
    "user": Malformed(
        _server('user2: "x"').replace("user: alice", "user: a b"),
        "4: servers.gpu[03-08].user: expected a user name, got 'a b'",
    ),
    "group of users by number": Malformed(
        _server('share: {group: "4344"}'),
        "5: servers.gpu[03-08].share.group: expected the name of a group of users, not its number,"
        " got '4344'",
    ),
    "group of users with a blank": Malformed(
        _server("share: {group: lab users}"),
        "5: servers.gpu[03-08].share.group: expected the name of a group of users",
    ),
    "jump": Malformed(
        _server("jump: bastion:99999"),
        "5: servers.gpu[03-08].jump: expected jump hosts such as bastion",
    ),
    "identity file": Malformed(
        _server("identity_file: id_rsa"),
        "5: servers.gpu[03-08].identity_file: expected a path that starts with / or ~/,"
        " got 'id_rsa'",
    ),
    "identity file of nobody": Malformed(
        _server("identity_file: ~nobody-here/id"),
        "5: servers.gpu[03-08].identity_file: expected a path that starts with / or ~/,"
        " of a user who exists here, got '~nobody-here/id'",
    ),
    "prefix": Malformed(
        _server("prefix: ~/conda"),
        "5: servers.gpu[03-08].prefix: expected an absolute path such as"
        " /workspace/alice/miniconda3, got '~/conda'",
    ),
    "groups a text": Malformed(
        _server("groups: gpu"),
        "5: servers.gpu[03-08].groups: expected a list such as [one, two], got 'gpu'",
    ),
    "group": Malformed(
        _server('groups: [a, "@b"]'),
        "5: servers.gpu[03-08].groups[1]: expected a group name",
    ),
    "limit": Malformed(
        _server("limit: 200"),
        "5: servers.gpu[03-08].limit: expected a rate such as 200Mbit (bits a second)"
        " or 25MB (bytes a second), got '200'",
    ),
    "short form": Malformed(
        "servers:\n  a: x y\n",
        "2: servers.a: expected a host name, an address or a host of ~/.ssh/config, got 'x y'",
    ),
    "short form a number": Malformed(
        "servers:\n  a: 42\n", "2: servers.a: expected a host name, an address"
    ),
    "short form a list": Malformed(
        "servers:\n  a: [x]\n",
        "2: servers.a: expected a mapping such as {host: gpu01, user: alice}, got a list",
    ),
    "short form with a user": Malformed(
        "servers:\n  a: alice@gpu01\n",
        "2: servers.a: expected a host without its user, which has a key of its own (`user:`),"
        " got 'alice@gpu01'",
    ),
    "no space after the colon": Malformed(
        "servers:\n  a:\n    port:22\n",
        "2: servers.a: expected a colon and a space, as in `port: 22`, got 'port:22'",
    ),
    "no space after the colon, in braces": Malformed(
        "servers:\n  a: {port:22}\n",
        "2: servers.a.port:22: expected one of groups, host, identity_file, jump, limit, port,"
        " prefix, share, user, got an unknown key; write `port: 22`, with a space",
    ),
    "no colon": Malformed(
        "servers:\n  a:\n    user alice\n",
        "2: servers.a: expected a colon and a space, as in `user: alice`, got 'user alice'",
    ),
    "a key below a server of which nothing is said": Malformed(
        "servers:\n  a:\n  jump: bastion\n",
        "3: servers.jump: expected `jump:` indented below its server",
    ),
    "a key too far left": Malformed(
        "servers:\n  a:\n    host: gpu01\n  user: alice\n",
        "4: servers.user: expected `user:` indented below its server (or {host: ...},"
        " for a server called user), got 'alice'",
    ),
    "a port too far left": Malformed(
        "servers:\n  a:\n    host: gpu01\n  port: 22\n",
        "4: servers.port: expected `port:` indented below its server",
    ),
    "a long name": Malformed(
        f"servers:\n  {'k' * 300}: {{}}\n",
        f"2: servers.{'k' * 57}...: expected a server name of letters, digits",
    ),
    "name an option": Malformed(
        "servers:\n  b: {}\n  -x: {}\n", "3: servers.-x: expected a server name"
    ),
    "name a path": Malformed("servers:\n  a/b: {}\n", "2: servers.a/b: expected a server name"),
    "name with an escape": Malformed(
        'servers:\n  "a\\eb": {}\n', "2: servers.'a\\x1bb': expected a server name"
    ),
    "broken range": Malformed(
        "servers:\n  gpu[3-: {}\n", "2: servers.gpu[3-: expected a range such as gpu[03-08]"
    ),
    "endless range": Malformed(
        "servers:\n  gpu[1-999999999]: {}\n",
        "2: servers.gpu[1-999999999]: expected a range of at most 1024 names",
    ),
    "in two ranges": Malformed(
        "servers:\n  gpu[01-03]: {}\n  x: {}\n  gpu[03-05]: {}\n",
        "4: servers.gpu[03-05]: expected every server once, got 'gpu03' again"
        " (also in 'gpu[01-03]' on line 2)",
    ),
}

ENVIRONMENT_ENTRIES = {
    "base": Malformed(
        f"{SERVERS}environments:\n  base: {{}}\n",
        "3: environments.base: expected an environment other than base, which is conda itself",
    ),
    "name": Malformed(
        f"{SERVERS}environments:\n  ../x: {{}}\n",
        "3: environments.../x: expected an environment name without / \\ : # or spaces",
    ),
    "a text": Malformed(
        f"{SERVERS}environments:\n  myenv: server1\n",
        "3: environments.myenv: expected a mapping such as {push_to: [gpu01]}, got 'server1'",
    ),
    "unknown source": Malformed(
        _environment("source: sever1"),
        "4: environments.myenv.source: expected a server of the inventory, got 'sever1';"
        " did you mean 'server1'?",
    ),
    "source a range": Malformed(
        _environment("source: gpu[01-02]"), "4: environments.myenv.source: expected a server name"
    ),
    "source a list": Malformed(
        _environment("source: [server1]\n    push_to: [server1]"),
        "4: environments.myenv.source: expected a server name of letters, digits and . _ - + : %,"
        " starting with a letter or digit, got a list",
    ),
    "unknown target": Malformed(
        _environment("push_to: [server2, gpu04]"),
        "4: environments.myenv.push_to[1]: expected a server, @group or range of the inventory,"
        " got 'gpu04'; did you mean 'gpu0",
    ),
    "unknown group": Malformed(
        _environment('push_to: ["@gpus"]'),
        "4: environments.myenv.push_to[0]: expected a server, @group or range of the inventory,"
        " got '@gpus'; did you mean '@gpu'?",
    ),
    "range too long": Malformed(
        _environment("push_to: ['gpu[02-04]']"),
        "4: environments.myenv.push_to[0]: expected a server, @group or range of the inventory,"
        " got 'gpu[02-04]', which has no 'gpu04'",
    ),
    "target an option": Malformed(
        _environment("push_to: [-x]"), "4: environments.myenv.push_to[0]: expected a server name"
    ),
    "target nothing": Malformed(
        _environment("push_to: [~]"), "4: environments.myenv.push_to[0]: expected a server name"
    ),
    "targets a text": Malformed(
        _environment("push_to: server2"),
        "4: environments.myenv.push_to: expected a list such as [one, two], got 'server2'",
    ),
    "only to itself": Malformed(
        _environment("source: server1\n    push_to: [server1]"),
        "5: environments.myenv.push_to: expected a server other than the source,"
        " got only 'server1'",
    ),
    "watched without source": Malformed(
        _environment("watch: true"),
        "3: environments.myenv.source: expected the server that pushes it, since watch is true,"
        " got nothing",
    ),
    "watch": Malformed(
        _environment("watch: sometimes"),
        "4: environments.myenv.watch: expected true or false, got 'sometimes'",
    ),
    "method": Malformed(
        _environment("method: rsync"),
        "4: environments.myenv.method: expected auto, mirror, pack or rebuild, got 'rsync'",
    ),
    "in_use": Malformed(
        _environment("in_use: kill"),
        "4: environments.myenv.in_use: expected publish, wait or fail, got 'kill'",
    ),
    "outside": Malformed(
        _environment("outside: ignore"),
        "4: environments.myenv.outside: expected warn or fail, got 'ignore'",
    ),
    "keep": Malformed(
        _environment("keep: -1"),
        "4: environments.myenv.keep: expected a whole number 0 or more, got '-1'",
    ),
    "keep without an end": Malformed(
        _environment("keep: 99999999999"),
        "4: environments.myenv.keep: expected a whole number of at most 9 digits,"
        " got '99999999999'",
    ),
    "half a character in a check": Malformed(
        _environment('check: "echo \\ud800"'),
        "4: environments.myenv.check: expected a shell command such as",
    ),
    "share a text": Malformed(
        _environment("share: lab"),
        "4: environments.myenv.share: expected a mapping such as {group: lab, mode: read},"
        " got 'lab'",
    ),
    "share without a group": Malformed(
        _environment("share: {mode: write}"),
        "4: environments.myenv.share.group: expected the name of a group of users, got nothing",
    ),
    "check": Malformed(
        _environment('check: " "'),
        "4: environments.myenv.check: expected a shell command such as",
    ),
    "check a list": Malformed(
        _environment("check: [python, -c, x]"),
        "4: environments.myenv.check: expected a shell command such as"
        ' python -c "import numpy", got a list',
    ),
    "check_timeout": Malformed(
        _environment("check_timeout: 0s"),
        "4: environments.myenv.check_timeout: expected a duration longer than 0 s",
    ),
    "local absolute": Malformed(
        _environment("local: [/etc/**]"),
        "4: environments.myenv.local[0]: expected a glob of paths inside the environment,"
        " such as share/jupyter/**, got '/etc/**'",
    ),
    "local everything": Malformed(
        _environment('local: ["**"]'), "4: environments.myenv.local[0]: expected a glob of paths"
    ),
    "local what makes it an environment": Malformed(
        _environment("local: [conda-meta/*]"),
        "4: environments.myenv.local[0]: expected a glob that leaves conda-meta/history to the"
        " environment, got 'conda-meta/*'",
    ),
    "share": Malformed(
        _environment("share: {group: lab, mode: all}"),
        "4: environments.myenv.share.mode: expected read or write, got 'all'",
    ),
    "unknown key": Malformed(
        _environment("push-to: [server2]"),
        "4: environments.myenv.push-to: expected one of check, check_timeout, in_use, keep, local,"
        " method, outside, push_to, share, source, watch, got an unknown key;"
        " did you mean 'push_to'?",
    ),
    "long value": Malformed(
        _environment("method: " + "x" * 500),
        f"4: environments.myenv.method: expected auto, mirror, pack or rebuild,"
        f" got '{'x' * 57}...'",
    ),
}

_YAML = {
    name: Malformed(text, f"{line}: expected valid YAML: {words}")
    for name, (text, line, words) in YAML_SLIPS.items()
}
TABLES = {
    "file": WHOLE_FILE,
    "yaml": _YAML,
    "server": SERVER_ENTRIES,
    "environment": ENVIRONMENT_ENTRIES,
}


def _load_text(directory: Path, text: str) -> InventoryError:
    file = directory / "envsync.yaml"
    file.write_text(text)
    with pytest.raises(InventoryError) as caught:
        load(file)
    return caught.value


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{table}: {name}")
        for table, cases in TABLES.items()
        for name, case in cases.items()
    ],
)
def test_the_message_says_where_and_what(case: Malformed, tmp_path: Path) -> None:
    error = _load_text(tmp_path, case.text)
    assert error.message.startswith(f"{tmp_path}/envsync.yaml:{case.message}")
    assert error.exit_code == 2
    assert "envsync config check" in error.hint


def test_all_faults_are_told_in_the_order_of_the_file(tmp_path: Path) -> None:
    error = _load_text(
        tmp_path,
        "prefix: conda\n"
        "servers:\n"
        "  a: {port: x, usr: y}\n"
        "  a: {}\n"
        "environments:\n"
        "  e: {push_to: [b], keep: -1}\n",
    )
    told = [error.message, *error.details]
    assert [
        line.removeprefix(f"{tmp_path}/envsync.yaml:").split(": expected")[0] for line in told
    ] == [
        "1: prefix",
        "3: servers.a.port",
        "3: servers.a.usr",
        "4: servers.a",
        "6: environments.e.keep",
        "6: environments.e.push_to[0]",
    ]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (_environment("source: ../x\n    push_to: [-y]"), 2),
        # What is missing is there, under a name with a slip, or with a tag.
        ("server: {a: {}}\n", 1),
        (_environment("share: {grup: lab}"), 1),
        ("servers: !!set {a, b}\n", 1),
        ("servers:\n  a: {}\n  port: 22\n", 1),
        # But not where the slip is in another place.
        ("servers: {a: {usr: b}}\nenvironments: {e: {share: {mode: read}}}\n", 2),
        ("servers: {'a[1-2': }\nenvironments: {e: {source: a1, push_to: [a2]}}\n", 1),
    ],
)
def test_a_fault_is_told_once(tmp_path: Path, text: str, faults: int) -> None:
    error = _load_text(tmp_path, text)
    assert len([error.message, *error.details]) == faults


def test_many_names_that_nothing_has_take_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A suggestion compares a word with every name: the first faults get one."""
    asked: list[str] = []

    def suggestion(word: str, _: object) -> str:
        asked.append(word)
        return "; near"

    monkeypatch.setattr(names, "suggestion", suggestion)
    targets = ", ".join(f"sorver{number}" for number in range(500))
    error = _load_text(tmp_path, _environment(f"push_to: [{targets}]"))
    told = [error.message, *error.details]
    assert len(told) == 500
    assert 0 < len(asked) == sum(line.endswith("; near") for line in told) < 100


def test_a_server_with_the_name_of_a_key(tmp_path: Path) -> None:
    file = tmp_path / "envsync.yaml"
    file.write_text("servers:\n  share: {host: share.lab.example}\n  user: {}\n")
    assert [server.name for server in load(file).servers] == ["share", "user"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match="there is no such file"):
        load(tmp_path / "envsync.yaml")


def test_missing_inventory_with_a_tilde_has_a_hint_about_the_shell() -> None:
    """As in `--config=~/lab.yaml`, or in a unit of systemd."""
    with pytest.raises(InventoryError, match="there is no such file") as caught:
        load(Path("~/nowhere/lab.yaml"))
    assert "the shell does not expand this ~" in caught.value.hint


def test_directory_in_place_of_an_inventory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match="cannot be read: Is a directory") as caught:
        load(tmp_path)
    assert "name a file that you can read: --config FILE" in caught.value.hint


def test_a_file_of_another_encoding(tmp_path: Path) -> None:
    file = tmp_path / "envsync.yaml"
    file.write_bytes(b"servers:\n  gr\xf6sse: {}\n")
    with pytest.raises(InventoryError, match=r"envsync\.yaml:2: expected text in UTF-8") as caught:
        load(file)
    assert "save it as UTF-8" in caught.value.hint


def test_inventory_that_is_too_large_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "envsync.yaml"
    file.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(InventoryError, match="at most 1 MiB") as caught:
        load(file)
    assert caught.value.hint


def test_an_alias_bomb_is_bounded_where_it_is_read() -> None:
    document = parse(WHOLE_FILE["alias bomb"].text)
    assert document.value is None
    assert [problem.text for problem in document.problems] == [
        f"expected at most {MAX_VALUES} values after following the aliases"
    ]


INVENTORY_LIKE = st.text("servers:\n {}[]-,&*a!|>'\"#\t~<?%@", max_size=80)


@given(st.one_of(INVENTORY_LIKE, st.text(st.characters(exclude_categories=["Cs"]), max_size=80)))
def test_any_text_is_read_or_refused(text: str) -> None:
    document = parse(text)
    assert document.value is not None or document.problems


JSON_LIKE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text("ab@-[]19", max_size=6)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [*InventoryFile.model_fields, *EnvironmentEntry.model_fields, "a", "b"]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=20,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "prefix": JSON_LIKE,
            "servers": st.dictionaries(st.sampled_from(["a", "b", "c[1-2]"]), JSON_LIKE),
            "environments": st.dictionaries(st.sampled_from(["e", "base"]), JSON_LIKE),
            "watch": JSON_LIKE,
        },
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_shape_loads_or_is_an_inventory_error(
    tmp_path: Path, document: dict[str, object]
) -> None:
    file = tmp_path / "envsync.yaml"
    file.write_text(yaml.safe_dump(document))
    try:
        inventory = load(file)
    except InventoryError as error:
        told = [error.message, *error.details]
    else:
        told = []
        assert inventory.servers
    pattern = re.compile(re.escape(str(file)) + r":\d+: (\S+: )?expected ", re.DOTALL)
    assert all(pattern.match(line) for line in told), told
