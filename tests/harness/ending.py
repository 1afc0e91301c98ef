# SPDX-License-Identifier: Apache-2.0
"""How a program that started others ends: by Ctrl-C, SIGTERM, a closed terminal, or the end of what started it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Ending:
    """Turns the first signal that ends a program into a ``KeyboardInterrupt``; later ones change nothing.

    What cleans up is thus never interrupted itself: a terminal and tox both send SIGINT, and people press Ctrl-C twice.
    """

    def __init__(self) -> None:
        self._held = self._pending = False

    def listen(self) -> None:
        """Handle the signals from now on."""
        for each in SIGNALS:
            signal.signal(each, self._handle)

    def ignore(self) -> None:
        """Let no signal interrupt what follows."""
        for each in SIGNALS:
            # Not SIG_IGN, which processes that are started would inherit.
            signal.signal(each, lambda *_: None)

    def _handle(self, *_: object) -> None:
        self.ignore()
        if self._held:
            self._pending = True
        else:
            raise KeyboardInterrupt

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold a signal back while something is being started, so that it is known and can be ended."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._pending:
            raise KeyboardInterrupt

    def follow_parent(self, pause: float = 0.5) -> None:
        """End with the process that started this one: tox ends at a SIGTERM without passing it on."""
        parent = os.getppid()

        def watch() -> None:
            while os.getppid() == parent:
                time.sleep(pause)
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=watch, daemon=True).start()
