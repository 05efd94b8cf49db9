"""The names of the transports, kept apart because importing the transports takes 0.04 s."""

from __future__ import annotations

AUTO = "auto"
STREAM, RSYNC, SCP = "stream", "rsync", "scp"
NAMED = (STREAM, RSYNC, SCP)
"""The names that a command line can give, the preferred one first."""
DIRECT = "direct"
"""From a source on another server directly to the target; never named by a person."""
