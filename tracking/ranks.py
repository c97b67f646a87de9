"""Several processes of one training: one of them works alone while the others wait for it, or lend
it a hand where all hold the model that it analyses.

They cannot wait in a collective of the training: it ends the job after a limit (by default half an
hour) that a long analysis or a large checkpoint exceeds. They wait in a group of their own, over
gloo, whose limit nothing meets. It is no endless wait: the connections of a process that dies are
closed, and those that wait for it are told at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from itertools import zip_longest
from operator import itemgetter
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from tracking.errors import BadInput

LONGEST = timedelta(days=7)

T = TypeVar("T")


@dataclass(frozen=True)
class _End:
    """What the main process says last."""

    failed: bool = False
    mistake: bool = False  # of a user's
    message: str = ""


@contextmanager
def alone(main: bool, help: Callable[[Any], None] | None = None) -> Iterator[bool]:
    """Only the `main` process, which is rank 0, is given True and works, once all have come and
    their files are there; the others wait until it is done. All processes must enter. What the main
    process asks for meanwhile (`Peers.together`) the others `help` with.

    What is raised in it is raised in all: a `BadInput` as such, anything else as a `RuntimeError`
    in the others. A process that dies while it is waited for is one too.
    """
    if not (dist.is_available() and dist.is_initialized()):
        yield main
        return
    group = _patient(dist.group.WORLD)
    dist.barrier(group)
    end: Any = _End()
    try:
        yield main
    except PeerLost as lost:
        end = _End(True, message=str(lost))
        raise RuntimeError(str(lost)) from lost
    except BaseException as error:
        end = _End(True, isinstance(error, BadInput), str(error) or type(error).__name__)
        raise
    finally:
        end = _sent(end, group)
        while not isinstance(end, _End):
            assert help is not None
            with suppress(Exception, PeerLost):  # the main process hears of it
                help(end)
            end = _sent(None, group)
    if end.failed and not main:
        raise BadInput(end.message) if end.mistake else PeerFailed(0, end.message)


class PeerFailed(RuntimeError):
    """Another process failed, in what was done together or was waited for."""

    def __init__(self, rank: int, message: str) -> None:
        who = f"process {rank}" if rank else "the main process"
        super().__init__(f"{who} failed: {message}")


class NoRoom(PeerFailed):
    """Memory ran out in one of the processes; all are still at the same place."""


class PeerLost(BaseException):
    """Another process has died: no failure of what was done, so nothing swallows it."""


@dataclass
class Peers:
    """The processes that make one analysis together: each holds the whole model, runs the batches
    that are dealt to it, and learns what comes out of all of them.

    All must ask the same in the same order. What is `sheltered` is not broken off by a signal.
    """

    group: Any
    rank: int
    count: int
    sheltered: Callable[[], AbstractContextManager[None]] = nullcontext
    within: bool = False  # an analysis that no process has left

    @classmethod
    def of_world(
        cls, sheltered: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> Peers | None:
        """All processes; None where there is one."""
        if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
            return None
        group = _patient(dist.group.WORLD)
        return cls(group, dist.get_rank(), dist.get_world_size(), sheltered)

    @contextmanager
    def together(self, asked: Any = None) -> Iterator[None]:
        """Within it these processes ask each other. The main one has the others come, with what is
        `asked` of them (`alone`), where it is anything. What is raised by one ends it for all."""
        try:
            with self.sheltered():
                if asked is not None and self.rank == 0:
                    _sent(asked, self.group)
                self.within = True
            yield
        except PeerLost:
            raise
        except BaseException as error:
            if self.within:
                self._exchanged(_Share(failure=str(error) or type(error).__name__))
            raise
        else:
            self.gathered(lambda: None)
        finally:
            self.within = False

    def each(self, owners: Sequence[int], make: Callable[[int], T]) -> Iterator[tuple[int, T]]:
        """The numbers of batches, with what `make` gives for each in the process whose rank is the
        batch's owner; a batch of each process at a time. Tensors must be on the CPU."""
        batches = list(enumerate(owners))
        dealt = ([at for at, owner in batches if owner == rank] for rank in range(self.count))
        for numbers in zip_longest(*dealt):
            mine = numbers[self.rank]
            results = self.gathered(lambda at=mine: None if at is None else make(at))
            of_round = zip(numbers, results, strict=True)
            yield from sorted((one for one in of_round if one[0] is not None), key=itemgetter(0))

    def of_main(self, make: Callable[..., T], *given: Any) -> T:
        """What `make(*given)` gives in the main process."""
        return self.gathered(lambda: make(*given) if self.rank == 0 else None)[0]

    def gathered(self, make: Callable[[], Any]) -> list[Any]:
        """What `make` gives in each process, by rank.

        Raises what it raises here, or `PeerFailed`; `NoRoom` in all processes where memory ran out
        and nothing else happened: then they may go on together, with less.
        """
        error: Exception | None = None
        try:
            own = _Share(make())
        except Exception as caught:
            message, error = f"{type(caught).__name__}: {caught}", caught
            own = _Share(failure=message, memory=out_of_memory(caught))
        try:
            shares = self._exchanged(own)
            failed = [(rank, one) for rank, one in enumerate(shares) if one.failure is not None]
            if not failed:
                return [share.value for share in shares]
            first = failed[0][0], failed[0][1].failure or ""
            if all(share.memory for _, share in failed):
                raise NoRoom(*first) from error
            self.within = False
            raise error or PeerFailed(*first)
        finally:
            del error  # it holds this frame, and would keep the failed batch's tensors with it

    def _exchanged(self, own: _Share) -> list[_Share]:
        """Of all processes, by rank."""
        shares: list[Any] = [None] * self.count
        with self.sheltered():
            try:
                dist.all_gather_object(shares, own, group=self.group)
            except RuntimeError as error:
                raise PeerLost(str(error)) from error
        return shares


@dataclass(frozen=True)
class _Share:
    """What a process has to tell the others."""

    value: Any = None
    failure: str | None = None
    memory: bool = False  # whether it ran out


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, a device's or the machine's."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)  # the CPU's


def _sent(message: Any, group: Any) -> Any:
    """What the main process sends, in all."""
    messages = [message]
    dist.broadcast_object_list(messages, src=0, group=group)
    return messages[0]


@cache
def _patient(world: dist.ProcessGroup) -> dist.ProcessGroup:
    """The same processes, with a limit that nothing meets."""
    group: Any = dist.new_group(timeout=LONGEST, backend="gloo")
    return group
