"""The parties of a comparison: each model's record on the same pairs, made where it is missing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from tracking.comparison.party import Party
from tracking.comparison.relation import Relation, by_name, by_weights
from tracking.contrast import Subject
from tracking.errors import BadInput
from tracking.ledger.record import Record
from tracking.ledger.reward import Reward
from tracking.nodes.weight_change import Snapshot, snapshot
from tracking.pairs.frozen import load_pairs, pairs_hash
from tracking.pairs.pairs_file import read_pairs
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.pairs.text import padding
from tracking.run_folder import RunFolder
from tracking.settings import Settings
from tracking.timeline.activity import Thresholds
from tracking.worker import Worker
from train.checkpoints import folders, models
from train.checkpoints.records import set_aside_others
from train.comparison.places import Place
from train.data.contrasts import digit_ids
from train.run.console import say

Pairs = Mapping[str, PromptPairs]  # by contrast


@dataclass(frozen=True)
class Procedure:
    """How records are made that are missing."""

    folder: Path  # where they go
    settings: Settings
    thresholds: Thresholds


def same_pairs(places: Sequence[Place], files: Sequence[str]) -> list[Pairs]:
    """The pairs of each place, the same ones in the same order: those of files, in each model's
    own tokens, or those of the first run that has some.

    Raises `BadInput` where there are none, or where models read the run's tokens otherwise.
    """
    if files:
        return [_from_files(files, place) for place in places]
    frozen = [p.run.ledger.pairs_path for p in places if p.run and p.run.ledger.pairs_path.exists()]
    if not frozen:
        raise BadInput("--pairs is missing: a JSONL file of prompt pairs (docs/pairs.md)")
    pairs = load_pairs(frozen[0])
    check_words(places)
    return [pairs] * len(places)


def parties(places: Sequence[Place], pairs: Sequence[Pairs], how: Procedure) -> list[Party]:
    """Each place with its record on its pairs, all models read in one precision, as parts of them
    are exchanged: that of the records that are there, or else that in which models were saved; the
    widest of several.

    Raises `BadInput` where one has no record and its weights are gone.
    """
    there = [_record(place, of_place) for place, of_place in zip(places, pairs, strict=True)]
    precisions = [record.dtype for record in there if record]
    saved = [place.model.precision for place in places if place.model]
    precision = reduce(torch.promote_types, precisions or saved)
    return [
        _party(place, record or _made(place, of_place, how, precision), of_place, precision)
        for place, record, of_place in zip(places, there, pairs, strict=True)
    ]


def _party(place: Place, record: Record, pairs: Pairs, precision: torch.dtype) -> Party:
    load = partial(place.model.load, precision=precision) if place.model else None
    return Party(place.name, record, pairs, load, place.base, place.step)


def relations(compared: Sequence[Party]) -> dict[tuple[str, str], Relation]:
    """Of every two parties, in both orders, and of each with itself: by their weights, or where
    these are gone by the bases that their runs name."""
    weights = {party.name: snapshot(party.load()) for party in compared if party.load}
    out = {(one.name, one.name): Relation(True, "the same") for one in compared}
    for one, other in combinations(compared, 2):
        out[one.name, other.name] = out[other.name, one.name] = _relation(one, other, weights)
    return out


def relation_of(one: Place, other: Place) -> Relation:
    """Of two places before anything is analysed."""
    if one.model and other.model:
        return by_weights(snapshot(one.model.load()), snapshot(other.model.load()))
    return by_name(one.base, other.base)


def _relation(one: Party, other: Party, weights: Mapping[str, Snapshot]) -> Relation:
    if one.record.graph != other.record.graph:
        return Relation(False, "other shapes")
    if one.name in weights and other.name in weights:
        return by_weights(weights[one.name], weights[other.name])
    return by_name(one.base, other.base)


def _record(place: Place, pairs: Pairs) -> Record | None:
    """The run's own record, where it is of these pairs."""
    if place.run and place.step in place.run.ledger.steps():
        there = place.run.ledger.read(place.step)
        if there.pairs == pairs_hash(pairs):
            return there
    if place.model is None:
        raise BadInput(
            f"{place.name}: its record is of other prompt pairs, and its weights are gone; compare "
            "on its own pairs, naming it first"
        )
    return None


def _made(place: Place, pairs: Pairs, how: Procedure, precision: torch.dtype) -> Record:
    """The record of a model alone, in a folder of the model, its pairs and its precision."""
    model = place.model
    assert model is not None
    facts = f"{model.source} {folders.identity(model.source.files)} {pairs_hash(pairs)} {precision}"
    name = f"{place.name.replace('/', '-')}-{hashlib.sha256(facts.encode()).hexdigest()[:8]}"
    run = RunFolder(how.folder / name)
    worker = Worker(run.ledger, pairs, how.settings, how.thresholds)
    for damage in worker.take_up(1):  # at 0 it would begin anew
        say(damage)
    set_aside_others(run.path, run.ledger, how.settings, [0])
    if not run.ledger.steps():
        say(f"analysing  {place.name}")
        worker.subject = Subject(None, digit_ids(tokenizer_of(place)))
        load = partial(_checked, worker, model, precision)
        worker.work(0, load, Reward(None, "reward"))
    return run.ledger.read(0)


def _checked(worker: Worker, model: models.Model, precision: torch.dtype) -> Any:
    loaded = model.load(precision=precision)
    worker.check(loaded)
    return loaded


def _from_files(files: Sequence[str], place: Place) -> Pairs:
    tokenizer, pairs = tokenizer_of(place), {}
    for file in files:
        try:
            by_contrast = read_pairs(file, tokenizer)
        except BadInput as error:
            raise BadInput(f"{error} (by the tokenizer of {place.name})") from None
        for contrast, of_contrast in by_contrast.items():
            if len(of_contrast) < 2:
                raise BadInput(f"{file}: {contrast!r} has 1 pair; at least 2, better 128")
            if contrast in pairs:
                raise BadInput(f"{file}: contrast {contrast!r} is in another file too")
            pairs[contrast] = PromptPairs.padded(of_contrast, padding(tokenizer))
    return pairs


def check_words(places: Sequence[Place]) -> None:
    """Raise `BadInput` where the tokens of one model are not those of another."""
    first: tuple[str, Any] | None = None
    for place in (place for place in places if place.model):
        words = tokenizer_of(place).get_vocab()
        if first is None:
            first = place.name, words
        elif words != first[1]:
            raise BadInput(
                f"{place.name} has other tokens than {first[0]}: frozen pairs are tokens; give the "
                "pairs as text, --pairs FILE.jsonl"
            )


def tokenizer_of(place: Place) -> Any:
    """Its own or, where it has none, its run's."""
    if place.model is None:
        raise BadInput(f"{place.name}: its weights are gone, so it cannot be tried on other pairs")
    described = [place.model]
    if place.run and folders.holds_model(place.run.path):
        path = place.run.path
        described.append(models.describe(models.Source(str(path), None, path)))  # weights or none
    return models.tokenizer(described)
