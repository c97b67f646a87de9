"""What a study says, in the terminal: a row a comparison and benchmark, and sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from rich.console import Console
from rich.text import Text

from tracking.interventions.matched import MatchedSets
from train.ablation.difficulty.harder import Harder
from train.ablation.labelled import LabelShare
from train.ablation.modes import GRAFT
from train.ablation.paired import Difference
from train.ablation.results import FEWEST, LEVEL, Prediction, Result
from train.failures.shares import in_words

MATCHED = {"layer": "of the same layers", "norm": "of like write norm"}
SMALL = 1e-4  # p below it are printed as such


def show(results: Sequence[Result], console: Console | None = None) -> None:
    """Accuracy as it is and with the nodes off, the change, and what remains of it beyond controls,
    each with its 95 % interval; `*` where it is significant after Holm."""
    console = console or Console(highlight=False, soft_wrap=True)
    room = max(len(_name(result)) for result in results)
    bench = max(len("benchmark"), *(len(result.benchmark) for result in results))
    matchings = list(dict.fromkeys(name for result in results for name in result.controls))
    titles = ["on", "off", "change", "p", *(f"controls by {name}" for name in matchings), "shows"]
    console.print()
    console.print(Text(_line("heads off", room, "benchmark", bench, titles), "bold"))
    for result in results:
        starred = "*" if result.p <= LEVEL else " "
        cells = [
            f"{result.on:.3f}",
            f"{result.off:.3f}",
            f"{_spread(result.change)}{starred}",
            f"<{SMALL:g}" if result.p < SMALL else f"{result.p:.4f}",
            *(_control(result, name) for name in matchings),
            "-" if math.isnan(result.smallest) else f"{result.smallest:.3f}",
        ]
        console.print(Text(_line(_name(result), room, result.benchmark, bench, cells)))
    console.print(
        Text(
            "off less on, then off less controls off, 95 % intervals over problems (and sets); * "
            "significant after Holm; shows: the least change that so many problems would show",
            "dim",
        )
    )


def sentences(results: Sequence[Result]) -> list[str]:
    """What each result supports, one line each, in words."""
    return [_sentence(result) for result in results]


def notes(controls: dict[str, MatchedSets]) -> list[str]:
    """Where control sets are not what was asked for."""
    out = []
    for name, sets in controls.items():
        if len(sets.sets) < sets.asked:
            few = ", too few to compare with" if len(sets.sets) < FEWEST else ""
            out.append(f"only {len(sets.sets)} different control sets {MATCHED[name]}{few}")
        if sets.moved:
            out.append(f"{sets.moved} heads of each control set are from a neighbouring layer")
        if sets.norm_ratio is not None and not 0.8 <= sets.norm_ratio <= 1.25:
            out.append(f"the controls' write norm is {sets.norm_ratio:.2f} of the heads' own")
    return out


def failed_in(each: Sequence[LabelShare]) -> list[str]:
    """How responses fail as the model is, with each set off, and with its control sets off."""
    out = []
    for benchmark, target, mode in dict.fromkeys(map(_place, each)):
        mine = [one for one in each if _place(one) == (benchmark, target, mode)]
        table = pd.DataFrame({one.label: one.shares for one in mine})
        parts = "; ".join(f"{part}: {in_words(shares)}" for part, shares in table.iterrows())
        out.append(f"failures in {benchmark}, {target} at {mode}: {parts}")
    return out


def _place(one: LabelShare) -> tuple[str, str, str]:
    return one.benchmark, one.comparison.target.name, one.comparison.mode.name


def predicted(predictions: Sequence[Prediction]) -> list[str]:
    """Whether shares on prompt pairs tell which heads solving needs."""
    return [
        f"{one.benchmark}: over {one.heads} heads, each {one.mode} alone, share on prompt pairs "
        "and loss in solving correlate (Spearman) by "
        f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f})"
        for one in predictions
    ]


def suffered(each: Sequence[Harder]) -> list[str]:
    """Whether the change is another on hard problems than on easy ones, a line each."""
    return [_suffered(one) for one in each]


def _suffered(one: Harder) -> str:
    easy, hard = one.easy, one.hard
    changes = f"{hard.change.mean:+.2f} in {hard.benchmark}, {easy.change.mean:+.2f} in "
    begin = f"with {_name(hard)} accuracy changes by {changes}{easy.benchmark}"
    if one.p > LEVEL:
        text = f"{begin}: that these differ is not shown ({_spread(one.more)})"
        if not one.room:
            return f"{text}; {hard.benchmark}, at {hard.on:.2f}, has no room to change as much"
        if math.isnan(one.smallest):
            return f"{text}; so few problems could not show it"
        return f"{text}; {one.smallest:.2f} would have been, in four of five studies"
    if one.more.mean < 0:
        word = "suffers more" if hard.change.mean < 0 else "gains less"
    else:
        word = "suffers less" if easy.change.mean < 0 else "gains more"
    text = f"{begin}: {hard.benchmark} {word} ({_spread(one.more)})"
    controls = [
        f"{'beyond' if name in one.beyond else 'not shown to be beyond'} random sets "
        f"{MATCHED[name]} ({_spread(against)})"
        for name, against in one.controls.items()
    ]
    room = "" if one.room else f"; {hard.benchmark}, at {hard.on:.2f}, has little room"
    return f"{', '.join([text, *controls])}{room}"


def _sentence(result: Result) -> str:
    comparison = result.comparison
    what = comparison.target.name
    kind = "head" if comparison.target.heads == comparison.target.nodes else "node"
    count = len(comparison.target.nodes)
    kind += "s" * (count > 1)
    done = "grafted in" if comparison.mode == GRAFT else f"at {comparison.mode.name}"
    begin = f"{result.benchmark}: with {what} ({count} {kind}) {done}"
    if result.p > LEVEL:
        text = f"{begin} no change is shown ({_spread(result.change)})"
        if math.isnan(result.smallest):
            return f"{text}; so few problems could show none"
        return f"{text}; one of {result.smallest:.2f} would have been, in four of five studies"
    word = "fewer" if result.change.mean < 0 else "more"
    text = f"{begin} {word} problems are solved ({result.on:.2f} to {result.off:.2f})"
    if not result.controls:
        why = "too few random sets" if comparison.controls else "no random nodes"
        return f"{text}; there are {why} to compare with"
    controls = []
    for name, (accuracy, against) in result.controls.items():
        beyond = "beyond" if name in result.beyond else "not shown to be beyond"
        controls.append(
            f"{beyond} {against.controls} random sets {MATCHED[name]} ({accuracy:.2f} with these)"
        )
    return f"{text}, {' and '.join(controls)}"


def _name(result: Result) -> str:
    return f"{result.comparison.target.name} {result.comparison.mode.name}"


def _control(result: Result, name: str) -> str:
    if name not in result.controls:
        return "-"
    _, against = result.controls[name]
    return f"{_spread(against.difference)}{'*' if name in result.beyond else ' '}"


def _spread(change: Difference) -> str:
    return f"{change.mean:+.3f} ({change.low:+.3f} to {change.high:+.3f})"


def _line(name: str, room: int, benchmark: str, bench: int, cells: Sequence[str]) -> str:
    narrow, wide = 8, 28
    widths = [narrow, narrow, wide, narrow, *[wide] * (len(cells) - 5), narrow]
    parts = "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
    return f"{name:<{room}}  {benchmark:<{bench}}{parts}"
