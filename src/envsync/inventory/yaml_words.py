"""The YAML parser's complaints in plain words: which line to correct, and how.

The parser reports what its grammar expected; the person has forgotten a colon.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import yaml

# The first pattern found in the parser's context and problem, joined, applies. `{}` is what a group
# matched, `{line}` the line where the construct begins that the parser was reading.
_MEANINGS: tuple[tuple[str, str], ...] = (
    (r"'\\t' that cannot start", "a tab, where only spaces can be"),
    (r"found character '@' that cannot start", 'a group needs quotes, as in "@gpu"'),
    (r"found character '(.)' that cannot start", "a text that begins with {} needs quotes"),
    (r"scanning an alias", 'a text that begins with * needs quotes, as in "*.log"'),
    (r"scanning an anchor", "a text that begins with & needs quotes"),
    (r"(?:scanning|parsing) a tag", "a text that begins with ! needs quotes"),
    (r"scanning a block scalar", "a text that begins with | or > needs quotes"),
    (r"mapping keys are not allowed", "a text that begins with ? needs quotes"),
    (
        r"found undefined alias '(.+)'",
        "no value has the anchor &{}; a text that begins with * needs quotes",
    ),
    (r"found duplicate anchor '(.+)';", "the anchor &{} is defined twice; first on line {line}"),
    (r"quoted scalar found unexpected", "the quote that opens here is never closed"),
    (
        r"found unknown escape character",
        "inside \"...\" a backslash is written \\\\; inside '...' it needs no escape",
    ),
    (
        r"mapping values are not allowed",
        (
            "an unexpected colon: this line is indented too far, it or the one above lacks its "
            "own, or a text with a colon needs quotes"
        ),
    ),
    (r"could not find expected ':'", "a key without a colon and a space after it"),
    (
        r"sequence entries are not allowed",
        "a list on the line of its key is written [one, two]; with -, it begins on the next line",
    ),
    (
        r"expected <block end>, but found '(?:<block \w+ start>|\?)'",
        "this line is not indented like the others of its block, which begins on line {line}",
    ),
    (r"expected <block end>, but found '-'", "a list item (-) among keys"),
    (
        r"expected <block end>, but found '<scalar>'",
        "text after a closing quote or bracket; a text with \" in it goes between '...'",
    ),
    (r"expected <block end>, but found '([]}])'", "a {} without its opening bracket"),
    (r"'<document start>', but found '<block", "this line is indented less than the first one"),
    (r"parsing a flow node expected .*'<stream end>'", "a bracket is never closed"),
    (r"parsing a flow .* expected .*'<stream end>'", "the bracket that opens here is never closed"),
    (
        r"parsing a flow (?:mapping|sequence) expected",
        "a comma is missing, or the bracket that opens on line {line} is not closed",
    ),
    (r"expected the node content, but found '([-?])'", "a text that begins with {} needs quotes"),
    (r"expected the node content, but found (.+)", "there is no value before {}"),
    (r"but found another document", "a second inventory begins here, with ---"),
)


def yaml_complaint(text: str, error: yaml.MarkedYAMLError) -> tuple[int, str]:
    """Return the line (from 1) and the text that completes "expected valid YAML: "."""
    mark = error.problem_mark or error.context_mark
    began = error.context_mark
    complaint = " ".join(part.strip() for part in (error.context, error.problem) if part)
    if began is not None and (
        mark is None
        or mark.index >= len(text.rstrip())  # what is never closed is corrected where it begins
        or "could not find expected ':'" in complaint  # the parser looks for it up to the next line
    ):
        mark = began
    line = 1 if mark is None else mark.line + 1
    return line, _slip(text, error) or _meaning(
        complaint, line if began is None else began.line + 1
    )


def _slip(text: str, error: yaml.MarkedYAMLError) -> str | None:
    """Return the text about two likely mistakes that the parser does not name, or None."""
    mark = error.problem_mark
    if mark is None:
        return None
    indentation = text[text.rfind("\n", 0, mark.index) + 1 :]
    if "\t" in indentation[: len(indentation) - len(indentation.lstrip(" \t"))]:
        return "a line is indented with a tab; use spaces"
    if text[mark.index : mark.index + 1] == "[" and "flow" in (error.context or ""):
        return 'a range inside [ ] or { } needs quotes, as in ["gpu[03-08]"]'
    return None


def _meaning(message: str, line: int) -> str:
    for pattern, words in _MEANINGS:
        match = re.search(pattern, message)
        if match is not None:
            return words.format(*match.groups(), line=line)
    return message
