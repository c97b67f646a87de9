"""The command line: `sparks <command> ...`.

A user's mistake is one line on standard error and exit code 2. Nothing heavy is imported before a
command is known: the training libraries take seconds to load.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version

from tracking.errors import BadInput
from train import recipe
from train.flags.help import print_help
from train.launch import LOST, lost_a_process, take_rank
from train.run.signals import Stop, heed

COMMANDS = {
    "demo": "the embedded default, end to end, in minutes",
    "grpo": "train with GRPO: --config RECIPE.yaml [--any_trl_flag value ...]",
    "sft": "fine-tune: --config RECIPE.yaml [--any_trl_flag value ...]",
    "distill": "learn from a larger model: --config RECIPE.yaml [--any_trl_flag value ...]",
    "show": "a run's checkpoints and map in the terminal: RUN [--follow]",
    "track": "analyse a run's checkpoints outside its training: RUN [--watch]",
    "eval": "solve benchmarks: MODEL --benchmarks amc23,gsm8k [--samples 8 --temperature 0.6 ...]",
    "ablate": "switch heads off and solve benchmarks: MODEL --heads SET --benchmarks NAMES",
    "dashboard": "save a view of runs and heads in W&B: PROJECT [--entity ENTITY] [--print]",
    "compare": "what models do, who carries it, by which wires: A B ... [--pairs FILE.jsonl]",
    "report": "one HTML file of runs' heads: RUN... [-o report.html] [--figures DIR]",
}

JOBS = ("demo", "grpo", "sft", "distill")  # commands that train
LONG = (*JOBS, "eval")  # those that can be ended and go on later


def main() -> None:
    """The entry point of `sparks`."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return
    if words[0] in ("-V", "--version"):
        print(f"thinking-sparks {version('thinking-sparks')}")
        return
    if words[0] not in COMMANDS:
        _refuse(f"unknown command {words[0]!r}; one of {', '.join(COMMANDS)}")
    if words[0] in LONG or "--watch" in words:
        heed()
    if words[0] in JOBS and {"-h", "--help"} & {*words}:
        print_help(words[0], words[1:])
        return
    try:
        if words[0] in JOBS:
            recipe.look(words[1:])
            take_rank(os.environ)
        with imported_for_good(), contextlib.redirect_stdout(io.StringIO()):  # libraries greet
            command = import_module(f"train.commands.{words[0]}")
        command.main(words[1:])
    except BadInput as error:
        _refuse(str(error))
    except Stop as stop:
        print(f"sparks: {stop}", file=sys.stderr)
        sys.exit(stop.code)
    except Exception as error:
        if words[0] not in JOBS or not lost_a_process(error):
            raise
        print(f"sparks: {LOST}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


@contextlib.contextmanager
def imported_for_good() -> Iterator[None]:
    """Within it no garbage is collected: that would go through what is being imported again and
    again. What is there at the end is left out of later collections, which trainers ask for."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _help() -> str:
    lines = [f"  sparks {name:<9} {what}" for name, what in COMMANDS.items()]
    return "\n".join(["Post-train reasoning models and watch their heads.", "", *lines])


def _refuse(message: str) -> None:
    print(f"sparks: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
