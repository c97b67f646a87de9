"""What the report's page knows of a run: tables as columns, ready for JSON.

Every table is a dictionary of equally long lists; missing numbers are None. The columns of nodes
are laid out [step, node], in the order of `steps` and of `Graph.nodes`; `undecided` is 1 where the
checkpoint alone cannot tell, 2 where it says otherwise than the state. Numbers keep four
significant digits, edges three.
"""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tracking.errors import BadInput
from tracking.ledger.record import Analysis
from tracking.model.graph import Graph
from tracking.run_folder import RunFolder
from tracking.timeline.columns import NODES, names
from tracking.timeline.coupling import CAVEAT, Coupling, rewards
from tracking.timeline.summary import Figure, Summary
from tracking.timeline.survival import cohort_table, survival
from tracking.timeline.timeline import Timeline
from tracking.views import completions
from tracking.views.caveats import caveats
from tracking.views.completions import Digest
from tracking.views.drawing import carried, shown
from tracking.views.palette import LOOKS, called, untold
from tracking.views.solving.tables import ablations, accuracies, beside
from tracking.views.solving.turned import Turned, turned

STATES = tuple(LOOKS)
GRAPH_EDGES = 60  # of the circuit, the strongest, for its picture
NODE_EDGES = 4  # into each node and out of it, the strongest
SAMPLES = 3  # completions shown for a checkpoint
TURNED = 12  # problems newly solved or failed that are shown for a checkpoint


def of_run(name: str, run: Path, timeline: Timeline) -> dict[str, Any]:
    """Everything the page shows of one run, from its timeline, and from its `config.yaml`,
    completions, `evals` and `shift` where it has them; without evals there is no `solving`."""
    last = timeline.records[-1]
    warnings = caveats(run, timeline)
    recipe = _recipe(run)
    if recipe is None:
        warnings.append("The recipe is not known: the folder has no readable config.yaml.")
    steps, samples = [record.step for record in timeline.records], None
    offset = RunFolder(run).ledger.offset
    trained = [step - offset for step in steps]  # as the last stage's trainer counts them
    try:
        digest = completions.digest(run, trained, SAMPLES, TURNED)
        samples = _completions(digest, offset)
    except BadInput as error:
        warnings.append(f"No completions are shown: {error}")
    return {
        "name": name,
        "layers": last.n_layers,
        "heads": last.n_heads,
        "steps": steps,
        "stages": timeline.stages,
        "contrasts": {
            contrast: _of_contrast(timeline, contrast) for contrast in timeline.contrasts
        },
        "completions": samples,
        "caveats": warnings,
        "facts": _facts(run, timeline),
        "settings": {
            key: str(value)
            for key, value in {**last.settings, **asdict(timeline.thresholds)}.items()
        },
        "recipe": recipe,
        **_solving(run),
        **_shift(run),
    }


def columns(table: pd.DataFrame) -> dict[str, list[Any]]:
    """A table as lists; floats keep four digits, what is missing is None."""
    return {str(name): _plain(table[name]) for name in table.columns}


def _of_contrast(timeline: Timeline, contrast: str) -> dict[str, Any]:
    nodes, counts = timeline.of_contrast(contrast)
    reward = rewards(counts, contrast)
    absent = counts["verdict"] == "absent"  # there is nothing that a circuit could be faithful to
    table = carried(counts.drop(columns=["contrast"])).assign(
        reward=reward.to_numpy(), reward_name=called(reward.name)
    )
    graph = timeline.records[-1].graph
    analyses = [record.analyses[contrast] for record in timeline.records]
    reads = [torch.tensor(graph.reads_of(row)) for row in range(1, len(graph.sources))]
    rows, left_out = shown(nodes)
    return {
        "summary": _summary(Summary.of(timeline, contrast)),
        "counts": columns(table),
        "nodes": {
            "state": [STATES.index(state) for state in nodes["state"]],
            "undecided": (untold(nodes) * np.where(nodes["undecided"], 1, 2)).tolist(),
            "active": [int(one) for one in nodes["active"]],
            **{name: nodes[name].tolist() for name in ("role", "drift", "origin")},
            **{name: nodes[name].tolist()[: len(graph.nodes)] for name in ("fate", "lasting")},
            **columns(nodes[list(names(NODES, "in_page"))]),
        },
        "rows": [graph.nodes.index(node) for node in rows],
        "left_out": left_out,
        "edges": [_edges(graph, reads, one) for one in analyses],
        "circuit_edges": [int(one.circuit.circuit.sum()) for one in analyses],
        "all_edges": int(graph.edge_mask.sum()),
        "curves": [_curve(*one) for one in zip(analyses, absent, strict=True)],
        "wiring": [_wiring(*one) for one in zip(analyses, absent, strict=True)],
        "wanted": timeline.thresholds.weak_faithfulness,
        "cohorts": columns(cohort_table(nodes, contrast)),
        "survival": columns(survival(nodes, contrast)),
        "coupling": _coupling(Coupling.of(nodes, counts, contrast)),
    }


def _summary(summary: Summary) -> dict[str, Any]:
    return {
        "sentence": summary.sentence,
        "parts": summary.parts,
        "carriers": {origin: list(names) for origin, names in summary.carriers.items()},
        "faded": list(summary.faded),
        "transient": list(summary.transient),
        "behaviour": _figure(summary.behaviour[-1]),
        "growth": _figure(summary.growth),
        "wiring": _figure(summary.wiring),
        "wiring_null": _figure(summary.wiring_null),
        "undecided": list(summary.undecided),
        "regime": summary.regime.word,
        "verdict": summary.verdict,
        "weaknesses": list(summary.weaknesses),
        "sound": summary.sound,
        "checkpoints": summary.checkpoints,
    }


def _figure(figure: Figure) -> list[float | int | None]:
    """Value, lower and upper end."""
    return [_number(one) for one in (figure.value, figure.low, figure.high)]


def _edges(graph: Graph, reads: list[Tensor], analysis: Analysis) -> dict[str, list[Any]]:
    """The strongest edges of the circuit and of every node, strongest first: places of source and
    target in the graph's order, `score`, `membership`, and whether it is in the circuit and in its
    picture. `reads`: the places at which each source after the first reads,
    LongTensor [place] each."""
    size = analysis.scores.edge_scores.abs() * graph.edge_mask
    chosen = torch.zeros_like(graph.edge_mask)
    out = size[1:].topk(min(NODE_EDGES, size.shape[1]), dim=1).indices
    chosen[torch.arange(1, len(size))[:, None], out] = True
    for places in reads:
        best = size[:, places].flatten().topk(min(NODE_EDGES, len(size))).indices
        chosen[best // len(places), places[best % len(places)]] = True
    pictured = _strongest(size * analysis.circuit.circuit, GRAPH_EDGES) & analysis.circuit.circuit
    chosen = (chosen & graph.edge_mask & (size > 0)) | pictured
    rows, places = chosen.nonzero(as_tuple=True)
    order = size[rows, places].argsort(descending=True, stable=True)
    rows, places = rows[order], places[order]
    return {
        "source": rows.tolist(),
        "target": places.tolist(),
        "score": [
            float(f"{one:.3g}") for one in analysis.scores.edge_scores[rows, places].tolist()
        ],
        "membership": [
            round(one, 3) for one in analysis.stability.edge_membership[rows, places].tolist()
        ],
        "circuit": analysis.circuit.circuit[rows, places].int().tolist(),
        "pictured": pictured[rows, places].int().tolist(),
    }


def _strongest(size: Tensor, count: int) -> Tensor:
    chosen = torch.zeros(size.numel(), dtype=torch.bool)
    chosen[size.flatten().topk(min(count, size.numel())).indices] = True
    return chosen.reshape(size.shape)


def _curve(analysis: Analysis, absent: bool) -> dict[str, list[Any]]:
    """No row where the behaviour is absent."""
    rows = analysis.circuit.curve.numpy()[: 0 if absent else None]
    return columns(pd.DataFrame(rows, columns=["share", "value", "low", "high"]))


def _wiring(analysis: Analysis, absent: bool) -> dict[str, Any] | None:
    """What circuits ranked by step 0's scores carry, by size, and the edges that they lack; None
    where it was not measured or there is nothing to carry."""
    wiring = analysis.wiring
    if wiring is None or absent:
        return None
    curves = {name: getattr(wiring, name).numpy() for name in ("sizes", "own", "old", "half")}
    return {
        "curves": columns(pd.DataFrame(curves)),
        "source": wiring.missing[:, 0].tolist(),
        "target": wiring.missing[:, 1].tolist(),
        "restored": [_number(one) for one in wiring.restored.tolist()],
    }


def _coupling(coupling: Coupling) -> dict[str, Any]:
    hazard = coupling.hazard
    return {
        "table": columns(coupling.table),
        "per_node": columns(coupling.per_node.sort_values(["p", "node"])),
        "hazard": columns(hazard.table),
        "correlation": _number(hazard.correlation),
        "p": _number(hazard.p),
        "n": hazard.n,
        "reward_name": called(coupling.reward_name),
        "note": coupling.note,
        "caveat": CAVEAT,
    }


def _completions(digest: Digest | None, offset: int) -> dict[str, Any] | None:
    """At steps of all stages, the last of which begins at `offset`; None where the run has none."""
    if digest is None:
        return None
    return {
        "samples": [columns(one.assign(step=one["step"] + offset)) for one in digest.samples],
        "turned": columns(digest.turned.assign(step=digest.turned["step"] + offset)),
        "solved": list(digest.solved),
        "failed": list(digest.failed),
    }


def _solving(run: Path) -> dict[str, Any]:
    """`solving`; nothing where the run has none."""
    accuracy, studies = accuracies(run), ablations(run)
    if accuracy.empty and not studies:
        return {}
    each = [_study(RunFolder(run).evals / name, table) for name, table in studies.items()]
    return {"solving": {"accuracy": columns(accuracy), "studies": each}}


def _shift(run: Path) -> dict[str, Any]:
    """`shift`, a row a checkpoint; nothing where the run was not set beside its base."""
    folders = RunFolder(run).shifts().values()
    rows = [json.loads((folder / "figures.json").read_text()) for folder in folders]
    return {"shift": columns(pd.DataFrame(rows))} if rows else {}


def _study(folder: Path, table: pd.DataFrame) -> dict[str, Any]:
    return {
        "name": folder.name,
        "table": columns(table),
        "turned": [_turned(one) for one in turned(folder, table)],
        **{name: columns(one) for name, one in beside(folder).items()},
    }


def _turned(problems: Turned) -> dict[str, Any]:
    return {**vars(problems), "texts": columns(problems.texts)}


def _facts(run: Path, timeline: Timeline) -> dict[str, str]:
    last, seconds = timeline.records[-1], [record.seconds for record in timeline.records]
    numbers = ", ".join(
        f"{len(one.nodes.corrupt)} {contrast!r}" for contrast, one in last.analyses.items()
    )
    return {
        "run": str(run),
        "model": f"{last.n_layers} layers of {last.n_heads} heads",
        "checkpoints": f"{len(seconds)}, step {timeline.records[0].step} to {last.step}",
        "pairs": f"{numbers}; frozen as {last.pairs}",
        "precision of the analysis": last.precision,
        "time spent on tracking": f"{sum(seconds):.0f} s, {sum(seconds) / len(seconds):.1f} s "
        "a checkpoint",
        **{f"version of {package}": version for package, version in last.versions.items()},
    }


def _recipe(run: Path) -> str | None:
    try:
        return RunFolder(run).config_path.read_text()
    except (OSError, UnicodeDecodeError):
        return None


def _plain(values: pd.Series) -> list[Any]:
    if values.dtype.kind == "f":
        return [_number(value) for value in values.tolist()]
    return [_json(value) for value in values.tolist()]


def _json(value: Any) -> Any:
    """Lists of a column as lists, bytes as base64."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return None if value is pd.NaT else value


def _number(value: float) -> float | int | None:
    """Four significant digits; whole numbers without a point; None where it is not finite."""
    if not np.isfinite(value):
        return None
    short = float(f"{value:.4g}")
    return int(value) if value == int(value) else short
