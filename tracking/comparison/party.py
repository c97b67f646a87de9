"""A party to a comparison: a model with its record, on the same prompt pairs as the others'."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import pandas as pd
from torch import nn

from tracking.comparison.relation import Relation
from tracking.comparison.section import Section
from tracking.ledger.differences import differences
from tracking.ledger.record import Analysis, Record
from tracking.pairs.prompt_pairs import PromptPairs
from tracking.timeline.activity import Thresholds


@dataclass(frozen=True)
class Party:
    """A model that is compared; one of a run is its checkpoint of one step."""

    name: str
    record: Record
    pairs: Mapping[str, PromptPairs]  # by contrast, in the tokens of its own tokenizer
    load: Callable[[], nn.Module] | None  # None where the weights are gone
    base: str | None = None  # the model that its run says it began with
    step: int = 0  # of its run


@dataclass(frozen=True)
class Comparison:
    """Parties whose pairs are the same, in the same order, and how they are to be judged."""

    parties: Sequence[Party]
    relations: Mapping[tuple[str, str], Relation]  # of every two parties, by their names
    thresholds: Thresholds
    batch_size: int = 64
    control: Comparison | None = None  # first and last of a run in which nothing was taught

    @property
    def contrasts(self) -> list[str]:
        """Those that all parties' records have, in the order of the first's."""
        others = [set(party.record.analyses) for party in self.parties[1:]]
        return [one for one in self.parties[0].record.analyses if all(one in o for o in others)]

    def analyses(self, contrast: str) -> dict[str, Analysis]:
        """What the parties' records say of a contrast, by their names."""
        return {party.name: party.record.analyses[contrast] for party in self.parties}

    @property
    def families(self) -> list[list[Party]]:
        """The parties by their base, each with the first that it shares one with: only within a
        family does a node's name mean the same node."""
        families: list[list[Party]] = []
        for party in self.parties:
            mine = (one for one in families if self.relations[one[0].name, party.name].one_base)
            family = next(mine, None)
            if family is None:
                families.append([party])
            else:
                family.append(party)
        return families

    @property
    def related(self) -> list[Sequence[Party]]:
        """The families, and the ends of the control as one more."""
        return [*self.families, *([self.control.parties] if self.control else [])]

    @property
    def with_control(self) -> list[Party]:
        """The parties, and what the control ended with as one more."""
        return [*self.parties, *(self.control.parties[-1:] if self.control else [])]

    @property
    def couples(self) -> list[tuple[Party, Party]]:
        """Every two parties, in their order."""
        return list(combinations(self.parties, 2))


def _shorter(comparison: Comparison) -> list[str]:
    """That a control went on for fewer steps, where it did."""
    if comparison.control is None:
        return []
    first, last = (party.step for party in comparison.control.parties)
    longest = max(comparison.parties, key=lambda party: party.step)
    if last - first >= longest.step:
        return []
    return [
        f"The control's ends are {last - first} steps apart, and {longest.name} is of step "
        f"{longest.step}: in as many steps the control could have moved further."
    ]


def bases_section(comparison: Comparison) -> Section:
    """Which two parties are of one base, and by which rule; and what their records were made with
    otherwise."""
    rows = [
        {"model": other.name, "against": one.name,
         **vars(comparison.relations[one.name, other.name])}
        for one, other in comparison.couples
    ]  # fmt: skip
    sentences = [
        f"{row['against']} and {row['model']} are "
        f"{'of one base' if row['one_base'] else 'not known to be of one base'}: {row['rule']}."
        for row in rows
    ]
    records = {party.name: party.record for party in comparison.parties}
    sentences += [f"The records were made with different {what}." for what in differences(records)]
    sentences += _shorter(comparison)
    return Section("Bases", sentences, {"bases": pd.DataFrame(rows)})
