"""A view of runs and their heads, saved in a W&B project.

    sparks dashboard PROJECT [--entity ENTITY] [--print]

Reward and loss are on top, behaviour, wiring and heads under them on the same x-axis, the picture
and the table beside each other below. It shows the first contrast; panels of all else that runs log
are added by W&B itself. `--print` shows the view's spec as JSON and needs neither network nor key.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import requests
import wandb
from wandb_workspaces import workspaces
from wandb_workspaces.reports import v2 as panels

from tracking.errors import BadInput
from tracking.views.dashboard import STEP, TABLE_KEY
from train.flags.parsing import make_parser
from train.run.console import say
from train.run.reporting import wandb_key

FORBIDDEN = "/\\#?%:"  # in names of projects
NAME = "Sparks: heads over training"
REWARD = {
    "Reward": ["train/reward", "eval/reward"],
    "Token accuracy": ["train/mean_token_accuracy", "eval/mean_token_accuracy"],
    "Loss": ["train/loss", "eval/loss"],
    "Length of completions": ["train/completions/mean_length"],
}
HEADS = {
    "Behaviour (logits), 95 %": ["behaviour", "behaviour_lo", "behaviour_hi"],
    "Wiring kept, 95 %, and its null": [
        "wiring_kept", "wiring_kept_lo", "wiring_kept_hi", "wiring_null_lo", "wiring_null_hi",
    ],
    "Heads: active, emergent, faded": ["active", "emergent", "faded"],
    "MLPs: active, emergent, faded": ["mlps_active", "mlps_emergent", "mlps_faded"],
    "Turnover of the circuit's heads and its null (mean, 97.5 %)": [
        "turnover", "turnover_lo", "turnover_hi", "null", "null_hi",
    ],
    "Turnover less its null, 95 %": [
        *(f"{of}turnover_less_null{end}" for of in ("", "edge_") for end in ("", "_lo", "_hi")),
    ],
    "Faithfulness of the circuit, 95 %": ["faithfulness", "faithfulness_lo", "faithfulness_hi"],
    "Seconds of tracking at a checkpoint": ["seconds"],
    "Share of training time spent on tracking": ["share"],
}  # fmt: skip
IMAGES = {"Behaviour, and who carries it": "heads/picture", "Map of heads and MLPs": "heads/map"}
COLUMNS = ("sentence", "behaviour", "recruited", "faded", "wiring", "verdict")  # beside a name


def main(arguments: Sequence[str]) -> None:
    """Run `sparks dashboard` with these arguments."""
    parser = make_parser("dashboard", __doc__)
    parser.add_argument("project", metavar="PROJECT", help="a project in W&B")
    parser.add_argument("--entity", help="a user or team; by default your own")
    parser.add_argument("--print", action="store_true", help="show the spec, save nothing")
    options = parser.parse_args(arguments)
    _check_name("project", options.project)
    if options.entity is not None:
        _check_name("entity", options.entity)
    if options.print:
        print(json.dumps(spec(workspace(options.project, options.entity or "")), indent=2))
        return
    if not wandb_key():
        raise BadInput("not logged in to W&B: `wandb login`, or see the view's spec with --print")
    say(f"view       {_save(options.project, options.entity)}")


def workspace(project: str, entity: str) -> workspaces.Workspace:
    """The view, not saved anywhere."""
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=[
            _section("Reward", [_lines(title, y) for title, y in REWARD.items()], columns=2),
            _section(
                "Heads",
                [_lines(title, [f"heads/{name}" for name in y]) for title, y in HEADS.items()],
                columns=2,
                rows=4,
            ),
            _section("Picture and table", _pictures(), columns=2),
        ],
        settings=workspaces.WorkspaceSettings(x_axis=STEP),
        runset_settings=workspaces.RunsetSettings(
            pinned_columns=[f"summary:heads/{name}" for name in COLUMNS]
        ),
        auto_generate_panels=True,
    )


def spec(view: workspaces.Workspace) -> dict[str, Any]:
    """What W&B is sent for a view."""
    return view._spec  # the library has no public name for it


def _section(name: str, shown: list[Any], columns: int, rows: int = 2) -> workspaces.Section:
    return workspaces.Section(
        name=name,
        panels=shown,
        is_open=True,
        pinned=True,
        layout_settings=workspaces.SectionLayoutSettings(columns=columns, rows=rows),
        panel_settings=workspaces.SectionPanelSettings(x_axis=STEP),
    )


def _lines(title: str, y: Sequence[str]) -> panels.LinePlot:
    return panels.LinePlot(title=title, x=STEP, y=list(y), title_x="training step")


def _pictures() -> list[Any]:
    """The picture and the table first, side by side."""
    browsers = [
        panels.MediaBrowser(title=title, media_keys=[key], gallery_axis="step")
        for title, key in IMAGES.items()
    ]
    return [browsers[0], panels.WeavePanelSummaryTable(table_name=TABLE_KEY), *browsers[1:]]


def _save(project: str, entity: str | None) -> str:
    """Save the view, under one's own entity where none is given; its address."""
    try:
        view = workspace(project, entity or wandb.Api().default_entity or "")
        return view.save().url
    except (wandb.Error, requests.RequestException, OSError, ValueError) as error:
        raise BadInput(f"W&B: the view of {project!r} was not saved: {_one_line(error)}") from None


def _check_name(what: str, name: str) -> None:
    if not 0 < len(name.strip()) <= 128 or set(name) & set(FORBIDDEN):
        raise BadInput(
            f"{what} {name!r} is no name in W&B: up to 128 characters, none of {FORBIDDEN}"
        )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
