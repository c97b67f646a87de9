"""From a recipe and the command line to one checked `Job`.

Recipes are flat YAML with TRL's own names, parsed by TRL's parser, so every TRL flag works on the
command line too; ours are those of `JobArguments` and, for the analysis, `track_<setting>`. Every
mistake in them is told in one line before anything is loaded.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import enum
import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml
from transformers.utils import is_torch_tf32_available
from trl import (
    DatasetMixtureConfig,
    DistillationConfig,
    GRPOConfig,
    ModelConfig,
    ScriptArguments,
    SFTConfig,
    TrlParser,
)
from trl.scripts.grpo import GRPOScriptArguments

from tracking.errors import BadInput
from tracking.run_folder import RunFolder
from tracking.settings import Settings
from tracking.timeline.activity import Thresholds
from train.arguments import JobArguments
from train.recipe import nearest, read

ONCE = (
    "accept_changes",
    "dry_run",
    "resume_from_checkpoint",
)  # said for one launch, not part of the run


TrackArguments = dataclasses.make_dataclass(
    "TrackArguments",
    [
        (f"track_{item.name}", item.type, field(default=item.default, metadata=item.metadata))
        for part in (Settings, Thresholds)
        for item in dataclasses.fields(part)
    ],
)
TrackArguments.__doc__ = (
    "The settings of the analysis and the thresholds of the timeline, as flags."
)


@dataclass(frozen=True)
class Job:
    """A training job as resolved from recipe and command line."""

    name: str  # grpo, sft or distill
    script: Any  # GRPOScriptArguments or ScriptArguments
    training: Any  # GRPOConfig, SFTConfig or DistillationConfig
    model: ModelConfig
    mixture: DatasetMixtureConfig
    ours: JobArguments
    settings: Settings
    thresholds: Thresholds
    resolved: dict[str, Any]  # every key that was settled, as `config.yaml` holds it

    @property
    def generation_steps(self) -> int:
        """How many steps a batch of generations lasts; a run is resumed exactly only after it."""
        if self.name != "grpo":
            return 1
        micro_steps = self.training.steps_per_generation * self.training.num_iterations
        accumulation = self.training.gradient_accumulation_steps
        return math.lcm(micro_steps, accumulation) // accumulation

    @property
    def watched(self) -> bool:
        """Whether records are made by `sparks track --watch`, not by the job."""
        return self.ours.track and self.ours.track_mode == "watch"

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.training.output_dir)


TYPES = {
    "grpo": (GRPOScriptArguments, GRPOConfig),
    "sft": (ScriptArguments, SFTConfig),
    "distill": (ScriptArguments, DistillationConfig),
}


def load(name: str, arguments: Sequence[str], trains: bool = True) -> Job:
    """The job that `sparks <name>` with these command line arguments means; without `trains` one
    that was trained before, whose rewards are not called again.

    Raises `BadInput` in one line for a missing or broken recipe, an unknown key (with the nearest
    known one) and a value that does not fit.
    """
    parser = make_parser(name)
    recipe, rest = _recipe(arguments)
    config = read(recipe) if recipe else {}
    _set(config.pop("env", None) or {}, recipe, trains)
    trusted = str(config.pop("trust_remote_code", False)).lower() not in ("false", "no", "0", "n")
    if trains and trusted:
        raise BadInput(f"{recipe}: trust_remote_code runs code; give it on the command line")
    known = {action.dest: action for action in parser._actions}
    for key in config:
        if key not in known:
            raise BadInput(f"{recipe}: unknown key {key!r}{nearest(key, known)}")
    parser.set_defaults_with_config(**{k: _as_typed(v, known[k]) for k, v in config.items()})
    namespace, unknown = parser.parse_known_args(rest)
    for word in unknown:
        flag = word.partition("=")[0].lstrip("-")
        raise BadInput(f"unknown flag {word!r}{nearest(flag, known, '--')}")
    if trains and not any(word.partition("=")[0] == "--reward_funcs" for word in rest):
        _no_code_from_files(recipe, config)
    resolved = {key: value for key, value in vars(namespace).items() if key != "config"}
    _check_named(name, recipe, resolved)
    try:
        script, training, model, mixture, ours, track = parser.parse_dict(
            _anywhere(resolved, trains)
        )
        parts = _of(Settings, track), _of(Thresholds, track)
        job = Job(name, script, training, model, mixture, ours, *parts, _plain(resolved))
        _check(job, recipe)
    except Exception as error:  # the libraries' own checks raise whatever they come upon
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{recipe or 'arguments'}: {_one_line(error)}") from None
    return job


def _of(part: Any, track: Any) -> Any:
    """Settings or thresholds, from their flags."""
    names = [item.name for item in dataclasses.fields(part)]
    return part(**{name: getattr(track, f"track_{name}") for name in names})


def of_run(folder: Path, flags: Sequence[str] = ()) -> Job:
    """The job that made a run, as its `config.yaml` tells, but for what `flags` say.

    Raises `BadInput` where there is no such file, or it does not say so.
    """
    path = RunFolder(folder).config_path
    try:
        words = path.read_text().splitlines()[0].split()
    except (OSError, UnicodeDecodeError, IndexError):
        raise BadInput(
            f"{folder} is no run of Sparks: it has no readable config.yaml; for checkpoints of any "
            "trainer: sparks track FOLDER --pairs FILE.jsonl --output_dir RUN"
        ) from None
    if words[:2] != ["#", "sparks"] or len(words) < 3 or words[2] not in TYPES:
        raise BadInput(
            f"{path} does not say which job it is; its first line must be '# sparks ...'"
        )
    return load(words[2], ["--config", str(path), "--output_dir", str(folder), *flags], False)


def write(job: Job) -> Path:
    """Write `config.yaml` into the run's folder: enough to run it again, and no secret."""
    from tracking.atomic import write_whole

    kept = {k: v for k, v in job.resolved.items() if k not in ONCE}
    path = RunFolder(job.folder).config_path
    text = f"# sparks {job.name} --config {path} --output_dir ...\n"
    write_whole(path, (text + yaml.safe_dump(kept, sort_keys=True)).encode())
    return path


def make_parser(name: str) -> TrlParser:
    """The parser of `sparks <name>`: TRL's flags and ours."""
    script, training = TYPES[name]
    types = (script, training, ModelConfig, DatasetMixtureConfig, JobArguments, TrackArguments)
    parser = TrlParser(types, prog=f"sparks {name}", allow_abbrev=False)  # type: ignore[arg-type]
    parser.add_argument("--config", metavar="RECIPE.yaml", help="A recipe; flags override it.")

    for action in parser._actions:
        if isinstance(action, argparse._StoreFalseAction):  # the library gives it the other's text
            action.help = f"Not --{action.dest}."

    def refuse(message: str) -> NoReturn:
        raise BadInput(" ".join(message.split()))

    parser.error = refuse  # type: ignore[method-assign]
    return parser


def _recipe(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """The path after `--config`, and the other arguments."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config")
    try:
        named, rest = parser.parse_known_args(arguments)
    except (argparse.ArgumentError, SystemExit):
        raise BadInput("--config needs the path of a recipe") from None
    return named.config, rest


def _as_typed(value: Any, action: argparse.Action) -> Any:
    """A recipe's value as the parser wants a default: scalars as text, which it converts and
    checks as it does flags; lists where a list is meant; `{share: 0.9}` as `share=0.9`."""
    if isinstance(value, dict) and action.dest == "track_select":
        value = ", ".join(f"{kind}={amount}" for kind, amount in value.items())
    if isinstance(value, bool | int | float):
        value = str(value)
    if action.nargs in ("+", "*") and value is not None and not isinstance(value, list):
        return [value]
    if action.nargs is None and isinstance(value, list):
        raise BadInput(f"{action.dest} is {value!r}; it takes one value, not a list")
    return value


def _anywhere(resolved: dict[str, Any], trains: bool) -> dict[str, Any]:
    """The settings as they resolve here: what trains nothing needs no GPU for bf16 and tf32."""
    if trains and not resolved["dry_run"]:
        return resolved
    without = resolved["use_cpu"] or not torch.accelerator.is_available()
    tf32 = resolved["tf32"] if is_torch_tf32_available() else None
    return {**resolved, "use_cpu": without, "tf32": tf32}


def _set(env: dict[Any, Any], recipe: str | None, trains: bool) -> None:
    """The environment that a recipe wants for its training."""
    try:
        if trains:
            os.environ.update({key: str(value) for key, value in env.items()})
    except (TypeError, ValueError) as error:
        raise BadInput(f"{recipe}: env: {_one_line(error)}") from None


def _no_code_from_files(recipe: str | None, config: dict[str, Any]) -> None:
    """A recipe may name rewards; code by dotted path is for the command line alone."""
    named = config.get("reward_funcs") or []
    for reward in named if isinstance(named, list) else [named]:
        if "." in str(reward):
            raise BadInput(
                f"{recipe}: reward {reward!r} is code; give a dotted path on the command line, "
                "--reward_funcs, or a registered name in the recipe"
            )


def _check_named(name: str, recipe: str | None, resolved: dict[str, Any]) -> None:
    """A job needs a model and data."""
    where = recipe or f"sparks {name}"
    if not resolved["model_name_or_path"]:
        raise BadInput(
            f"{where}: model_name_or_path is missing; 'tiny', 'smollm2', a folder or a Hub name"
        )
    if not resolved["dataset_name"] and not resolved["datasets"]:
        raise BadInput(f"{where}: dataset_name is missing; 'tiny', a JSONL file or a Hub name")


def _check(job: Job, recipe: str | None) -> None:
    where = recipe or f"sparks {job.name}"
    script, training = job.script, job.training
    for kind in ("model_init_kwargs", "teacher_model_init_kwargs"):
        if "token" in (getattr(training, kind, None) or {}):
            raise BadInput(f"{where}: a token would be written down; put it into HF_TOKEN")
    named = (name for one in training.report_to for name in one.split(","))
    training.report_to = [name.strip() for name in named]
    with contextlib.redirect_stdout(io.StringIO()):  # it greets while it loads
        from transformers.integrations import get_reporting_integration_callbacks
    get_reporting_integration_callbacks(training.report_to)  # refuses an unknown one
    if training.hub_token:
        raise BadInput(
            f"{where}: hub_token would be written down with the settings; put it into the "
            "environment as HF_TOKEN"
        )
    if job.ours.track_base and not job.ours.track:
        raise BadInput(f"{where}: track_base says what records go on from; it needs track")
    if job.ours.log_ledger and "wandb" not in training.report_to:
        raise BadInput(f"{where}: log_ledger keeps the ledger in W&B; it needs report_to wandb")
    if job.name == "distill" and not training.teacher_model_name_or_path:
        raise BadInput(
            f"{where}: teacher_model_name_or_path is missing; 'tiny-teacher', a folder or a Hub "
            "name"
        )
    if job.name != "grpo":
        return
    if not script.reward_funcs and not script.reward_model_name_or_path:
        raise BadInput(f"{where}: reward_funcs is missing; GRPO needs at least one reward")
    saved = training.save_strategy == "steps" and training.save_steps >= 1
    every = job.generation_steps
    if saved and training.save_steps % every:
        raise BadInput(
            f"{where}: save_steps is {int(training.save_steps)}, but a batch of generations lasts "
            f"{every} steps; a resumed run would not repeat it. Make save_steps a multiple of "
            f"{every}"
        )


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Values as YAML knows them."""
    return {
        key: value.value if isinstance(value, enum.Enum) else value for key, value in values.items()
    }


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
