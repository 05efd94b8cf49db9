"""Names, durations and rates: what is taken, what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.inventory import bits_per_second, duration_seconds, environment_name, names


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10.0),
        ("10 s", 10.0),
        ("90", 90.0),
        ("1.5", 1.5),
        ("500ms", 0.5),
        ("5m", 300.0),
        ("5min", 300.0),
        ("1h", 3600.0),
        ("1h30m", 5400.0),
        ("1h 30m 5s", 5405.0),
        ("2d", 172800.0),
        ("0s", 0.0),
    ],
)
def test_duration_is_read(text: str, seconds: float) -> None:
    assert duration_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "soon", "-1s", "10x", "s", "1e9s", "10s,", "inf", "nan", "400d"]
)
def test_text_that_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a duration"):
        duration_seconds(text)


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("200Mbit", 200_000_000),
        ("200 mbit/s", 200_000_000),
        ("1Gbit", 1_000_000_000),
        ("1.5Gbit", 1_500_000_000),
        ("64kbit", 64_000),
        ("25MB", 200_000_000),
        ("25MB/s", 200_000_000),
        ("8000bit", 8_000),
    ],
)
def test_rate_is_read(text: str, bits: int) -> None:
    assert bits_per_second(text) == bits


@pytest.mark.parametrize(
    "text", ["", "200", "200M", "200Mb", "fast", "-1Mbit", "0Mbit", "1bit", "1e3Mbit"]
)
def test_text_that_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a rate"):
        bits_per_second(text)


Table = dict[Callable[[str], str], list[str]]

SAFE: Table = {
    names.server_name: [
        "server1",
        "gpu03",
        "1",
        "a.b-c_d",
        "::1",
        "2001:db8::1",
        "fe80::1%eth0",
        "größe",
    ],
    names.group_name: ["gpu", "a.b", "2024"],
    names.environment_name: ["myenv", "py3.11", "a_b-c", "_x", "größe", "x" * 200],
    names.host: ["server1", "gpu02.lab.example", "192.0.2.7", "::1"],
    names.user: ["alice", "a", "_svc", "alice.b", "alice@corp.example", "CORP\\alice", "host$"],
    names.jump: ["bastion", "alice@bastion", "bastion:2222", "a@b:22,c", "[2001:db8::1]:22"],
    names.prefix: ["/opt/conda", "/a b/c"],
    names.local_glob: ["share/jupyter/**", "**/*.nbi", "conda-meta/state", "*.log"],
}

UNSAFE: Table = {
    names.server_name: [
        "",
        "-x",
        ".x",
        "a/b",
        "a b",
        "a\nb",
        "a\0b",
        "@x",
        "a,b",
        "a[1]",
        "a;b",
        "$(x)",
        "a'b",
    ],
    names.group_name: ["", "-x", "a/b", "@gpu", "a b", "a[1]"],
    names.environment_name: [
        "",
        "base",
        ".",
        "..",
        "-x",
        ".hidden",
        "a/b",
        "a b",
        "a\tb",
        "a\nb",
        "a\0b",
        "a\x1b[2J",
        "a:b",
        "a#b",
        "x" * 201,
        "\u202eabc",
        "\udcff",
    ],
    names.host: [
        "",
        "-oProxyCommand=x",
        "a b",
        "a/b",
        "a@b",
        "a:22",
        "42",
        "true",
        "null",
        "`x`",
        "a\nb",
        "x" * 254,
    ],
    names.user: ["", "-x", "a b", "a;b", "a\\", "a'b", "a\nb"],
    names.jump: ["", ",", "a,,b", "-x", "a:0", "a:65536", "a:x", "a b", "@b", "-x@b", "[::1"],
    names.prefix: [
        "",
        "conda",
        "~/conda",
        "/",
        "//",
        "/a\nb",
        "/a\0b",
        "/a/../b",
        "/" + "x" * 1100,
    ],
    names.local_glob: [
        "",
        "*",
        "**",
        "**/*",
        "/etc/**",
        "../x",
        "a/../b",
        "a//b",
        "./a",
        "a\nb",
        "conda-meta",
        "conda-meta/**",
        "**/h*",
    ],
}


def _cases(
    table: Table,
) -> list[tuple[Callable[[str], str], str]]:
    return [(check, text) for check, texts in table.items() for text in texts]


@pytest.mark.parametrize(("check", "text"), _cases(SAFE))
def test_safe_name_is_taken_as_it_is(check: Callable[[str], str], text: str) -> None:
    assert check(text) == text


@pytest.mark.parametrize(("check", "text"), _cases(UNSAFE))
def test_unsafe_name_is_refused(check: Callable[[str], str], text: str) -> None:
    with pytest.raises(ValueError, match=r"^an? |^jump hosts"):
        check(text)


@pytest.mark.parametrize("text", ["/opt/conda/", "//opt/conda", "/opt//conda", "/opt/./conda"])
def test_a_prefix_has_one_spelling(text: str) -> None:
    assert names.prefix(text) == "/opt/conda"


def test_hops_are_told_apart_by_commas_alone() -> None:
    assert names.jump("alice@a:22 , b") == "alice@a:22,b"


@given(st.text(max_size=40))
def test_no_safe_name_leaves_its_directory_or_looks_like_an_option(text: str) -> None:
    for check in (names.server_name, names.group_name, environment_name):
        try:
            name = check(text)
        except ValueError:
            continue
        assert name not in ("", ".", "..", "base") or check is not environment_name
        assert "/" not in name
        assert not name.startswith(("-", "."))
        assert name.isprintable()
