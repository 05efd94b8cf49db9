"""Asks the source ahead of need, while a push goes on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from envsync.errors import EnvsyncError


class Meanwhile:
    """Threads that ask the source for what it then has ready for whoever needs it."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []

    def ask(self, question: Callable[[], object]) -> None:
        """Ask in a thread. Errors are ignored: whoever needs the answer meets them."""

        def ask_in_vain() -> None:
            with contextlib.suppress(EnvsyncError, OSError):
                question()

        thread = threading.Thread(target=ask_in_vain, daemon=True)
        thread.start()
        self._threads.append(thread)

    def end(self) -> None:
        """Wait for the threads; after that, the source's helper processes may be ended."""
        for thread in self._threads:
            thread.join()
