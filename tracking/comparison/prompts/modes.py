"""Who carries a behaviour with thinking on, who with it off, and what of that any other beginning
of the model's turn does too.

Three parties are one model on the same problems: `on`, `off` and the control `template`, in which
the turn begins otherwise and says nothing. A node that is active only off is put down to thinking
where the control, like on, has it not; one that is active only on where the control has it too.
What the control shares with off is the template's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from tracking.comparison.party import Comparison
from tracking.comparison.section import Section
from tracking.comparison.shares import Compared
from tracking.ledger.record import Analysis
from tracking.timeline.activity import Thresholds
from tracking.timeline.summary import counted, listed

ON, OFF, CONTROL = "on", "off", "template"
WORDS = {
    "both": "in both modes",
    "on only": "only with thinking on",
    "off only": "only with it off",
}


def modes_section(comparison: Comparison) -> Section:
    """On every contrast."""
    tables, sentences = [], []
    for contrast in comparison.contrasts:
        analyses = comparison.analyses(contrast)
        table = mode_table(
            comparison.parties[0].record.graph.nodes, analyses, comparison.thresholds
        )
        tables.append(table.assign(contrast=contrast))
        sentences.append(_sentence(contrast, table))
    return Section("Thinking on and off", sentences, {"modes": pd.concat(tables)})


def mode_table(
    nodes: Sequence[str], analyses: Mapping[str, Analysis], thresholds: Thresholds
) -> pd.DataFrame:
    """A row a node: its `mode` (`both`, `on only`, `off only`, `none`, or `undecided`, as the
    paired test of shares has it), `of` for those active in one only (`thinking`, `template`, or
    `untold`), and its larger share in each of `analyses` (on, off, template); no row where on or
    off does not show the behaviour."""
    whole = Compared.of(analyses, thresholds)
    if not {ON, OFF} <= whole.active.keys():
        return pd.DataFrame(columns=["node", "mode", "of", *analyses])
    two = Compared.of({name: analyses[name] for name in (ON, OFF)}, thresholds)
    rows = []
    for place, node in enumerate(nodes):
        word, where = two.words[place], two.where[place]
        mode = {"all": "both", "only": f"{where[0]} only" if where else ""}.get(word, word)
        rows.append(
            {"node": node, "mode": mode, "of": _of(whole, place, mode),
             **{name: float(one.value[one.larger[place], place])
                for name, one in whole.shares.items()}}
        )  # fmt: skip
    return pd.DataFrame(rows)


def _of(whole: Compared, place: int, mode: str) -> str:
    """What a node that is active in one mode only is put down to."""
    if mode not in ("on only", "off only"):
        return ""
    if CONTROL not in whole.active:
        return "untold"
    control, differs = whole.active[CONTROL], whole.between[OFF, CONTROL].differs[:, place].any()
    like_on, like_off = control.active[place], control.inactive[place]
    if mode == "off only":
        like_on, like_off = like_off, like_on
    if like_on and differs:
        return "thinking"
    return "template" if like_off else "untold"


def _sentence(contrast: str, table: pd.DataFrame) -> str:
    begin = f"On {contrast!r} pairs"
    if table.empty:
        return f"{begin} on or off does not show the behaviour: nothing to share out."
    parts = []
    for mode, words in WORDS.items():
        rows = table[table["mode"] == mode]
        names = [f"{row['node']}{_why(row)}" for _, row in rows.iterrows()]
        parts.append(
            f"{counted(list(rows['node']))} {'is' if len(rows) == 1 else 'are'} active {words} "
            f"({listed(names)})"
            if names
            else f"no node {words}"
        )
    unsure = int((table["mode"] == "undecided").sum())
    return f"{begin} {'; '.join(parts)}; of {unsure} it is undecided."


def _why(row: pd.Series) -> str:
    return f", {row['of']}" if row["of"] else ""
