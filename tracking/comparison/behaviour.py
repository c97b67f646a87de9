"""The behaviour of each model on the same pairs, and by how much it differs."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import pandas as pd
import torch
from torch import Tensor

from tracking.comparison.party import Comparison
from tracking.comparison.section import Section
from tracking.ledger.record import Analysis
from tracking.stability.bootstrap import interval, resamples
from tracking.stability.changes import change_p, discoveries
from tracking.timeline.summary import Figure


def behaviours(analyses: Mapping[str, Analysis]) -> pd.DataFrame:
    """One row a model: `model`, `pairs`, `behaviour` in logits with its 95 % interval over pairs,
    whether it is `there` (surely above 0), and `probability`, the same of the right token."""
    rows = []
    for name, analysis in analyses.items():
        each = _behaviour(analysis)
        whole = _figure(each, _count(analyses))
        chances = analysis.behaviour.clean_probability - analysis.behaviour.corrupted_probability
        rows.append(
            {"model": name, "pairs": len(each), "behaviour": whole.value, "low": whole.low,
             "high": whole.high, "there": whole.low > 0, "probability": float(chances.mean())}
        )  # fmt: skip
    return pd.DataFrame(rows)


def behaviour_differences(analyses: Mapping[str, Analysis], error: float) -> pd.DataFrame:
    """One row for every two models: by how many logits the behaviour of `model` is above that of
    `against`, with the 95 % interval over the same pairs, and whether it `differs`: p, corrected
    after Benjamini and Hochberg over all rows, at most `error`."""
    rows = []
    for against, name in combinations(analyses, 2):
        before, after = _behaviour(analyses[against]), _behaviour(analyses[name])
        by = _figure(after - before, _count(analyses))
        weights = resamples(_count(analyses), len(before))
        p = change_p((weights @ after).numpy(), (weights @ before).numpy(), len(before))
        rows.append({"model": name, "against": against, "difference": by.value, "low": by.low,
                     "high": by.high, "p": float(p)})  # fmt: skip
    table = pd.DataFrame(rows)
    return table.assign(differs=discoveries(table["p"].to_numpy(), error))


def behaviour_section(comparison: Comparison) -> Section:
    """Behaviours and their differences on every contrast, beside a control's."""
    each, between, sentences = [], [], []
    for contrast in comparison.contrasts:
        analyses = comparison.analyses(contrast)
        each.append(behaviours(analyses).assign(contrast=contrast))
        between.append(behaviour_differences(analyses, comparison.thresholds.error))
        between[-1] = between[-1].assign(contrast=contrast)
        sentences += [_sentence(contrast, each[-1], row) for _, row in between[-1].iterrows()]
        if comparison.control:
            row = _controlled(comparison.control, contrast)
            between[-1]["control"] = row["difference"]
            size = Figure(row["difference"], row["low"], row["high"])
            sentences.append(f"On {contrast!r} pairs a control run's behaviour moves by {size}.")
    tables = {"behaviour": pd.concat(each), "behaviour_differences": pd.concat(between)}
    return Section("Behaviour", sentences, tables, _shown(tables["behaviour"]))


def _controlled(control: Comparison, contrast: str) -> pd.Series:
    """The difference between the last and the first of a run in which nothing was taught."""
    table = behaviour_differences(control.analyses(contrast), control.thresholds.error)
    return table.iloc[0]


def _behaviour(analysis: Analysis) -> Tensor:
    """Float32 [pair]."""
    return analysis.behaviour.clean - analysis.behaviour.corrupted


def _count(analyses: Mapping[str, Analysis]) -> int:
    """How many resamples all of them have."""
    return min(len(one.stability.entries) for one in analyses.values())


def _figure(each: Tensor, count: int) -> Figure:
    ends = interval(each[:, None], resamples(count, len(each)))
    return Figure(*(float(torch.as_tensor(end).squeeze()) for end in vars(ends).values()))


def _sentence(contrast: str, each: pd.DataFrame, row: pd.Series) -> str:
    by_name = {one["model"]: one for one in each.to_dict("records")}
    levels = [
        f"{Figure(one['behaviour'], one['low'], one['high'])} logits in {one['model']}"
        + ("" if one["there"] else " (not there)")
        for one in (by_name[row["against"]], by_name[row["model"]])
    ]
    size = Figure(row["difference"], row["low"], row["high"])
    if not row["differs"]:
        verdict = f"a difference is not shown ({size})"
    elif row["difference"] > 0:
        verdict = f"{row['model']}'s is larger by {size}"
    else:
        verdict = f"{row['model']}'s is smaller by {size.turned}"
    return f"On {contrast!r} pairs the behaviour is {levels[0]} and {levels[1]}: {verdict}."


def _shown(each: pd.DataFrame) -> pd.DataFrame:
    rows = [
        {"pairs": f"{row['contrast']} {row['pairs']}", "model": row["model"],
         "behaviour": str(Figure(row["behaviour"], row["low"], row["high"])),
         "probability": f"{row['probability']:.2f}", "there": "yes" if row["there"] else "no"}
        for _, row in each.iterrows()
    ]  # fmt: skip
    return pd.DataFrame(rows)
