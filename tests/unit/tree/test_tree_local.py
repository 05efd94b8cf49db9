"""Globs of `local:`: what belongs to each server, and what must not."""

from __future__ import annotations

import re

import pytest

from envsync.tree.local import DEFAULT_LOCAL, LocalPaths


@pytest.mark.parametrize(
    ("pattern", "path", "is_local"),
    [
        # a plain path is itself, and everything below it
        ("conda-meta/state", "conda-meta/state", True),
        ("conda-meta/state", "conda-meta/state/x", True),
        ("conda-meta/state", "conda-meta/states", False),
        ("conda-meta/state", "lib/conda-meta/state", False),
        ("state", "state", True),
        ("state", "a/state", False),
        ("/state/", "state", True),
        # * and ? stay inside a component
        ("var/*", "var/a", True),
        ("var/*", "var/a/b", True),  # below a local directory
        ("var/*", "var", False),
        ("*.log", "a.log", True),
        ("*.log", "a/b.log", False),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("a*c/x", "a/c/x", False),
        ("*/x", "a/x", True),
        ("*/x", "a/b/x", False),
        # ** spans any number of them
        ("share/**", "share/a/b", True),
        ("share/**", "share", True),
        ("share/**", "shares", False),
        ("**/x", "x", True),
        ("**/x", "a/b/x", True),
        ("**/x", "ax", False),
        ("a/**/x", "a/x", True),
        ("a/**/x", "a/b/c/x", True),
        ("a/**/x", "ab/x", False),
        ("**", "anything/at/all", True),
        ("**/b/**", "a/b", True),
        ("**/b/**/c/d", "b/c/d", True),
        ("**/b/**/c/d", "a/b/x/y/c/d", True),
        # classes
        ("[ab]x", "ax", True),
        ("[ab]x", "cx", False),
        ("[!ab]x", "cx", True),
        ("[!ab]x", "ax", False),
        ("[a-c]x", "bx", True),
        ("[a!]x", "!x", True),
        ("[a!]x", "^x", False),
        ("[^a]x", "^x", True),
        ("[^a]x", "bx", False),
        ("[]]x", "]x", True),
        ("[!]]x", "]x", False),
        ("[z-a]x", "bx", False),
        ("[a-]x", "-x", True),
        ("[--9]x", "5x", True),
        ("[&&]x", "&x", True),
        ("[[]x", "[x", True),
        ("[x", "[x", True),
        ("[!a]/x", "b/x", True),
        ("d[!a]d/x", "d/d/x", False),  # a class matches no slash
        ("[ü]", "ü", True),
        ("[!ü]", "a", True),
        # nothing of a regular expression
        ("a.b", "axb", False),
        ("a+", "aa", False),
        ("(a|b)", "a", False),
        ("a\\b", "a\\b", True),
        ("$HOME", "$HOME", True),
        ("{a,b}", "a", False),
        # odd names
        ("a*b", "a\nb", True),
        ("a b", "a b", True),
        ("ü*", "üx", True),
        ("", "a", False),
        ("/", "a", False),
    ],
)
def test_pattern_matches_as_documented(pattern: str, path: str, is_local: bool) -> None:
    assert LocalPaths([pattern]).matches(path.encode()) is is_local


@pytest.mark.parametrize(
    ("path", "is_local"),
    [
        (b"conda-meta/state", True),
        (b"conda-meta/history", False),
        (b"conda-meta/numpy-1.0-0.json", False),
        (b"var/cache/fontconfig/CACHEDIR.TAG", True),
        (b"var/cache", False),
        (b"lib/python3.11/site-packages/x/__pycache__/f.f-12.py311.nbi", True),
        (b"lib/python3.11/site-packages/x/__pycache__/f.f-12.py311.1.nbc", True),
        (b"lib/python3.11/site-packages/x/__pycache__/f.cpython-311.pyc", False),
        (b"lib/f.nbi", False),
        (b"etc/jupyter/migrated", True),
        (b"etc/jupyter/jupyter_config.json", False),
        (b"share/jupyter/lab/settings/page_config.json", True),
        (b"share/jupyter/lab/static/index.html", False),
    ],
)
def test_shipped_patterns_match_caches_and_settings_only(path: bytes, is_local: bool) -> None:
    assert LocalPaths(DEFAULT_LOCAL).matches(path) is is_local


def test_bytes_that_are_no_text() -> None:
    assert LocalPaths(["*.log"]).matches(b"\xff\xfe.log")
    assert LocalPaths([b"\xff*".decode("utf-8", "surrogateescape")]).matches(b"\xffx")


def test_without_patterns_nothing_is_local() -> None:
    none = LocalPaths([])
    assert not none.matches(b"conda-meta/state")
    assert none.names(b"conda-meta") is None


def test_names_is_none_where_no_name_can_be_local() -> None:
    """What lets a scan pass through most directories without a look at their names."""
    local = LocalPaths(["a/b/*.log"])
    assert local.names(b"") is None
    assert local.names(b"a") is None
    names = local.names(b"a/b")
    assert isinstance(names, re.Pattern)
    assert names.fullmatch(b"x.log")
    assert not names.fullmatch(b"x.txt")


def test_the_deepest_path_there_can_be() -> None:
    assert LocalPaths(["a/**"]).matches(b"/".join([b"a"] * 2047))
    assert not LocalPaths(["b/**"]).matches(b"/".join([b"a"] * 2047))
