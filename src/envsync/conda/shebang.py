"""Rewrites `#!` lines for interpreter paths of any length.

Linux reads 127 bytes of such a line (255 since 5.1) and silently cuts off the rest; a blank
ends the interpreter's path. A line that would not work gets another form, which runs the same
interpreter, and from which the line can be made again.

For Python, it is pip's: a script that is valid for both `/bin/sh` and Python. In ours the path is
in double quotes, which pip uses only for a path with a blank.

For others, `env -S` runs a shell, which reads the path from the end of the line. It does not
matter where the kernel cuts that off, because to `env` it is a comment. To the interpreter, all
of the line is one, as before.
"""

from __future__ import annotations

import posixpath
import re
from typing import Callable

_LINE_BYTES_MAX = 127

_LINE = re.compile(rb"#!([ \t]*)(\S+)((?:[ \t][^\n]*)?)(\n|\Z)")
_PYTHON = re.compile(rb"(?:python|pypy)[0-9.]*[a-z]*\Z")
_FOR_SH = re.compile(
    rb"#!([ \t]*)/bin/sh\n'''exec' \"([^\"\n]+)\"([^\n\"]*) \"\$0\" \"\$@\"\n' '''(\n|\Z)"
)
_ENV = (
    b"#!/usr/bin/env -S /bin/sh -c "
    rb"""'read -r _l<"$0"; eval exec "${_l##* #!}" \"\$0\" \"\$@\"' #!"""
)
_FOR_ENV = re.compile(re.escape(_ENV) + rb"([ \t]*)\"([^\"\n]+)\"((?:[ \t][^\n]*)?)(\n|\Z)")
# Options that mean to a shell what they mean to the kernel.
_PLAIN = re.compile(rb"[A-Za-z0-9_./=,:+@%-]*")
_QUOTED = re.compile(rb"([ \t]+)'(.*)'([ \t\r]*)")
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

    A line in one of our forms becomes a plain one again if that fits.
    """
    there = replaced(line)
    if there == line:
        return line
    ours = _FOR_SH.fullmatch(line) or _FOR_ENV.fullmatch(line)
    parsed = ours or _LINE.fullmatch(line)
    if parsed is None:
        return there
    blanks, before, options, newline = parsed.groups()
    interpreter, options = replaced(before), replaced(_unquoted(options) if ours else options)
    plain = b"#!%s%s%s%s" % (blanks, interpreter, options, newline)
    if b" " not in interpreter and len(plain) <= _LINE_BYTES_MAX:
        return plain
    if ours or interpreter == before:
        return there  # a path that is only an argument has no other form
    options = _quoted(options)
    if _PYTHON.match(posixpath.basename(interpreter)):
        form = b"#!%s/bin/sh\n'''exec' \"%s\"%s \"$0\" \"$@\"\n' '''%s"
        return form % (blanks, interpreter, options, newline)
    return b'%s%s"%s"%s%s' % (_ENV, blanks, interpreter, options, newline)


def _quoted(options: bytes) -> bytes:
    """Return options so that a shell, too, passes them on as one argument."""
    argument = options.strip(b" \t\r")
    if _PLAIN.fullmatch(argument):
        return options
    return options.replace(argument, b"'%s'" % argument.replace(b"'", rb"'\''"))


def _unquoted(options: bytes) -> bytes:
    quoted = _QUOTED.fullmatch(options)
    if quoted is None:
        return options
    before, argument, after = quoted.groups()
    return before + argument.replace(rb"'\''", b"'") + after
