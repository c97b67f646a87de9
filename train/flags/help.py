"""`--help` of the commands that train: ours first, in groups; TRL's behind `--help all`.

Nothing heavy is imported for ours.
"""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from train.arguments import JobArguments

ABOUT = {
    "demo": "The embedded default, end to end, in runs/demo: a tiny Qwen2 learns with GRPO to read "
    "the cue of an arithmetic problem, on two cores in minutes, while its heads are tracked.",
    "grpo": "GRPO with its heads tracked.",
    "sft": "Supervised fine-tuning with its heads tracked.",
    "distill": "On-policy distillation with the student's heads tracked: it writes, and learns the "
    "teacher's probabilities of every next token of that.",
}
USAGE = {
    "demo": "sparks demo [--max_steps 12] [--any_flag value ...]",
    "grpo": "sparks grpo --config RECIPE.yaml [--any_flag value ...]",
    "sft": "sparks sft --config RECIPE.yaml [--any_flag value ...]",
    "distill": "sparks distill --config RECIPE.yaml [--any_flag value ...]",
}
CONFIGS = {"grpo": "GRPOConfig", "sft": "SFTConfig", "distill": "DistillationConfig"}
INDENT = 34


def print_help(command: str, words: Sequence[str]) -> None:
    """What `sparks <command> --help` prints; with `all` among the words, TRL's flags too."""
    kind = "grpo" if command == "demo" else command
    print(f"usage: {USAGE[command]}\n\n{textwrap.fill(ABOUT[command], 99)}\n")
    for title, lines in groups(command).items():
        print(f"{title}:\n{chr(10).join(lines)}\n")
    if "all" in words:
        from train import config

        print(f"TRL's ({CONFIGS[kind]} and what its script takes), ours once more:\n")
        print(config.make_parser(kind).format_help())
    else:
        print(f"All flags of TRL's {CONFIGS[kind]} work too: sparks {command} --help all")


def groups(command: str) -> dict[str, list[str]]:
    """Our flags with a line each, by what they are about."""
    ours = list(dataclasses.fields(JobArguments))
    pairs = [item for item in ours if item.name.startswith("track")]
    job = [item for item in ours if item not in pairs]
    if command in ("sft", "distill"):
        job = [item for item in job if item.name != "reward_timeout"]
    config = _entry("--config RECIPE.yaml", "A recipe; flags override it.")
    return {
        "the job": [*([] if command == "demo" else [config]), *_lines(job)],
        "tracking: pairs": _lines(pairs),
        **analysis(),
    }


def analysis() -> dict[str, list[str]]:
    """The flags that set how a checkpoint is analysed."""
    from tracking.settings import Settings
    from tracking.timeline.activity import Thresholds

    return {
        "tracking: analysis": _lines(dataclasses.fields(Settings), "track_"),
        "tracking: thresholds": _lines(dataclasses.fields(Thresholds), "track_"),
    }


def _lines(fields: Iterable[dataclasses.Field[Any]], prefix: str = "") -> list[str]:
    return [_entry(f"--{prefix}{item.name}", item.metadata["help"], item) for item in fields]


def _entry(flag: str, text: str, item: dataclasses.Field[Any] | None = None) -> str:
    if item is not None:
        default = _default(item)
        text += "" if default in (None, False) else f" Default: {default}."
    width = 99 - INDENT
    first, *more = textwrap.wrap(text, width)
    return "\n".join([f"  {flag:<{INDENT - 2}}{first}", *(" " * INDENT + line for line in more)])


def _default(item: dataclasses.Field[Any]) -> Any:
    if item.default_factory is not dataclasses.MISSING:
        return " ".join(map(str, item.default_factory()))
    if item.default is True:
        return "true"
    return item.default
