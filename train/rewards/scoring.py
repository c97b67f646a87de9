"""A reward function in a process of its own: one that hangs or raises spoils no run.

A call that takes too long, or raises, is made again for each completion by itself; where that fails
too the completion is not scored (None, as TRL has it), which is counted and told.
"""

from __future__ import annotations

import atexit
import ctypes
import logging
import multiprocessing
import signal
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch

from tracking.errors import BadInput

log = logging.getLogger(__name__)

PATIENCE = 3  # completions of one batch that may take too long before the rest is given up
START = 600.0  # seconds in which a process must have imported its reward function
DIES_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG


class Fault(Exception):
    """A reward function failed on what it was given."""


class Scorer:
    """A reward for TRL that calls `make()`'s function elsewhere, for at most `seconds` a call; what
    `make()` itself imports does not count.

    It is given and logs what the function itself would be given and log. Raises `BadInput` where
    the function fails on every completion of its first batch: it is broken then.
    """

    def __init__(self, name: str, make: Callable[[], Callable], seconds: float) -> None:
        self.__name__ = name
        self.make, self.seconds = make, seconds
        self.faults = 0  # completions not scored so far
        self.called = False
        self.process: Any = None
        self._start()
        atexit.register(self.close)  # or the exit would wait for it: it ignores SIGTERM

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        log_extra: Callable[[str, list], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        trainer_state: Any = None,
        **columns: Any,
    ) -> list[float | None]:
        """The rewards of a batch, in order; None for what cannot be scored."""
        columns |= {"prompts": prompts, "completions": completions}
        size = len(completions)
        try:
            scores, extras, metrics = self._ask(columns, trainer_state, size)
        except Fault as fault:
            scores, extras, metrics = self._one_by_one(columns, trainer_state, size, fault)
        self.called = True
        for column, values in extras.items():
            if log_extra is not None:
                log_extra(column, values)
        if self.faults:
            metrics.append((f"reward_faults/{self.__name__}", float(self.faults)))
        for metric, value in metrics:
            if log_metric is not None:
                log_metric(metric, value)
        return scores

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.connection.close()
            self.process = None

    def _one_by_one(
        self, columns: dict[str, Any], state: Any, size: int, fault: Fault
    ) -> tuple[list[float | None], dict[str, list], list[tuple[str, float]]]:
        scores: list[float | None] = [None] * size
        extras: dict[str, list] = {}
        metrics: list[tuple[str, float]] = []
        slow, failed = 0, 0
        for place in range(size):
            one = {name: _only(values, place, size) for name, values in columns.items()}
            try:
                if slow >= PATIENCE:
                    raise Fault("given up")
                (scores[place],), extra, metric = self._ask(one, state, 1)
            except TimedOut as late:
                slow, failed, fault = slow + 1, failed + 1, late
            except Fault as other:
                failed, fault = failed + 1, fault if slow >= PATIENCE else other
            else:
                metrics += metric
                for name, values in extra.items():
                    extras.setdefault(name, [None] * size)[place : place + 1] = values
        if failed == size and not self.called:
            raise BadInput(f"reward {self.__name__!r} fails on every completion: {fault}")
        self.faults += failed
        if not failed:  # all together it cannot do, one by one it can
            return scores, extras, metrics
        log.warning(
            "reward %s: %d of %d completions could not be scored (%s); %d so far",
            *(self.__name__, failed, size, fault, self.faults),
        )
        return scores, extras, metrics

    def _ask(
        self, columns: dict[str, Any], state: Any, size: int
    ) -> tuple[list[float | None], dict[str, list], list[tuple[str, float]]]:
        if self.process is None:
            self._start()
        try:
            if not self.ready:
                self._receive(START)
                self.ready = True
            self._send((columns, state))
            error, scores, extras, metrics = self._receive(self.seconds)
        except (EOFError, OSError) as gone:
            self.close()
            raise Fault(f"its process ended: {str(gone) or 'killed'}") from None
        if error is None and len(scores) != size:
            error = f"{len(scores)} rewards for {size} completions"
        for column, values in extras.items():
            if error is None and len(values) != size:
                error = f"log_extra of {column!r} has {len(values)} values for {size} completions"
        if error is not None:
            raise Fault(error)
        return scores, extras, metrics

    def _send(self, question: Any) -> None:
        """A process that does not read is ended, or a batch larger than the pipe would wait
        forever."""
        late = threading.Event()

        def end(process: Any) -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self.seconds, end, [self.process])
        timer.start()
        try:
            self.connection.send(question)
        except OSError:
            if not late.is_set():
                raise
            self.close()
            raise TimedOut(f"it did not read its batch in {self.seconds:g} s") from None
        finally:
            timer.cancel()

    def _receive(self, seconds: float) -> Any:
        if not self.connection.poll(seconds):
            self.close()
            raise TimedOut(f"it took longer than {seconds:g} s")
        return self.connection.recv()

    def _start(self) -> None:
        self.ready = False
        # A fork is ready at once, but cannot use a GPU that this process uses already.
        used = torch.cuda.is_available() and torch.cuda.is_initialized()
        context: Any = multiprocessing.get_context("spawn" if used else "fork")
        self.connection, theirs = context.Pipe()
        own = None if used else self.connection
        self.process = context.Process(target=_serve, args=(theirs, own, self.make), daemon=True)
        self.process.start()
        theirs.close()


class TimedOut(Fault):
    """A reward function took too long."""


def _only(values: Any, place: int, size: int) -> Any:
    """One completion's part of a column; what is no column stays as it is."""
    per_completion = isinstance(values, list | tuple) and len(values) == size
    return [values[place]] if per_completion else values


def _serve(connection: Connection, parents: Connection | None, make: Callable) -> None:
    """The other process: score what comes, until nobody is there to ask."""
    ctypes.CDLL(None).prctl(DIES_WITH_PARENT, signal.SIGKILL)
    if parents is not None:
        parents.close()  # or this process would never see that the other end is gone
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # meant for the trainer, which says when to end
    torch.set_num_threads(1)
    function = make()
    connection.send("ready")
    while True:
        try:
            columns, state = connection.recv()
        except (EOFError, OSError):
            return
        answer = _score(function, columns, state)
        try:
            connection.send(answer)
        except Exception as error:  # what it logged cannot be sent
            connection.send((_one_line(error), [], {}, []))


def _score(function: Callable, columns: dict[str, Any], state: Any) -> tuple:
    extras: dict[str, list] = {}
    metrics: list[tuple[str, float]] = []

    def log_extra(column: str, values: list) -> None:
        extras.setdefault(column, []).extend(values)

    def log_metric(name: str, value: float) -> None:
        metrics.append((name, float(value)))

    try:
        values = function(
            **columns, trainer_state=state, log_extra=log_extra, log_metric=log_metric
        )
        scores = [None if value is None else float(value) for value in values]
    except BaseException as error:  # also what would end the process
        return (_one_line(error), [], {}, [])
    return (None, scores, extras, metrics)


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
