"""SIGTERM and SIGUSR1 ask a job to end; before training begins, and where nothing would be lost, it
ends at once.

Nothing heavy is imported here, so that a job is ready for them from its first moments on.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from tracking.errors import Postponed

PREEMPTED = 85  # the exit code that says: start me again with --resume_from_checkpoint latest
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
EARLY = "asked to end before the first step"


class Stop(Exception):
    """A job that ends early: one line for its user, and the exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def heed() -> None:
    """Until training begins, the signals end the job at once. They are for the job alone:
    processes forked from it are left to end as usual."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        print(f"sparks: {EARLY}", file=sys.stderr)
        sys.exit(PREEMPTED)

    def leave() -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)

    for number in SIGNALS:
        signal.signal(number, end)
    os.register_at_fork(after_in_child=leave)


@contextmanager
def ended_at_once() -> Iterator[None]:
    """For its time the signals raise `Postponed`: for work whose results are kept as they come."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise Postponed

    before = {number: signal.signal(number, end) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
