"""Everything that a reader of a run's numbers must know before believing them, a line each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pandas as pd

from tracking.errors import BadInput
from tracking.ledger.differences import differences
from tracking.run_folder import RunFolder
from tracking.timeline.activity import weaknesses
from tracking.timeline.coupling import coupling_note, rewards
from tracking.timeline.shares import Shares
from tracking.timeline.timeline import Timeline
from tracking.views import completions
from tracking.views.completions import evaluated
from tracking.views.palette import called

MEANING = {
    "weak": "the circuit, the pairs or the measurements do not bear what the words say",
    "unconverged": "the attribution's integral is not complete, so the ranking of edges is rough",
    "absent": "the behaviour is not surely above 0, so who carries it is not asked",
}
SOUND = (
    "Sound says: the circuit carries most of the behaviour, random ones need at least twice the "
    "edges, halves of the pairs agree on its heads, all edges give the model and none the "
    "corrupted run, hardly a node that was left out is active, and the integral is complete. It "
    "says nothing of other pairs, or of why anything changed."
)
FEW = 6  # checkpoints, below which a change cannot be set against the run's own fluctuation


def caveats(run: Path, timeline: Timeline) -> list[str]:
    """The caveats of a run's folder and its timeline: what is missing, weak, failed or mixed."""
    return [
        *_few(timeline),
        *_control(timeline),
        *_missing(run),
        *_evaluated(run),
        *(line for contrast in timeline.contrasts for line in _of_contrast(timeline, contrast)),
        *_mixed(timeline),
    ]


def between(timelines: Mapping[str, Timeline]) -> list[str]:
    """What forbids to compare several runs, by their names."""
    lines = []
    pairs = {name: one.records[0].pairs for name, one in timelines.items()}
    if len(set(pairs.values())) > 1:
        hashes = ", ".join(f"{name} {checksum[:8]}" for name, checksum in pairs.items())
        lines.append(
            f"The runs were tracked with different pairs ({hashes}): "
            "differences between them can be differences of the pairs."
        )
    shapes = {(one.records[0].n_layers, one.records[0].n_heads) for one in timelines.values()}
    if len(shapes) > 1:
        lines.append("The runs are of models of different sizes: a head is not the same in all.")
    last = {name: one.records[-1] for name, one in timelines.items()}
    lines += [f"The runs were tracked with different {what}." for what in differences(last)]
    everywhere = set.intersection(*(set(one.contrasts) for one in timelines.values()))
    for contrast in _unique(contrast for one in timelines.values() for contrast in one.contrasts):
        if contrast not in everywhere:
            without = [name for name, one in timelines.items() if contrast not in one.contrasts]
            lines.append(f"No {contrast!r} pairs in {', '.join(without)}.")
    return lines


def _few(timeline: Timeline) -> Iterator[str]:
    first = timeline.records[0].step
    if first != 0:
        yield (
            f"No record of step 0: base nodes are those active at step {first}, "
            "the first that was analysed."
        )
    if len(timeline.records) == 1:
        yield (
            f"One checkpoint has been analysed (step {first}): what becomes of the behaviour and "
            "of who carries it cannot be said yet."
        )
    elif len(timeline.records) < FEW:
        yield (
            f"{len(timeline.records)} checkpoints have been analysed: whether a change is more "
            f"than the run's own fluctuation takes {FEW}."
        )


def _control(timeline: Timeline) -> Iterator[str]:
    control, last = timeline.control, timeline.records[-1].step
    if len(timeline.records) == 1:
        return
    if control is None:
        yield (
            "No control was given: shares drift under a random reward too, and how far is not "
            "known (--control RUN, a run in which nothing is taught)."
        )
        return
    first = timeline.records[0].step
    if (begin := control.records[0].step) != first:
        yield (
            f"The control's records begin at step {begin}, the run's at step {first}: whether both "
            "began as the same model is not checked, and drift is counted from there."
        )
    if (end := control.records[-1].step) < last:
        yield (
            f"The control ends at step {end}, the run at step {last}: in as many steps it could "
            "have drifted further."
        )


def _missing(run: Path) -> Iterator[str]:
    try:
        ledger = RunFolder(run).ledger
        marks, offset = ledger.marks(), ledger.offset
    except BadInput as error:
        yield f"Why steps are missing cannot be told: {error}."
        return
    for mark in marks.values():
        step = offset + mark.step
        yield f"Step {step} was not analysed and is missing here: {mark.message} ({mark.why})."


def _evaluated(run: Path) -> Iterator[str]:
    """Where completions may be evaluation's, or are missing for that."""
    there, steps = completions.files(run), evaluated(run)
    if not there:
        return
    if steps is None and _evaluates(run):
        yield (
            "Where the model was evaluated TRL wrote evaluation's completions over training's; no "
            "checkpoint tells at which steps, so both are taken for training's."
        )
    lost = [step for step in steps or [] if step in there]
    if lost:
        yield (
            f"The completions of {len(lost)} of {len(there)} logged steps are left out: the model "
            "was evaluated there, and TRL wrote evaluation's over training's."
        )


def _evaluates(run: Path) -> bool:
    # a plain `no` is YAML's false
    return RunFolder(run).config().get("eval_strategy") not in ("no", False, None)


def _of_contrast(timeline: Timeline, contrast: str) -> Iterator[str]:
    nodes, counts = timeline.of_contrast(contrast)
    yield from _judged(timeline, contrast, counts)
    yield from _before(timeline, contrast)
    reward = rewards(counts, contrast)
    if contrast == timeline.contrasts[0] and not reward.notna().any():
        yield "No reward is known at any checkpoint."
    elif contrast == timeline.contrasts[0] and reward.name != "reward":
        name = called(reward.name)
        less = "; less is better" if reward.name == "loss" else ""
        yield f"No reward was logged; {name} stands for it{less}."
    last = nodes[nodes["step"] == counts["step"].iloc[-1]]
    if unsure := int((last["state"] == "undecided").sum()):
        yield (
            f"{contrast!r} pairs: of {unsure} of {len(last)} nodes the first "
            "checkpoint could not tell whether they are active, so they have no history; more "
            "pairs would."
        )
    if nodes.loc[nodes["kind"] == "head", "weight_change"].isna().all():
        yield f"{contrast!r} pairs: the change of weights is not known (no weights of the base)."
    note = coupling_note(int(reward.count()))
    if note and len(counts) > 1:
        yield f"{contrast!r} pairs, beside the reward: {note}."


def _judged(timeline: Timeline, contrast: str, counts: pd.DataFrame) -> Iterator[str]:
    """The checkpoints that are not sound, by verdict; of weak ones why, the last first."""
    for verdict, meaning in MEANING.items():
        steps = counts.loc[counts["verdict"] == verdict, "step"]
        if not len(steps):
            continue
        why = ""
        if verdict == "weak":
            record = next(one for one in timeline.records if one.step == steps.iloc[-1])
            analysis = record.analyses[contrast]
            against = weaknesses(analysis, Shares.of(analysis), timeline.thresholds)
            why = f"; at step {record.step} {'; '.join(against)}"
        yield (
            f"{contrast!r} pairs: {len(steps)} of {len(counts)} checkpoints are {verdict} "
            f"(step {_listed(steps)}): {meaning}{why}."
        )


def _before(timeline: Timeline, contrast: str) -> Iterator[str]:
    """Records of before."""
    analyses = {record.step: record.analyses[contrast] for record in timeline.records}
    old = [step for step, one in analyses.items() if one.behaviour.clean.isnan().all()]
    if old:
        yield (
            f"{contrast!r} pairs: records without effects or behaviour (step "
            f"{_listed(pd.Series(old))}), of an older version: nothing is known of their nodes; "
            "tracked again they would tell."
        )


def _mixed(timeline: Timeline) -> Iterator[str]:
    precisions = _unique(record.precision for record in timeline.records)
    if len(precisions) > 1:
        yield f"Records were made in different precisions: {', '.join(precisions)}."
    for package in timeline.records[-1].versions:
        versions = _unique(record.versions.get(package, "?") for record in timeline.records)
        if len(versions) > 1:
            yield f"Records were made with different versions of {package}: {', '.join(versions)}."
    for name in timeline.records[-1].settings:
        versions = _unique(str(record.settings.get(name, "?")) for record in timeline.records)
        if len(versions) > 1:
            yield f"Records were made with different settings of {name}: {', '.join(versions)}."


def _listed(steps: pd.Series) -> str:
    shown = [str(step) for step in steps[:8]]
    return ", ".join(shown) + (f" and {len(steps) - 8} more" if len(steps) > 8 else "")


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
