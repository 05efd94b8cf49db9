"""The command. `main` is its entry point; nothing heavy is imported before it is needed."""

from __future__ import annotations

import signal

__all__ = ["main"]


def main() -> None:
    """The console script. Does not return."""
    # Importing may take seconds from a cold network filesystem, and nothing has to be told of an
    # end that comes before there is anything to resume. `entry` takes the signal from then on.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from envsync.cli.run import entry

    entry.main()
