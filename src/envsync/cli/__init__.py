"""The command. `main` is its entry point; modules are imported only when they are needed."""

from __future__ import annotations

import signal

__all__ = ["main"]


def main() -> None:
    """Run the console script; does not return."""
    # Importing may take seconds on a cold network filesystem. Ctrl-C then needs no message, because
    # there is nothing to resume. `entry` handles the signal afterwards.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from envsync.cli.run import entry

    entry.main()
