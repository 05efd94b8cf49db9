"""What the transports are called, for who only names one: importing them all takes 0.04 s."""

from __future__ import annotations

AUTO = "auto"
STREAM, RSYNC, SCP = "stream", "rsync", "scp"
NAMED = (STREAM, RSYNC, SCP)
"""Those that a command line may name, the preferred one first."""
DIRECT = "direct"
"""From a source on another server straight to the target; taken by itself."""
