"""The pictures of runs as files for papers, each with its data."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from tracking.atomic import write_whole
from tracking.timeline.coupling import Coupling
from tracking.timeline.survival import cohort_table, survival
from tracking.timeline.timeline import Timeline
from tracking.views import figures
from tracking.views.figures import (
    cohorts,
    coupling,
    faithfulness_curve,
    faithfulness_table,
    node_map,
    picture,
    together,
    together_table,
    turnover,
    wiring_curve,
    wiring_table,
)


def export(
    timelines: Mapping[str, Timeline],
    folder: Path,
    accuracy: Mapping[str, pd.DataFrame] = MappingProxyType({}),
) -> list[Path]:
    """Write the main plots of runs, by name, for papers; the paths of all files.

    Every plot is a PNG (200 dpi), an SVG whose text is text, and a CSV of its data:
    `<run>.picture` and, per contrast, `<run>.<contrast>.` with `map` (of the last checkpoint),
    `cohorts`, `survival`, `faithfulness` and `wiring` (of the last checkpoint), `turnover` and
    `coupling`.
    `<run>.nodes.csv` has shares and states of all nodes, the picture's raster, `<run>.accuracy.csv`
    what `accuracy` has of it in benchmarks. Of several runs also `together`. Names of runs and
    contrasts are made safe for any file system, and stay apart.
    """
    paths: list[Path] = []
    for name, (run, timeline) in zip(_slugs(timelines), timelines.items(), strict=True):
        solved = accuracy.get(run)
        figure = picture(timeline, accuracy=solved)
        paths += _write(figure, timeline.counts, folder, f"{name}.picture")
        tables = {"nodes": timeline.nodes}
        if solved is not None and len(solved):
            tables["accuracy"] = solved
        for what, table in tables.items():
            paths.append(folder / f"{name}.{what}.csv")
            write_whole(paths[-1], table.to_csv(index=False).encode())
        for contrast, slug in zip(timeline.contrasts, _slugs(timeline.contrasts), strict=True):
            for plot, (figure, data) in _plots(timeline, contrast).items():
                paths += _write(figure, data, folder, f"{name}.{slug}.{plot}")
    if len(timelines) > 1:
        paths += _write(together(timelines), together_table(timelines), folder, "together")
    return paths


def _plots(timeline: Timeline, contrast: str) -> dict[str, tuple[Figure, pd.DataFrame]]:
    """The plots of one contrast, each with its data."""
    nodes, counts = timeline.of_contrast(contrast)
    step = timeline.records[-1].step
    coupled = Coupling.of(nodes, counts, contrast)
    turned = counts.filter(regex="^(step|(edge_)?(turnover|null))")
    return {
        "map": (node_map(timeline, step, contrast), timeline.at(step, contrast)),
        "cohorts": (cohorts(timeline, contrast), cohort_table(nodes, contrast)),
        "survival": (figures.survival_curve(timeline, contrast), survival(nodes, contrast)),
        "faithfulness": (
            faithfulness_curve(timeline, contrast),
            faithfulness_table(timeline, contrast),
        ),
        "wiring": (wiring_curve(timeline, contrast), wiring_table(timeline, contrast)),
        "turnover": (turnover(timeline, contrast), turned),
        "coupling": (coupling(timeline, contrast), coupled.table),
    }


def _write(figure: Figure, data: pd.DataFrame, folder: Path, name: str) -> list[Path]:
    paths = [folder / f"{name}.{ending}" for ending in ("png", "svg", "csv")]
    for path in paths[:2]:
        buffer = io.BytesIO()
        with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
            # no date and no chance in it: the same records make the same file
            metadata = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(buffer, format=path.suffix[1:], dpi=200, metadata=metadata)
        write_whole(path, buffer.getvalue())
    write_whole(paths[2], data.to_csv(index=False).encode())
    return paths


def _slugs(names: Iterable[str]) -> list[str]:
    """A file name's part for each name: short, of letters, digits, `-` and `_`, no two alike."""
    slugs: list[str] = []
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:60] or "unnamed"
        number, slug = 1, plain
        while slug.lower() in [other.lower() for other in slugs]:
            number += 1
            slug = f"{plain}-{number}"
        slugs.append(slug)
    return slugs
