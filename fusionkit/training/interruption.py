"""Ctrl-C and SIGTERM ask for a stop; training saves itself at the next step and leaves."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from fusionkit.core.errors import FusionkitError


class Interrupted(FusionkitError):
    """Training was asked to stop and has saved itself.

    Attributes:
        exit_code: what the process should end with: 130 after Ctrl-C, 143 after SIGTERM.
    """

    def __init__(self, number: int) -> None:
        super().__init__("stopped on request; the run is saved and goes on with --resume")
        self.exit_code = 128 + number


class StopRequest:
    """Whether somebody asked for a stop."""

    def __init__(self) -> None:
        self.signal = 0

    def __bool__(self) -> bool:
        return self.signal != 0


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn SIGINT and SIGTERM into a `StopRequest`; a second one ends the process as usual.

    Signals reach the main thread alone: in another, nobody asks.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:
        if request:
            signal.signal(number, before[signal.Signals(number)])
            signal.raise_signal(number)
        request.signal = number

    for number in before:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
