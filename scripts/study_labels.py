"""How far failure labels can be trusted: precision and recall against labels by hand.

    python scripts/study_labels.py

The responses (tests/train/failures/responses.jsonl) were labelled by reading them, before a rule
was run on them. Rules were made on some, and are judged by the others.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from scipy.stats import binomtest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called by its path, too

from tests.builders.labelled import JUDGED, Labelled, Outcome, labelled_responses, outcome


def print_table(responses: Sequence[Labelled]) -> None:
    """Each label's precision and recall on what its rule was not made on, and on all."""
    print(
        "| label | held out | by hand | precision | recall | all | by hand | precision | recall |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for label in JUDGED:
        unseen = [each for each in responses if each.held_out(label)]
        cells = [cell for some in (unseen, responses) for cell in figures(outcome(label, some))]
        print(f"| {label} | {' | '.join(cells)} |")


def figures(outcome: Outcome) -> list[str]:
    count, right, called, there = outcome.responses, outcome.right, outcome.called, outcome.there
    return [str(count), str(there), share(right, called), share(right, there)]


def share(hits: int, count: int) -> str:
    """A share with Wilson's interval."""
    if not count:
        return "-"
    ends = binomtest(hits, count).proportion_ci(method="wilson")
    return f"{hits / count:.2f} ({ends.low:.2f} to {ends.high:.2f})"


def print_errors(responses: Sequence[Labelled]) -> None:
    """What the rules get wrong, to be read."""
    for label in JUDGED:
        for place, each in enumerate(responses):
            called, there = label in each.called, label in each.labels
            if called != there:
                kind = "called" if called else "missed"
                print(f"\n{label}, {kind} (response {place}): {each.response.text[-200:]!r}")


if __name__ == "__main__":
    responses = labelled_responses()
    print_table(responses)
    print_errors(responses)
