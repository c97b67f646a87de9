"""`--help`, and what a command loads before it works."""

import subprocess
import sys
from pathlib import Path

import pytest

from train import config
from train.flags.help import groups, print_help

REPO = Path(__file__).parents[3]
HEAVY = ("transformers", "trl", "peft", "wandb", "matplotlib", "datasets")


def python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("command", ["demo", "grpo", "sft", "distill"])
def test_help_is_the_commands_own_and_short(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_help(command, ["--help"])
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: sparks {command}")
    assert printed.count("\n") < 70
    assert f"sparks {command} --help all" in printed


def test_help_lists_every_flag_of_ours_once() -> None:
    parser = config.make_parser("grpo")
    flags = [line.split()[0] for lines in groups("grpo").values() for line in lines]
    ours = {f"--{a.dest}" for a in parser._actions if a.dest.split("_")[0] == "track"}
    assert ours <= {*flags} and len({*flags}) == len(flags)
    assert {*flags} <= {word for action in parser._actions for word in action.option_strings}


def test_a_negated_flag_does_not_say_the_opposite() -> None:
    actions = {word: a for a in config.make_parser("grpo")._actions for word in a.option_strings}
    assert actions["--no_track"].help == "Not --track."


def test_track_lists_its_own_flags(capsys: pytest.CaptureFixture[str]) -> None:
    from train.commands import track

    with pytest.raises(SystemExit):
        track.main(["--help"])
    assert "--track_select" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("train.cli", (*HEAVY, "torch", "pandas", "numpy")),
        ("train.commands.show", HEAVY),
        ("train.flags.help", (*HEAVY, "torch")),
        ("tracking", (*HEAVY, "torch")),
    ],
)
def test_what_must_start_at_once_loads_nothing_heavy(module: str, heavy: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print([m for m in {heavy!r} if m in sys.modules])"
    assert python(code).strip() == "[]"


def test_every_public_name_of_tracking_can_be_imported() -> None:
    import tracking

    assert {*tracking.HOMES} == {*tracking.__all__}
    assert all(getattr(tracking, name) is not None for name in tracking.__all__)
    assert not hasattr(tracking, "no_such_name")
