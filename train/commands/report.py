"""Show a behaviour over training, and who carries it, in one HTML file.

    sparks report RUN... [--control RUN2] [-o report.html] [--figures DIR]
    sparks report wandb://ENTITY/PROJECT/RUN

The file is made from the runs' records and, where they are there, their recipe, completions and
notes on checkpoints that were not analysed; also while a run goes on. It needs no network, but for
a run whose ledger is in W&B (`log_ledger: true`): RUN is its id there.
Several runs stand side by side on the same axes. `--figures` also writes the main plots as PNG and
SVG, and their data as CSV.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tracking.errors import BadInput
from tracking.timeline.timeline import Timeline
from tracking.views import papers
from tracking.views.report import named, write_report
from tracking.views.solving.tables import accuracies
from train.flags.control import add_control, control_of
from train.flags.parsing import make_parser
from train.run.console import say

SCHEME = "wandb://"


def main(arguments: Sequence[str]) -> None:
    """Run `sparks report` with these arguments."""
    parser = make_parser("report", __doc__)
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="a run's folder, or wandb://ENTITY/PROJECT/RUN"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE",
        help="where the report goes; default: RUN/report.html, of several runs, or one in W&B, "
        "report.html here",
    )  # fmt: skip
    parser.add_argument("--figures", type=Path, metavar="DIR", help="also write plots for papers")
    add_control(parser)
    options = parser.parse_args(arguments)
    runs = [_folder(run) for run in options.runs]
    alone = len(runs) == 1 and not options.runs[0].startswith(SCHEME)
    path = options.output or (runs[0] if alone else Path()) / "report.html"
    control = control_of(runs, options.control)
    write_report(runs, path, control)
    say(f"report     {path} ({path.stat().st_size / 1e6:.1f} MB)")
    if options.figures:
        _export(runs, options.figures, control)


def _folder(run: str) -> Path:
    if not run.startswith(SCHEME):
        return Path(run)
    from train.archive import fetched  # it takes seconds to load

    return fetched(run.removeprefix(SCHEME))


def _export(runs: Sequence[Path], folder: Path, control: Timeline | None) -> None:
    folders = named(runs)
    timelines = {name: Timeline.read(run, control=control) for name, run in folders.items()}
    accuracy = {name: accuracies(run) for name, run in folders.items()}
    try:
        files = papers.export(timelines, folder, accuracy)
    except OSError as error:
        raise BadInput(f"{folder} cannot be written: {error.strerror or error}") from None
    say(f"figures    {len(files)} files in {folder}")
