"""Several processes of one training: one of them works alone while the others wait for it.

They cannot wait in a collective of the training: it ends the job after a limit (by default half an
hour) that a long analysis or a large checkpoint exceeds. They wait in a group of their own, over
gloo, whose limit nothing meets. It is no endless wait: the connections of a process that dies are
closed, and those that wait for it are told at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any

import torch.distributed as dist

from tracking.errors import BadInput

LONGEST = timedelta(days=7)


@contextmanager
def alone(main: bool) -> Iterator[bool]:
    """Only the `main` process, which is rank 0, is given True and works, once all have come and
    their files are there; the others wait until it is done. All processes must enter.

    What is raised in it is raised in all: a `BadInput` as such, anything else as a `RuntimeError`
    in the others. A process that dies while it is waited for is one too.
    """
    if not (dist.is_available() and dist.is_initialized()):
        yield main
        return
    group = _patient(dist.group.WORLD)
    dist.barrier(group)
    failure: list[tuple[bool, str] | None] = [None]
    try:
        yield main
    except BaseException as error:
        failure = [(isinstance(error, BadInput), str(error) or type(error).__name__)]
        raise
    finally:
        dist.broadcast_object_list(failure, src=0, group=group)
    if failure[0] is not None and not main:
        mistake, message = failure[0]
        raise BadInput(message) if mistake else RuntimeError(f"the main process failed: {message}")


@cache
def _patient(world: dist.ProcessGroup) -> dist.ProcessGroup:
    """The same processes, with a limit that nothing meets."""
    group: Any = dist.new_group(timeout=LONGEST, backend="gloo")
    return group
