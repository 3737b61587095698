"""Ctrl-C and SIGTERM as a question that a loop can ask when it suits."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether a signal came; a second one ends the process at once.

    For the main thread; the handlers that were there come back afterwards.
    """
    seen = []

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        for one in SIGNALS:
            signal.signal(one, signal.SIG_DFL)

    before = [signal.signal(one, note) for one in SIGNALS]
    try:
        yield lambda: bool(seen)
    finally:
        for one, handler in zip(SIGNALS, before, strict=True):
            signal.signal(one, handler)


def ignore_signals() -> None:
    """Leave Ctrl-C and SIGTERM, which may reach every process of a group, to the parent process."""
    for one in SIGNALS:
        signal.signal(one, signal.SIG_IGN)
