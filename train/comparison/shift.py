"""What training changed in a run's model, found on texts that it and its base write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracking.atomic import write_whole
from tracking.comparison.party import Comparison, Party
from tracking.comparison.relation import by_weights
from tracking.comparison.section import Section
from tracking.comparison.shift.control import control_level
from tracking.comparison.shift.section import shift_section
from tracking.comparison.shift.shift import Judged, Shift
from tracking.comparison.shift.shown import decoder_of, page
from tracking.comparison.shift.shown import positions as table_of
from tracking.comparison.shift.texts import Texts
from tracking.errors import BadInput
from tracking.model.graph import Graph
from tracking.nodes.weight_change import snapshot
from tracking.run_folder import RunFolder
from tracking.timeline.activity import Thresholds
from train.checkpoints import models
from train.comparison.places import Place, began_with
from train.comparison.texts import Asked, drawn_texts, problems_of
from train.evals.sampling import Sampling
from train.run.console import say

PROBLEMS = 32
MANY = 64  # nodes, above which those of small estimates are left out
SCREEN = 1 / 3  # of the share that matters: a smaller estimate is not worth a pass
TOKENS = 256  # of a completion, where the run does not say how many; at most half the positions
BATCH = 8


@dataclass(frozen=True)
class Subject:
    """A model of a run beside the base that it began with."""

    party: Party
    base: Party
    run: RunFolder
    problems: Asked
    tokenizer: Any


def subjects(comparison: Comparison, compared: Sequence[Place], count: int) -> list[Subject]:
    """The models that are compared with their own base, on up to `count` problems of their run:
    those beside the first of their family where that is what the run began with. One whose run has
    no problems that can be asked again is left out, and a line says why."""
    by_name = {place.name: place for place in compared}
    out = []
    for base, *others in comparison.families:
        first = by_name[base.name]
        for party in others:
            place = by_name[party.name]
            if place.run is None or place.model is None or first.model is None:
                continue
            if first.run and first.step:
                say(f"note       what training changed in {party.name} is not looked for beside "
                    f"{first.name}; name {place.run.path}@0 first")  # fmt: skip
                continue
            try:
                problems = problems_of(place.run.path, count)
            except BadInput as reason:
                say(f"note       what changed in {party.name} is not looked for: {reason}")
                continue
            if not began_with(place.run, first.model):
                say(f"note       {party.name} did not begin with {base.name}: what its training "
                    f"changed is not looked for; name {place.run.path}@0 first")  # fmt: skip
                continue
            tokenizer = models.tokenizer([place.model, first.model])
            out.append(Subject(party, base, place.run, problems, tokenizer))
    return out


def shift_section_of(subject: Subject, comparison: Comparison, folder: Path) -> Section:
    """The section of one model. Both models' completions, at temperature 1 and of as many tokens as
    the run's, are written into the folder as a page to read.

    Raises `BadInput` where a prompt leaves no room for a completion, or the control's weights are
    gone.
    """
    assert subject.base.load is not None and subject.party.load is not None  # as `subjects` has it
    base, trained = subject.base.load(), subject.party.load()
    control = _control(comparison, subject, base)
    texts = _texts(subject, {"base": base, "trained": trained})
    judged = judged_by(comparison.thresholds, subject.party.record.graph)
    shift = Shift.of(base, trained, texts, judged, BATCH)
    level = None
    if control is not None:
        own = _texts(subject, {"base": base, "control": control})
        level = control_level(base, control, shift.carried, own, judged, BATCH)
    decode = decoder_of(subject.tokenizer)
    name, against = subject.party.name, subject.base.name
    path = folder / f"shift_{name.replace('/', '-')}.html"
    written = page(texts, shift.divergence, decode, f"{name} and {against} on the same texts")
    write_whole(path, written.encode())
    say(f"texts      {path}")
    table = table_of(texts, shift.divergence, decode)
    return shift_section(name, against, shift, table, level)


def judged_by(thresholds: Thresholds, graph: Graph) -> Judged:
    """What comes out, by the thresholds of a run."""
    screen = SCREEN * thresholds.share if len(graph.nodes) > MANY else 0.0
    return Judged(thresholds.share, thresholds.error, screen)


def sampling_of(tokens: int | None, positions: int, system_prompt: str | None) -> Sampling:
    """How completions are written, of `tokens` at most where a run says how many, by models of so
    many positions."""
    return Sampling(
        temperature=1.0,
        max_new_tokens=int(tokens or min(TOKENS, positions // 2)),
        batch_size=BATCH,
        system_prompt=system_prompt,
    )


def _control(comparison: Comparison, subject: Subject, base: Any) -> Any:
    """The model that the control ended with; None where there is no control, or one of another
    base than this model's, which a line says."""
    if comparison.control is None:
        return None
    last = comparison.control.parties[-1]
    if last.load is None:
        raise BadInput(f"--control {last.name}: its weights are gone")
    control = last.load()
    relation = by_weights(snapshot(base), snapshot(control))
    if not relation.one_base:
        say(f"note       --control is not of the base of {subject.party.name}: {relation.rule}; "
            "its level is not shown there")  # fmt: skip
        return None
    return control


def _texts(subject: Subject, writers: Mapping[str, Any]) -> Texts:
    asked, positions = subject.problems, min(map(_positions, writers.values()))
    tokens = subject.run.config().get("max_completion_length")
    sampling = sampling_of(tokens, positions, asked.system_prompt)
    return Texts.of(drawn_texts(writers, subject.tokenizer, asked.problems, sampling))


def _positions(model: Any) -> int:
    return model.config.max_position_embeddings
