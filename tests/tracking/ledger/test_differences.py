"""Records that are read side by side say in what they were made otherwise."""

from tracking.ledger.differences import differences
from tracking.ledger.record import Record


def record(precision: str = "float32", **settings: object) -> Record:
    return Record(0, 1, 1, "ab12", {}, settings=settings, precision=precision)


def test_precisions_and_settings_that_differ_are_named() -> None:
    assert list(differences({"a": record(rank="signed"), "b": record(rank="signed")})) == []
    both = {"a": record(rank="signed", ig_steps=6), "b": record("bfloat16", rank="absolute")}
    assert list(differences(both)) == [
        "precisions (a float32, b bfloat16)",
        "settings of rank (a signed, b absolute)",
        "settings of ig_steps (a 6, b ?)",
    ]


def test_settings_that_change_no_finding_are_no_difference() -> None:
    both = {"a": record(batch_size=4, memory_gb=1.0), "b": record(batch_size=64)}
    assert list(differences(both)) == []
