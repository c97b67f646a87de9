"""What a job says in the terminal."""

from __future__ import annotations

import logging
import os
import warnings

import datasets
import transformers
from rich.console import Console

console = Console(highlight=False, soft_wrap=True)


def say(line: str) -> None:
    """One line of a stage's progress, on the main process only."""
    if int(os.environ.get("RANK", "0")) == 0:
        console.print(line)


def quieten() -> None:
    """Keep the libraries' own bars and notes out of the terminal."""
    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity(logging.CRITICAL)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.getLogger("httpx").setLevel(logging.WARNING)
