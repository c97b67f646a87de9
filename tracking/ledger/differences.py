"""What records that are read side by side were made with otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tracking.ledger.record import PROCEDURE, Record


def differences(records: Mapping[str, Record]) -> Iterator[str]:
    """By the names of records, `precisions (a float32, b bfloat16)` or `settings of rank (...)` for
    each in which they differ, but for settings that change no finding."""
    names = dict.fromkeys(name for one in records.values() for name in one.settings)
    facts = {"precisions": {run: one.precision for run, one in records.items()}}
    for name in names:
        if name not in PROCEDURE:
            facts[f"settings of {name}"] = {
                run: str(one.settings.get(name, "?")) for run, one in records.items()
            }
    for what, values in facts.items():
        if len(set(values.values())) > 1:
            listed = ", ".join(f"{run} {value}" for run, value in values.items())
            yield f"{what} ({listed})"
