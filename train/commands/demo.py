"""The embedded default, end to end: `sparks demo`.

A tiny Qwen2 learns with GRPO to read the cue of an arithmetic problem, on two cores in minutes,
while its heads are tracked. Every flag of `sparks grpo` works here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from train.commands import grpo
from train.run.folder import free_folder

RECIPE = Path(__file__).parents[2] / "recipes" / "tiny" / "grpo.yaml"


def main(arguments: Sequence[str]) -> None:
    """Run the tiny GRPO recipe in a fresh folder, `runs/demo` or the next free one."""
    folder = free_folder(Path("runs/demo"))
    grpo.main(["--config", str(RECIPE), "--output_dir", str(folder), *arguments])
