"""Every column of a timeline: what it is called, its unit, and what it says in a sentence.

One registry for all who show them: the timeline holds these columns, W&B and TensorBoard log those
that are `logged`, W&B's table and the report's page hold those that say so, and the tables of
`docs/timeline.md` are made from here:

    python -m tracking.timeline.columns docs/timeline.md

To add one, add it here and where its values are made (`node_table` or `counts`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Column:
    """A column of `Timeline.nodes` or `Timeline.counts`."""

    name: str
    unit: str  # empty for words and flags
    sentence: str
    logged: bool = False  # of counts: a curve in W&B and TensorBoard
    carried: bool = False  # likewise, but only where there is a behaviour that a circuit can carry
    in_table: bool = False  # of nodes: in W&B's table
    in_page: bool = False  # of nodes: in the report's page


NODES = (
    Column("contrast", "", "contrast", in_table=True),
    Column("step", "training step", "training step of the checkpoint", in_table=True),
    Column("node", "", "head `L5H1` (head 1 of layer 5, from 0) or MLP `M5`", in_table=True),
    Column("kind", "", "`head` or `mlp`", in_table=True),
    Column("layer", "", "its layer"),
    Column(
        "state",
        "",
        "`base`, `retained`, `faded`, `inactive`, `new`, `surviving`, `pruned`, `revived`, "
        "`emergent` or `undecided` (below)",
        in_table=True,
    ),
    Column("active", "", "whether it is active by its state, which only a tested change ends"),
    Column(
        "alone",
        "",
        "`active`, `inactive` or `undecided` by this checkpoint alone, where a share surely is at "
        "least the threshold, both are surely below, or neither; `undecided` without behaviour",
    ),
    Column("undecided", "", "whether this checkpoint alone cannot tell", in_table=True),
    Column(
        "verdict",
        "",
        "of the step's record: `sound`, `weak`, `unconverged` or `absent`",
        in_table=True,
    ),
    Column(
        "share",
        "share",
        "`corrupt` or `restore`, whichever is larger in size",
        in_table=True,
        in_page=True,
    ),
    Column("share_low", "share", "lower end of its 95 % interval", in_table=True, in_page=True),
    Column("share_high", "share", "upper end", in_table=True, in_page=True),
    Column(
        "corrupt",
        "share",
        "share of the behaviour lost when it alone is corrupted; by its scores where it was not "
        "measured",
        in_table=True,
        in_page=True,
    ),
    Column("corrupt_low", "share", "lower end of its 95 % paired bootstrap interval", in_page=True),
    Column("corrupt_high", "share", "upper end", in_page=True),
    Column(
        "restore",
        "share",
        "share of the behaviour gained when it alone is clean in the corrupted run; by its scores "
        "where it was not measured",
        in_table=True,
        in_page=True,
    ),
    Column("restore_low", "share", "lower end of its 95 % paired bootstrap interval", in_page=True),
    Column("restore_high", "share", "upper end", in_page=True),
    Column("measured", "", "whether by intervention; else its scores left it out", in_page=True),
    Column("sampled", "", "whether it was left out, and measured to see how often that errs"),
    Column(
        "change",
        "share",
        "change of the share since step 0, in the direction in which it is larger; the last one "
        "known where the behaviour is absent",
        in_table=True,
        in_page=True,
    ),
    Column(
        "drift",
        "",
        "`drifted`: in its state of step 0, but its share has changed beyond resampling; `grown` "
        "or `shrunk` where by more than any node of a control run; else empty",
        in_table=True,
    ),
    Column(
        "origin",
        "",
        "of a node that emerged: `recruited` where step 0 had the behaviour, `with the behaviour` "
        "where it had not; else empty",
        in_table=True,
    ),
    Column(
        "cohort",
        "training step",
        "first step at which an emergent node was active, from that step on; missing otherwise",
        in_table=True,
        in_page=True,
    ),
    Column("activations", "share", "share of the checkpoints so far at which it is active"),
    Column(
        "fate",
        "",
        "of a node that ever emerged, the same at all its steps: `survivor` where it is active "
        "at the last checkpoint there is, else `transient`; empty for all other nodes",
    ),
    Column(
        "lasting",
        "",
        "whether the change from step 0 to the last checkpoint is more than the run's own "
        "fluctuation, the same at all steps; takes 6 checkpoints",
        in_table=True,
    ),
    Column("in_circuit", "", "whether it writes along an edge of the checkpoint's circuit"),
    Column(
        "entry",
        "edges",
        "fewest top edges among which it lies on a path, median over resamples",
        in_table=True,
        in_page=True,
    ),
    Column(
        "membership",
        "share",
        "share of bootstrap resamples in which its entry is within the run's size",
        in_table=True,
        in_page=True,
    ),
    Column("importance", "share", "a head's share of all heads' outgoing absolute score"),
    Column("importance_symmetric", "share", "its share of what goes in and out"),
    Column(
        "shift",
        "",
        "change of importance since the checkpoint before, -1 to 1; missing at the first",
    ),
    Column(
        "role",
        "",
        "what a head mostly does: the role whose score is furthest above its threshold; `-` where "
        "none is",
        in_table=True,
    ),
    Column(
        "role_induction",
        "share",
        "attention to the token after the last occurrence of the same token, on repeated random "
        "tokens",
    ),
    Column(
        "role_copying", "share", "attention, from where the metric looks, to earlier right answers"
    ),
    Column("role_previous_token", "share", "attention to the token before"),
    Column(
        "role_duplicate_token",
        "share",
        "attention to earlier occurrences of the same token, on repeated random tokens",
    ),
    Column("role_first_token", "share", "attention to the first token, the sink"),
    Column("role_digits", "share", "attention, from where the metric looks, to digits or operands"),
    Column("role_entropy", "share", "how evenly it attends: 0 on one token, 1 on all alike"),
    Column(
        "role_kurtosis",
        "share",
        "how unevenly tokens receive its attention; large where a few receive nearly all",
    ),
    Column(
        "weight_change_q",
        "ratio",
        "norm of the change of its slice of the q projection since the base, over the slice's norm",
    ),
    Column("weight_change_k", "ratio", "the same of k; query heads of one group share it"),
    Column("weight_change_v", "ratio", "the same of v; query heads of one group share it"),
    Column("weight_change_o", "ratio", "the same of o"),
    Column(
        "weight_change",
        "ratio",
        "of all four slices as one vector; all five are missing where the base is not known",
        in_table=True,
        in_page=True,
    ),
)

_STATES = {
    "active": "active",
    "emergent": "active and were inactive at step 0",
    "base": "active at step 0, which this is",
    "retained": "active, as at step 0",
    "faded": "active at step 0 and no more",
    "new": "active for the first time",
    "surviving": "active ever since they emerged",
    "revived": "active again for the first checkpoint",
    "pruned": "no more active, of all that emerged",
    "undecided": "such that this checkpoint alone cannot tell",
    "drifted": "in their state of step 0 with another share",
}

COUNTS = (
    Column("contrast", "", "contrast"),
    Column("step", "training step", "training step of the checkpoint"),
    Column("stage", "training step", "at which its stage of the training began; 0 in the first"),
    Column(
        "reward",
        "",
        "mean over the training steps since the checkpoint before; missing where not known",
    ),
    Column("reward_name", "", "what that is: the reward, or what stands for it"),
    Column("pairs", "pairs", "how many prompt pairs"),
    Column(
        "behaviour",
        "logits",
        "logit of the right token less the other side's, clean less corrupted, mean over pairs",
        logged=True,
    ),
    Column("behaviour_low", "logits", "lower end of its 95 % bootstrap interval", logged=True),
    Column("behaviour_high", "logits", "upper end", logged=True),
    Column(
        "probability",
        "probability",
        "of the right token, clean less corrupted, mean over prompt pairs",
        logged=True,
    ),
    Column("clean", "probability", "of the right token under the clean prompts", logged=True),
    Column("corrupted", "probability", "the same under the corrupted prompts", logged=True),
    *(
        Column(name, "heads", f"heads that are {what}", logged=True)
        for name, what in _STATES.items()
    ),
    *(
        Column(f"mlps_{name}", "MLPs", f"MLPs that are {what}", logged=True)
        for name, what in _STATES.items()
    ),
    Column(
        "together_corrupt",
        "share",
        "share of the behaviour lost when all active nodes are corrupted at once",
        carried=True,
    ),
    Column(
        "together_restore",
        "share",
        "share gained when all active nodes are clean at once in the corrupted run",
        carried=True,
    ),
    Column(
        "wiring_kept",
        "ratio",
        "faithfulness of the circuit by step 0's scores over that of today's own, at the run's "
        "size",
        carried=True,
    ),
    Column("wiring_kept_low", "ratio", "lower end of its 95 % paired interval", carried=True),
    Column("wiring_kept_high", "ratio", "upper end", carried=True),
    Column(
        "wiring_null",
        "ratio",
        "the same for today's ranking by half of the pairs, tried on the other half",
        carried=True,
    ),
    Column("wiring_null_low", "ratio", "lower end of its 95 % paired interval", carried=True),
    Column("wiring_null_high", "ratio", "upper end", carried=True),
    Column("wiring_kept_half", "ratio", "wiring kept at half of the run's size", carried=True),
    Column("wiring_kept_half_low", "ratio", "lower end of its 95 % paired interval", carried=True),
    Column("wiring_kept_half_high", "ratio", "upper end", carried=True),
    Column("wiring_null_half", "ratio", "its null", carried=True),
    Column("wiring_null_half_low", "ratio", "lower end of its 95 % paired interval", carried=True),
    Column("wiring_null_half_high", "ratio", "upper end", carried=True),
    Column("wiring_kept_double", "ratio", "wiring kept at twice the size", carried=True),
    Column("wiring_null_double", "ratio", "its null", carried=True),
    Column(
        "turnover",
        "share",
        "share of the heads in the circuit here or at the checkpoint before that are not in both, "
        "mean over resamples; missing at the first",
        logged=True,
    ),
    Column("turnover_low", "share", "lower end of its 95 % paired interval", logged=True),
    Column("turnover_high", "share", "upper end", logged=True),
    Column(
        "null",
        "share",
        "the same between a resample and the next on this one checkpoint, mean over resamples",
        logged=True,
    ),
    Column("null_high", "share", "its 97.5 % percentile", logged=True),
    Column(
        "turnover_less_null",
        "share",
        "turnover less the mean null of the two checkpoints, mean over resamples",
        logged=True,
    ),
    Column("turnover_less_null_low", "share", "lower end of its 95 % paired interval", logged=True),
    Column("turnover_less_null_high", "share", "upper end", logged=True),
    Column("edge_turnover", "share", "turnover of edges", logged=True),
    Column("edge_turnover_low", "share", "lower end of its 95 % paired interval", logged=True),
    Column("edge_turnover_high", "share", "upper end", logged=True),
    Column("edge_null", "share", "its null", logged=True),
    Column("edge_null_high", "share", "its 97.5 % percentile", logged=True),
    Column("edge_turnover_less_null", "share", "turnover of edges less the mean null", logged=True),
    Column("edge_turnover_less_null_low", "share", "lower end of its interval", logged=True),
    Column("edge_turnover_less_null_high", "share", "upper end", logged=True),
    Column("gap", "share", "completeness gap of the attribution", logged=True),
    Column("size", "edges", "top edges taken: one number for the whole run"),
    Column("edges", "edges", "of them, those in the circuit once dead ends are pruned"),
    Column(
        "faithfulness",
        "share",
        "share of the behaviour that the circuit alone carries",
        carried=True,
    ),
    Column(
        "faithfulness_low",
        "share",
        "lower end of its 95 % interval over prompt pairs",
        carried=True,
    ),
    Column("faithfulness_high", "share", "upper end", carried=True),
    Column("complement", "share", "what all other edges carry, of fewer pairs", carried=True),
    Column(
        "accuracy",
        "share",
        "share of prompt pairs whose top token is right with the circuit alone",
        carried=True,
    ),
    Column("clean_accuracy", "share", "the same with the whole model"),
    Column("all_edges", "share", "faithfulness with every edge kept: 1 where patching is exact"),
    Column("no_edges", "share", "the same with none: 0"),
    Column("random_size", "edges", "edges drawn at random that carry as much as the circuit"),
    Column("cpr", "", "area under the curve of faithfulness over circuit sizes", logged=True),
    Column("cmd", "", "area between that curve and 1", logged=True),
    Column(
        "jaccard",
        "share",
        "overlap of the heads in the circuits of two halves of the prompt pairs, mean over splits",
        logged=True,
    ),
    Column("jaccard_low", "share", "lower end of 95 % of the splits", logged=True),
    Column("jaccard_high", "share", "upper end", logged=True),
    Column(
        "rank_correlation",
        "correlation",
        "Spearman's, of all edges' scores from two halves",
        logged=True,
    ),
    Column(
        "pairs_needed",
        "pairs",
        "estimate of how many prompt pairs a `jaccard` of 0.8 takes; missing where it cannot be "
        "told",
    ),
    Column("screen_error", "share", "of the nodes left out but measured, those that are active"),
    Column("converged", "", "whether the gap is small enough"),
    Column("verdict", "", "`sound`, `weak`, `unconverged` or `absent`"),
    Column("seconds", "s", "time that tracking took at this checkpoint"),
)


def names(columns: Sequence[Column], flag: str = "") -> tuple[str, ...]:
    """The names of columns, of those alone for which a flag is set if one is named."""
    return tuple(column.name for column in columns if not flag or getattr(column, flag))


def markdown(columns: Sequence[Column]) -> str:
    """The columns as a table."""
    rows = [f"| `{one.name}` | {one.unit} | {one.sentence} |" for one in columns]
    return "\n".join(["| column | unit | what it says |", "|---|---|---|", *rows])


def documented(text: str) -> str:
    """A document with its tables of columns as they are now: the first is that of nodes, the
    second that of counts."""
    tables = iter((NODES, COUNTS))
    table = re.compile(r"^\| column \|.*\n(?:\|.*\n)+", flags=re.MULTILINE)
    return table.sub(lambda _: markdown(next(tables)) + "\n", text, count=2)


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(documented(page.read_text()))
