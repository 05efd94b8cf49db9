"""Rewrites `#!` lines for interpreter paths of any length.

Linux reads 127 bytes of such a line (255 since 5.1) and silently cuts off the rest; a blank
ends the interpreter's path. pip's workaround is a script that is valid for both `/bin/sh` and
Python. In ours the path is in double quotes, which pip uses only for a path with a blank. So a
line that envsync wrote is recognized, and can become a plain one again.
"""

from __future__ import annotations

import posixpath
import re
from typing import Callable

_LINE_BYTES_MAX = 127

_LINE = re.compile(rb"#![ \t]*(\S+)((?:[ \t][^\n]*)?)(\n|\Z)")
_PYTHON = re.compile(rb"(?:python|pypy)[0-9.]*[a-z]*\Z")
_FOR_SH = re.compile(rb"#!/bin/sh\n'''exec' \"([^\"\n]+)\"([^\n\"]*) \"\$0\" \"\$@\"\n' '''\n")
# Characters that `env -S` does not interpret.
_PLAIN = re.compile(rb"[A-Za-z0-9_./=,:+@%-]+")
_SH_BYTES_MAX = 1 << 16


def end(content: bytes) -> int:
    """Return the length of a file's `#!` line, or our lines for `/bin/sh`, in bytes; 0 if none."""
    if not content.startswith(b"#!"):
        return 0
    for_sh = _FOR_SH.match(content[:_SH_BYTES_MAX])
    if for_sh:
        return for_sh.end()
    newline = content.find(b"\n")
    return len(content) if newline < 0 else newline + 1


def relocated(line: bytes, replaced: Callable[[bytes], bytes]) -> bytes:
    """Return a `#!` line with its paths replaced, in a form that the kernel accepts.

    A line in our form for `/bin/sh` becomes a plain one again if that fits.
    """
    plain = replaced(line)
    if plain == line:
        return line
    for_sh = _FOR_SH.fullmatch(line)
    if for_sh:
        interpreter, options = map(replaced, for_sh.groups())
        short = b"#!" + interpreter + options + b"\n"
        return short if _fits(interpreter, short) else plain
    parsed = _LINE.fullmatch(line)
    if parsed is None:
        return plain
    interpreter, options = replaced(parsed.group(1)), replaced(parsed.group(2))
    if _fits(interpreter, plain) or interpreter == parsed.group(1):
        return plain  # the path is only an argument, for which there is no other form
    if _PYTHON.match(posixpath.basename(interpreter)):
        return b"#!/bin/sh\n'''exec' \"%s\"%s \"$0\" \"$@\"\n' '''\n" % (interpreter, options)
    # As conda does: run the first program of that name in PATH.
    return b"#!/usr/bin/env " + _for_env(posixpath.basename(interpreter), options) + parsed.group(3)


def _for_env(name: bytes, options: bytes) -> bytes:
    """Return the arguments of `env` that run a program with `options` as one argument.

    The kernel, too, passes all that follows the interpreter as one argument.
    """
    argument = options.strip(b" \t\r")
    if not argument:
        return name
    if not _PLAIN.fullmatch(argument):
        argument = b"'" + argument.replace(b"\\", b"\\\\").replace(b"'", b"\\'") + b"'"
    return b"-S " + name + b" " + argument


def _fits(interpreter: bytes, line: bytes) -> bool:
    return b" " not in interpreter and len(line) <= _LINE_BYTES_MAX
