"""What the agent tells of work under way, by calling functions that it was given."""

from __future__ import annotations

from typing import Callable

Progress = Callable[[int], None]
"""Is called with the bytes hashed, copied or freed since the last call."""

ContentsProgress = Callable[[int, int], None]
"""Is called with the files, and the bytes of their contents, sent since the last call."""

OnStep = Callable[[str], None]
"""Is called with the name of a step that begins."""

SWITCH, RECOVERED = "switch", "recovered"
"""From the first of these steps until the second, or until the answer, a lost link does not end
the agent."""
