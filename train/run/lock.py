"""One job at a time on a run's folder."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import IO

from tracking.errors import BadInput


class Lock:
    """Held from its making until `release`, or until the process ends in whatever way.

    Raises `BadInput` where another job holds the folder. Only the main process takes it.
    """

    def __init__(self, folder: Path) -> None:
        self.file: IO[str] | None = None
        if int(os.environ.get("RANK", "0")) != 0:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = (folder / ".lock").open("a+", errors="replace")
        except OSError as error:
            raise BadInput(f"{folder} cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise BadInput(
                f"{folder} is in use by {holder}; wait for it to end, or choose another folder "
                "with --output_dir"
            ) from None
        except OSError as error:
            file.close()
            raise BadInput(f"{folder / '.lock'} cannot be locked: {error.strerror}") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        self.file = file
        os.register_at_fork(after_in_child=self.release)  # a child would hold it after its parent

    def release(self) -> None:
        """Let the next job have the folder; in a forked child, leave it to the parent."""
        if self.file is not None:
            self.file.close()
            self.file = None

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
