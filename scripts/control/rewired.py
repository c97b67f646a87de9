"""A control in which heads keep what they do and change with whom they do it."""

from __future__ import annotations

from scripts.control.control import Outcome, World
from scripts.control.crossed import crossed, pairs_of
from scripts.control.story import PAIRS, records, turned
from tracking.timeline.timeline import Timeline

PARTS = (0, 0, 0.25, 0.5, 0.75, 1)  # straight at two checkpoints: nothing is rewired there
ALIKE = 0.02  # by which the behaviour may differ, as a share of it
DRAWS = 5


def rewired(world: World) -> Outcome:
    """Two writers and two readers swap partners."""
    parts, draws = (0, 0, 1) if world.quick else PARTS, world.draws(DRAWS)
    problems, kept = [], []
    for draw in range(draws):
        models = (crossed(part, draw) for part in parts)
        timeline = Timeline.of(records(models, pairs_of(PAIRS, draw)))
        counts = timeline.counts
        if (counts["behaviour"] / counts["behaviour"].iloc[0] - 1).abs().max() > ALIKE:
            problems.append(f"draw {draw}: the behaviour changed")
        if changed := turned(timeline):
            problems.append(f"draw {draw}: {', '.join(changed)} changed state")
        still, last = counts.iloc[1], counts.iloc[-1]
        if still["wiring_kept_high"] < still["wiring_null_low"]:
            problems.append(f"draw {draw}: not kept before anything was rewired")
        if not last["wiring_kept_high"] < last["wiring_null_low"]:
            problems.append(f"draw {draw}: kept at the end")
        kept.append((still["wiring_kept"], last["wiring_kept"], last["wiring_null"]))
    before, after, null = (sum(ends) / draws for ends in zip(*kept, strict=True))
    came = (
        f"{draws} draws: no node changed state, wiring kept {before:.2f} straight and {after:.2f} "
        f"crossed (null {null:.2f})"
    )
    return Outcome("; ".join([came, *problems]) if problems else came, not problems)
