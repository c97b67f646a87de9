"""Every column of a timeline: what it is called, its unit, and what it says in a sentence.

One registry for all who show them: the timeline holds these columns, W&B and TensorBoard log those
that are `logged`, W&B's table and the report's page hold those that say so, and the tables of
`docs/timeline.md` are made from here:

    python -m tracking.timeline.columns docs/timeline.md

To add one, add it here and where its values are made (`head_table` or `counts`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Column:
    """A column of `Timeline.heads` or `Timeline.counts`."""

    name: str
    unit: str  # empty for words and flags
    sentence: str
    logged: bool = False  # of counts: a curve in W&B and TensorBoard
    carried: bool = False  # likewise, but only where there is a behaviour that a circuit can carry
    in_table: bool = False  # of heads: in W&B's table
    in_page: bool = False  # of heads: in the report's page


HEADS = (
    Column("contrast", "", "contrast", in_table=True),
    Column("step", "training step", "training step of the checkpoint", in_table=True),
    Column("head", "", "`L5H1`: head 1 of layer 5, counted from 0", in_table=True),
    Column("layer", "", "its layer"),
    Column(
        "state",
        "",
        "`base`, `retained`, `faded`, `inactive`, `new`, `surviving`, `pruned`, `revived` or "
        "`emergent` (below)",
        in_table=True,
    ),
    Column("active", "", "whether it is active; an undecided head keeps its last certain state"),
    Column("undecided", "", "whether this checkpoint alone cannot tell", in_table=True),
    Column(
        "verdict",
        "",
        "of the step's record: `sound`, `weak`, `unconverged` or `absent`",
        in_table=True,
    ),
    Column("in_circuit", "", "whether it stands in the checkpoint's circuit of all prompt pairs"),
    Column(
        "membership",
        "share",
        "share of bootstrap resamples of the prompt pairs in whose circuit it stands",
        in_table=True,
        in_page=True,
    ),
    Column("membership_half", "share", "the same for circuits of half as many edges", in_page=True),
    Column(
        "membership_double", "share", "the same for circuits of twice as many edges", in_page=True
    ),
    Column(
        "effect",
        "probability",
        "its attributed change of the right token's probability, mean over prompt pairs",
        in_table=True,
        in_page=True,
    ),
    Column(
        "effect_low",
        "probability",
        "lower end of the effect's 95 % bootstrap interval",
        in_table=True,
        in_page=True,
    ),
    Column("effect_high", "probability", "upper end", in_table=True, in_page=True),
    Column(
        "importance",
        "share",
        "its share of all heads' outgoing absolute score",
        in_table=True,
        in_page=True,
    ),
    Column("importance_symmetric", "share", "its share of what goes in and out"),
    Column(
        "shift",
        "",
        "change of importance since the checkpoint before, -1 to 1; missing at the first",
    ),
    Column(
        "growth",
        "",
        "`amplified` or `damped`: a base head whose effect's interval has left that of step 0; "
        "else empty",
        in_table=True,
    ),
    Column(
        "cohort",
        "training step",
        "first step at which an emergent head was active, from that step on; missing otherwise",
        in_table=True,
        in_page=True,
    ),
    Column("activations", "share", "share of the checkpoints so far at which it is active"),
    Column(
        "fate",
        "",
        "of a head that ever emerged, the same at all its steps: `survivor` where it is active "
        "at the last checkpoint there is, else `transient`; empty for all other heads",
    ),
    Column(
        "role",
        "",
        "what it mostly does: the role whose score is furthest above its threshold; `-` where "
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

COUNTS = (
    Column("contrast", "", "contrast"),
    Column("step", "training step", "training step of the checkpoint"),
    Column(
        "reward",
        "",
        "mean over the training steps since the checkpoint before; missing where not known",
    ),
    Column("reward_name", "", "what that is: the reward, or what stands for it"),
    Column("pairs", "pairs", "how many prompt pairs"),
    Column("active", "heads", "how many heads are active", logged=True),
    Column(
        "emergent",
        "heads",
        "how many of them are no base heads: `new`, `surviving`, `revived` and `emergent`",
        logged=True,
    ),
    Column("retained", "heads", "how many heads are in that state", logged=True),
    Column("faded", "heads", "how many heads are in that state", logged=True),
    Column("new", "heads", "how many heads are in that state", logged=True),
    Column("surviving", "heads", "how many heads are in that state", logged=True),
    Column("revived", "heads", "how many heads are in that state", logged=True),
    Column(
        "pruned",
        "heads",
        "how many heads are in that state: all that emerged and are gone, not only those that "
        "just went",
        logged=True,
    ),
    Column("undecided", "heads", "how many heads this checkpoint alone cannot tell", logged=True),
    Column(
        "active_low",
        "heads",
        "lower end of the 95 % of `active` over bootstrap resamples",
        logged=True,
    ),
    Column("active_high", "heads", "upper end", logged=True),
    Column(
        "emergent_low",
        "heads",
        "lower end of the 95 % of `emergent` over bootstrap resamples",
        logged=True,
    ),
    Column("emergent_high", "heads", "upper end", logged=True),
    Column(
        "new_low", "heads", "lower end of the 95 % of `new` over bootstrap resamples", logged=True
    ),
    Column("new_high", "heads", "upper end", logged=True),
    Column(
        "pruned_low",
        "heads",
        "lower end of the 95 % of `pruned` over bootstrap resamples",
        logged=True,
    ),
    Column("pruned_high", "heads", "upper end", logged=True),
    Column(
        "surviving_low",
        "heads",
        "lower end of the 95 % of `surviving` over bootstrap resamples",
        logged=True,
    ),
    Column("surviving_high", "heads", "upper end", logged=True),
    Column(
        "turnover",
        "share",
        "share of the heads active here or at the checkpoint before that are not active at both; "
        "missing at the first",
        logged=True,
    ),
    Column(
        "turnover_converged",
        "share",
        "the same, missing unless both checkpoints are `converged`",
        logged=True,
    ),
    Column(
        "null",
        "share",
        "mean of the same share between two halves of the prompt pairs on this one checkpoint",
        logged=True,
    ),
    Column("null_high", "share", "its 97.5 % percentile", logged=True),
    Column(
        "edge_turnover",
        "share",
        "the same share of the circuit's edges; it has no null",
        logged=True,
    ),
    Column(
        "mlp_turnover",
        "share",
        "the same share of the MLPs that write along an edge of the circuit; it has no null",
        logged=True,
    ),
    Column(
        "clean",
        "probability",
        "mean probability of the right token under the clean prompts",
        logged=True,
    ),
    Column("corrupted", "probability", "the same under the corrupted prompts", logged=True),
    Column("gap", "share", "completeness gap of the attribution", logged=True),
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
    Column("complement", "share", "faithfulness of all edges outside the circuit", carried=True),
    Column(
        "accuracy",
        "share",
        "share of prompt pairs whose top token is right with the circuit alone",
        carried=True,
    ),
    Column("clean_accuracy", "share", "the same with the whole model"),
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
    """A document with its tables of columns as they are now: the first is that of heads, the
    second that of counts."""
    tables = iter((HEADS, COUNTS))
    table = re.compile(r"^\| column \|.*\n(?:\|.*\n)+", flags=re.MULTILINE)
    return table.sub(lambda _: markdown(next(tables)) + "\n", text, count=2)


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(documented(page.read_text()))
