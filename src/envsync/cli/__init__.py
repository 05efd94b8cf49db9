"""The command. `main` is its entry point; heavy imports wait until they are needed."""

from __future__ import annotations

import signal

__all__ = ["main"]


def main() -> None:
    """Run the console script; does not return."""
    # Importing may take seconds on a cold network filesystem, and an interruption needs no message
    # before there is anything to resume. `entry` handles the signal from then on.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from envsync.cli.run import entry

    entry.main()
