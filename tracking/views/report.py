"""The report: one HTML file that shows a behaviour over training and who carries it, made from
runs' ledgers.

The file needs no network and no server. It holds plotly.js and the data, both compressed, which the
page unpacks; what the data says is only ever set as text. No lock is taken: a report can be made
while a run goes on, of the records that are there.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from pathlib import Path

from plotly.offline import get_plotlyjs

from tracking.atomic import write_whole
from tracking.errors import BadInput
from tracking.timeline.summary import Summary
from tracking.timeline.timeline import Timeline
from tracking.views import payload
from tracking.views.caveats import SOUND, between
from tracking.views.palette import LOOKS, REWARD, UNDECIDED
from tracking.views.payload import STATES

PAGE = files("tracking.views") / "page"
SCRIPTS = (
    "tools.js",
    "charts.js",
    "story.js",
    "map.js",
    "node.js",
    "circuit.js",
    "wiring.js",
    "sections.js",
    "attention.js",
    "solving.js",
    "shift.js",
    "page.js",
)
OPTIONAL = {"attention.js": "solving", "solving.js": "solving", "shift.js": "shift"}
"""Scripts for what not every run has, by its key."""


def write_report(runs: Sequence[Path], path: Path, control: Timeline | None = None) -> Path:
    """Write the report of the runs' folders, whole or not at all; drift stands against a control
    run where one is given.

    `BadInput` where a run has no records, is named twice, or `path` cannot be written.
    """
    if path.is_dir():
        raise BadInput(f"{path} is a folder; name a file: -o {path / 'report.html'}")
    text = report(named(runs), control)
    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror or error}") from None
    return path


def report(runs: Mapping[str, Path], control: Timeline | None = None) -> str:
    """The page for runs' folders by name. The same ledgers make the same page."""
    read = {name: Timeline.read(folder, control=control) for name, folder in runs.items()}
    return report_of(runs, read)


def report_of(runs: Mapping[str, Path], timelines: Mapping[str, Timeline]) -> str:
    """The page for runs' folders by name, whose timelines are known."""
    data = {
        "looks": {name: asdict(look) for name, look in LOOKS.items()},
        "states": STATES,
        "undecided": asdict(UNDECIDED),
        "reward": REWARD,
        "sound": SOUND,
        "caveats": between(timelines),
        "contrasts": list(dict.fromkeys(k for one in timelines.values() for k in one.contrasts)),
        "runs": [payload.of_run(name, runs[name], one) for name, one in timelines.items()],
    }
    keys = {key for run in data["runs"] for key in run}
    scripts = [name for name in SCRIPTS if OPTIONAL.get(name) in {None, *keys}]
    return _page(", ".join(runs), timelines, json.dumps(data, separators=(",", ":")), scripts)


def named(runs: Sequence[Path]) -> dict[str, Path]:
    """Runs' folders by the shortest end of their path that tells them apart."""
    if not runs:
        raise BadInput("no run is named; give at least one folder")
    parts = [run.resolve().parts for run in runs]
    for place, one in enumerate(parts):
        if one in parts[:place]:
            raise BadInput(f"{runs[place]} is named twice; name each run once")
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return dict(zip(names, runs, strict=True))
    raise AssertionError("different paths have different parts")


def _page(title: str, timelines: Mapping[str, Timeline], data: str, scripts: Sequence[str]) -> str:
    plotly, digest = _plotly()
    script = "\n".join((PAGE / name).read_text() for name in scripts)
    parts = {
        "policy": f"{_digest(script)} {digest}",
        "title": html.escape(title),
        "style": (PAGE / "page.css").read_text(),
        "plain": _plain(timelines),
        "plotly": plotly,
        "data": _packed(data),
        "script": script,
    }
    # One pass over the frame's own places, so that nothing filled in is taken for a place.
    first, *rest = (PAGE / "page.html").read_text().split("{{")
    filled = (part.partition("}}") for part in rest)
    return first + "".join(parts[name] + after for name, _, after in filled)


def _plain(timelines: Mapping[str, Timeline]) -> str:
    """The runs' sentences as paragraphs, for readers without scripts."""
    return "".join(
        f"<p><b>{html.escape(name)}</b>: {html.escape(Summary.of(one, contrast).sentence)}</p>"
        for name, one in timelines.items()
        for contrast in one.contrasts
    )


@cache
def _plotly() -> tuple[str, str]:
    """plotly.js, packed, and its digest; every page has the same."""
    script = get_plotlyjs()
    return _packed(script), _digest(script)


def _packed(text: str) -> str:
    # at level 9 a long run's data takes three times as long, for a hundredth of its size
    return base64.b64encode(gzip.compress(text.encode(), 7, mtime=0)).decode()


def _digest(script: str) -> str:
    """A script's source expression for the page's content security policy."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"
