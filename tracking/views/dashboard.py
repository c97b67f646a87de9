"""A run's heads in Weights & Biases and TensorBoard, beside the trainer's own curves.

Everything is logged against `train/global_step`, never with `step=`: the trainer counts its own
rows. The first contrast is logged as `heads/...`, the others as `heads/<contrast>/...`; columns
of `Timeline.counts` keep their names, save that the ends of an interval are `_lo` and `_hi`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from tracking.timeline.columns import COUNTS, NODES, names
from tracking.timeline.regime import MEASURES
from tracking.timeline.summary import Summary
from tracking.timeline.timeline import Timeline
from tracking.views.drawing import canvas
from tracking.views.figures import node_map, picture

if TYPE_CHECKING:
    import wandb
    from transformers import TrainingArguments

STEP = "train/global_step"
SCALARS = names(COUNTS, "logged")
CARRIED = names(COUNTS, "carried")  # nothing where the behaviour is absent
TABLE = names(NODES, "in_table")
TABLE_KEY = "heads/table"
INCREMENTS = 100  # of a table; W&B shows no more
DIGITS = 4  # significant ones of a number in the table
EACH = 4  # checkpoints whose pictures are all shown; later ones' more and more seldom

log = logging.getLogger(__name__)


def logged(column: str) -> str:
    """What a column of `Timeline.counts` is called here: `behaviour_low` is `behaviour_lo`."""
    return column.replace("_low", "_lo").replace("_high", "_hi")


@dataclass(frozen=True)
class Entry:
    """What a dashboard shows of the last checkpoint of a timeline."""

    step: int
    scalars: dict[str, float]  # by name; what is not known is left out
    images: dict[str, Image.Image]  # in 256 colours, by name
    summary: dict[str, object]  # of the run so far, by name; None where not known
    turned_weak: Sequence[
        str
    ]  # the contrasts whose circuit is weak and was not before, or at first

    @classmethod
    def of(cls, timeline: Timeline, share: float | None = None) -> Entry:
        """`share`: of the time since training began, what was spent on tracking, if it is known.
        Images are left out where this is not the turn of the last checkpoint."""
        step = _trained(timeline)
        scalars = {"heads/seconds": timeline.records[-1].seconds}
        if share is not None:
            scalars["heads/share"] = share
        summary, turned_weak = {}, []
        for contrast in timeline.contrasts:
            prefix = _prefix(timeline, contrast)
            _, counts = timeline.of_contrast(contrast)
            last = counts.iloc[-1]
            weak = (counts["verdict"] == "weak").to_numpy()
            carried = () if last["verdict"] == "absent" else CARRIED
            known = [name for name in (*SCALARS, *carried) if pd.notna(last[name])]
            scalars |= {f"{prefix}/{logged(name)}": float(last[name]) for name in known}
            scalars[f"{prefix}/weak"] = float(weak[-1])
            facts = summarised(Summary.of(timeline, contrast))
            summary |= {f"{prefix}/{name}": fact for name, fact in facts.items()}
            if weak[-1] and not weak[-2:-1].any():
                turned_weak.append(contrast)
        images = _images(timeline) if pictured(len(timeline.records)) else {}
        return cls(step, scalars, images, summary, turned_weak)

    @classmethod
    def of_images(cls, timeline: Timeline) -> Entry:
        """Nothing but the images of the last checkpoint."""
        return cls(_trained(timeline), {}, _images(timeline), {}, ())


def _trained(timeline: Timeline) -> int:
    """The last step, as the trainer counts those of its stage."""
    return timeline.records[-1].step - timeline.records[-1].began


def pictured(count: int) -> bool:
    """Whether images are shown after so many checkpoints: always up to `EACH`, then after every
    second up to twice as many, every fourth up to four times as many, and so on. A picture has all
    checkpoints before it."""
    every = 1
    while count > EACH * every:
        every *= 2
    return count % every == 0


def summarised(summary: Summary) -> dict[str, object]:
    """The run's summary by short names: words, numbers, None where one is not known."""
    regime = {name: float(getattr(summary.regime, name)) for name in MEASURES}
    numbers = {
        "behaviour": summary.behaviour[-1].value,
        "growth": summary.growth.value,
        "wiring": summary.wiring.value,
        **regime,
    }
    carriers = {origin.replace(" ", "_"): names for origin, names in summary.carriers.items()}
    named = {**carriers, "faded": summary.faded, "transient": summary.transient}
    return {
        "sentence": summary.sentence,
        **{name: ", ".join(nodes) for name, nodes in named.items()},
        "verdict": summary.verdict,
        "sound": summary.sound,
        "regime": summary.regime.word,
        **{name: None if np.isnan(value) else value for name, value in numbers.items()},
    }


def ever_active(timeline: Timeline) -> pd.DataFrame:
    """The rows of all nodes from the first step at which each is active, by contrast."""
    nodes = timeline.nodes
    since = nodes.groupby(["contrast", "node"])["active"].cummax()
    return nodes.loc[since, list(TABLE)].reset_index(drop=True)


class Sink(Protocol):
    """Where entries are shown."""

    name: str  # in a line that says what failed

    def show(self, entry: Entry, timeline: Timeline) -> None:
        """Show the last checkpoint of a timeline."""
        ...

    def alert(self, title: str, text: str) -> None:
        """Tell people who do not look."""
        ...

    def close(self) -> None:
        """Write what has not been written yet."""
        ...


class WandB:
    """An open W&B run."""

    name = "W&B"

    def __init__(self, run: wandb.Run, config: Mapping[str, object]) -> None:
        self.run = run
        run.define_metric("heads/*", step_metric=STEP)
        run.config.update(dict(config), allow_val_change=True)
        self._begin_table()

    def show(self, entry: Entry, timeline: Timeline) -> None:
        """One row of history, and the summary as it is by now."""
        row: dict[str, object] = {STEP: entry.step, **entry.scalars}
        import wandb  # a run is open: it is loaded

        row |= {name: wandb.Image(image) for name, image in entry.images.items()}
        if self._add_rows(timeline):
            row[TABLE_KEY] = self.table
            self.increments += 1
        self.run.log(row)
        self.run.summary.update(entry.summary)

    def alert(self, title: str, text: str) -> None:
        """By mail or Slack, as the user has set W&B to."""
        self.run.alert(title, text, level="WARN", wait_duration=1)

    def close(self) -> None:
        """The trainer, or whoever began the run, ends it."""

    def _begin_table(self) -> None:
        """A table without rows. It takes the place of one that an earlier process has logged, whose
        rows may be of steps that this one trains again: the ledger has all that are to be shown."""
        import wandb

        self.table = wandb.Table(columns=list(TABLE), log_mode="INCREMENTAL")
        self.increments, self.until = 0, -1
        if TABLE_KEY in self.run.summary.keys():  # noqa: SIM118 - it has no `in` of its own
            del self.run.summary[TABLE_KEY]

    def _add_rows(self, timeline: Timeline) -> bool:
        """Add the rows of later steps than those in the table; whether there are any."""
        if self.increments == INCREMENTS:
            self._begin_table()
        rows = ever_active(timeline).query("step > @self.until").astype(object)
        for row in rows.where(rows.notna(), None).itertuples(index=False):
            self.table.add_data(*map(_short, row))
        self.until = timeline.records[-1].step
        return len(rows) > 0


class TensorBoard:
    """A folder of its own beside the trainer's: TensorBoard follows one file in a folder."""

    name = "TensorBoard"

    def __init__(self, folder: Path, begins: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # it takes a second to load

        purge = begins + 1 if begins else None  # what a resumed run trains again is shown once
        self.writer = SummaryWriter(str(folder), purge_step=purge)

    def show(self, entry: Entry, timeline: Timeline) -> None:
        """Scalars and images."""
        for name, value in entry.scalars.items():
            self.writer.add_scalar(name, value, entry.step)
        for name, image in entry.images.items():
            pixels = np.asarray(image.convert("RGB"))
            self.writer.add_image(name, pixels, entry.step, dataformats="HWC")
        self.writer.flush()

    def alert(self, title: str, text: str) -> None:
        """TensorBoard has no alerts."""

    def close(self) -> None:
        """Close the file."""
        self.writer.close()


class Dashboard:
    """All that shows a run while it trains. No failure in it goes further, unless `raises`."""

    def __init__(self, raises: bool = False) -> None:
        self.raises = raises
        self.sinks: list[Sink] = []
        self.not_pictured: Timeline | None = None  # the last, if its images were left out

    def open(self, args: TrainingArguments, begins: int, config: Mapping[str, object]) -> None:
        """Show what `args.report_to` names. `begins` is the step that training begins with,
        `config` what is to be known of the tracking."""
        with self._guarded(WandB.name):
            if (run := _open_run(args)) is not None:
                self.sinks.append(WandB(run, config))
        with self._guarded(TensorBoard.name):
            if "tensorboard" in (args.report_to or []):
                self.sinks.append(TensorBoard(tensorboard_folder(args), begins))

    def show(self, timeline: Timeline, share: float | None) -> None:
        """Show the last checkpoint of a timeline, and alert to what has become of it."""
        if not self.sinks:
            return
        with self._guarded("the pictures"):
            entry = Entry.of(timeline, share)
            self.not_pictured = None if entry.images else timeline
            self._each(lambda sink: sink.show(entry, timeline))
            for contrast in entry.turned_weak:
                text = f"The circuit of step {entry.step} is weak, that before was not."
                self.alert(f"Weak circuit on {contrast!r} pairs", text)

    def alert(self, title: str, text: str) -> None:
        """Tell people who do not look."""
        self._each(lambda sink: sink.alert(title, text))

    def close(self) -> None:
        """Show images of the last checkpoint if they were left out; close what was opened here."""
        if (timeline := self.not_pictured) is not None:
            with self._guarded("the pictures"):
                entry = Entry.of_images(timeline)
                self._each(lambda sink: sink.show(entry, timeline))
        self._each(lambda sink: sink.close())
        self.sinks, self.not_pictured = [], None

    def _each(self, act: Callable[[Sink], None]) -> None:
        for sink in self.sinks:
            with self._guarded(sink.name):
                act(sink)

    @contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if self.raises:
                raise
            log.warning("%s failed: %s; the ledger has the record all the same", what, error)


def _open_run(args: TrainingArguments) -> wandb.Run | None:
    """The run that the trainer reports to, if it does; W&B need not be installed for the others."""
    if "wandb" not in (args.report_to or []):
        return None
    import wandb

    return wandb.run


def tensorboard_folder(args: TrainingArguments) -> Path:
    """`heads` where the trainer has its own folder of a run, by the same rules."""
    there = os.environ.get("TENSORBOARD_LOGGING_DIR") or Path(args.output_dir or ".") / "runs"
    return Path(there).expanduser() / "heads"


def _prefix(timeline: Timeline, contrast: str) -> str:
    return "heads" if contrast == timeline.contrasts[0] else f"heads/{contrast}"


def _short(value: object) -> object:
    """A number of the table; its digits are most of what a long run logs."""
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _images(timeline: Timeline) -> dict[str, Image.Image]:
    """Of the last checkpoint, by name."""
    images, step = {}, timeline.records[-1].step
    for contrast in timeline.contrasts:
        prefix = _prefix(timeline, contrast)
        images[f"{prefix}/picture"] = _image(picture(timeline, [contrast]))
        images[f"{prefix}/map"] = _image(node_map(timeline, step, contrast))
    return images


def _image(figure: Figure) -> Image.Image:
    """In 256 colours, which are off by at most a few of 255 levels, and a third of the bytes."""
    drawn_on = canvas(figure, 100)
    drawn_on.draw()
    image = Image.fromarray(np.asarray(drawn_on.buffer_rgba())).convert("RGB")
    return image.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
