"""How much of a job's time tracking takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Keeps tracking within its share of the time since the clock was made.

    Monotonic: a wall clock that is set anew changes nothing.
    """

    def __init__(self, budget: float = 1.0) -> None:
        self.budget = budget
        self.began = time.monotonic()
        self.since: float | None = None  # when what is running began
        self.spent = self.last = 0.0  # seconds, in all and by the last analysis

    @contextmanager
    def running(self) -> Iterator[None]:
        """Counts the time inside."""
        self.since = time.monotonic()
        try:
            yield
        finally:
            self.last = time.monotonic() - self.since
            self.spent += self.last
            self.since = None

    @property
    def share(self) -> float:
        """What ran of the time that passed, from 0 to 1, also while it is running."""
        now = time.monotonic()
        ongoing = 0.0 if self.since is None else now - self.since
        return (self.spent + ongoing) / max(now - self.began, 1e-9)

    @property
    def over(self) -> bool:
        """Whether another analysis as long as the last would go past the budget."""
        passed = time.monotonic() - self.began + self.last
        return self.budget < 1 and self.spent + self.last > self.budget * passed
