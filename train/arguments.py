"""What Sparks adds to TRL's arguments. Nothing heavy is imported here: `--help` reads it."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from typing import Any

from tracking.errors import BadInput


@dataclass
class JobArguments:
    """What Sparks adds to TRL's arguments, beside the settings of the analysis."""

    dry_run: bool = field(
        default=False,
        metadata={"help": "Check all but the weights, write config.yaml, train nothing."},
    )
    accept_changes: bool = field(
        default=False, metadata={"help": "Resume a run though this job would change it."}
    )
    system_prompt: str | None = field(
        default=None, metadata={"help": "System prompt before every problem."}
    )
    dataset_size: int | None = field(
        default=None,
        metadata={"help": "Use only so many rows (tasks that are drawn draw so many)."},
    )
    dataset_parameters: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": "Parameters of a reasoning-gym generator, here as JSON."},
    )
    dataset_question: str | None = field(
        default=None,
        metadata={"help": "Its question in your words, like 'What is {expression}?'."},
    )
    reward_timeout: float = field(
        default=60.0,
        metadata={"help": "Seconds that a reward may take for a batch."},
    )
    log_ledger: bool = field(
        default=False, metadata={"help": "At the end keep the ledger in W&B, as an artifact."}
    )
    eval_benchmarks: list[str] | None = field(
        default=None, metadata={"help": "Benchmarks, as for sparks eval, solved at checkpoints."}
    )
    eval_benchmarks_every: int = field(default=1, metadata={"help": "At every n-th one."})
    eval_benchmarks_samples: int = field(
        default=4, metadata={"help": "Responses a problem, at temperature 0.6; 1: greedy."}
    )
    eval_benchmarks_limit: int = field(
        default=128, metadata={"help": "Of each benchmark the first so many problems."}
    )
    eval_benchmarks_tokens: int | None = field(
        default=None, metadata={"help": "Length of a response; GRPO's, or the model's own."}
    )
    track: bool = field(
        default=True,
        metadata={"help": "Analyse the heads; --no_track trains without."},
    )
    track_mode: str = field(
        default="inline",
        metadata={"help": "By the job, or watch: by sparks track --watch."},
    )
    track_base: str | None = field(
        default=None,
        metadata={"help": "Earlier run that this one goes on from: one timeline of both."},
    )
    track_shift: int = field(
        default=0,
        metadata={"help": "Beside the base on so many prompts: what has training changed?"},
    )
    track_contrasts: list[str] | None = field(
        default=None,
        metadata={
            "help": "Contrasts: cue, operand (tiny); operand, result, answer (words); operand, "
            "first_token, items (gym); or of track_pairs_file. By default operand, or all there."
        },
    )
    track_pairs_file: str | None = field(
        default=None,
        metadata={"help": "Your own pairs, JSONL: clean, corrupted, correct, incorrect."},
    )
    track_pairs_dataset: str | None = field(
        default=None, metadata={"help": "Where pairs come from; by default the training data."}
    )
    track_pairs_config: str | None = field(
        default=None, metadata={"help": "Configuration of track_pairs_dataset, on the Hub."}
    )
    track_pairs_split: str = field(
        default="train", metadata={"help": "Split of track_pairs_dataset."}
    )
    track_pairs_count: int = field(default=128, metadata={"help": "Pairs of each contrast."})
    track_pairs_minimum: int = field(
        default=16,
        metadata={"help": "Fewer usable pairs of a contrast are an error."},
    )
    track_pairs_solution_tokens: int = field(
        default=512,
        metadata={"help": "Length of its own solutions, where data have none."},
    )

    def __post_init__(self) -> None:
        if self.track_mode not in ("inline", "watch"):
            raise BadInput(f"track_mode is {self.track_mode!r}; it must be inline or watch")
        if isinstance(self.dataset_parameters, str):
            with contextlib.suppress(ValueError):
                self.dataset_parameters = json.loads(self.dataset_parameters)
        if not isinstance(self.dataset_parameters, dict | None):
            raise BadInput(
                f"dataset_parameters is {self.dataset_parameters!r}; it takes names and values, "
                "on the command line as JSON: '{\"min_terms\": 2}'"
            )
