"""A record is read back as it was written, or refused; nothing in a ledger is lost or mixed."""

import json
import math
import resource
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load, save, save_file
from torch import Tensor

from tests.builders.analyses import make_analysis
from tracking.atomic import write_whole
from tracking.errors import BadInput
from tracking.ledger.codec import _digest, read_record, to_bytes
from tracking.ledger.ledger import Ledger, Mark
from tracking.ledger.record import Analysis, Record
from tracking.model.graph import Graph

PARTS = [part for name, part in get_type_hints(Analysis).items() if name != "wiring"]
NUMBERS = [item.name for part in PARTS for item in fields(part) if item.type == "float"]

numbers = st.floats(allow_nan=True)
facts = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def random_analysis(graph: Graph, seed: int = 0, **more: Any) -> Analysis:
    generator = torch.Generator().manual_seed(seed)
    shape, heads, nodes = graph.edge_mask.shape, len(graph.head_names), len(graph.nodes)
    drawn = {
        "clean": torch.randn(5, generator=generator),
        "corrupted": torch.randn(5, generator=generator),
        "edge_scores": torch.randn(shape, generator=generator),
        "strength": torch.rand(shape, generator=generator),
        "circuit": torch.rand(shape, generator=generator) < 0.5,
        "entries": torch.randint(0, 9, (5, nodes), generator=generator, dtype=torch.int32),
        "edge_membership": torch.rand(shape, generator=generator),
        "corrupt": torch.randn(5, nodes, generator=generator),
        "restore": torch.randn(5, nodes, generator=generator),
        "sampled": torch.rand(nodes, generator=generator) < 0.5,
        "edge_draws": torch.randint(0, 255, (1, 9), generator=generator, dtype=torch.uint8),
        "curve": torch.rand(4, 4, generator=generator),
        "roles": torch.rand(8, heads, generator=generator),
        "weight_change": torch.rand(5, heads, generator=generator),
    }
    return make_analysis(graph, **{**drawn, **more})


def record(step: int = 10, pairs: str = "ab12", seed: int = 0) -> Record:
    analyses = {"pairs": random_analysis(Graph(2, 2), seed)}
    return Record(step, 2, 2, pairs, analyses, reward=0.5, settings={"select": "share=0.9"})


@st.composite
def records(draw: Any) -> Record:
    graph = Graph(draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    contrasts = draw(
        st.lists(st.text(st.characters(codec="utf-8"), max_size=6), max_size=3, unique=True)
    )
    return Record(
        step=draw(st.integers(0, 10**9)),
        n_layers=graph.n_layers,
        n_heads=graph.n_heads,
        pairs=draw(st.text()),
        analyses={
            contrast: random_analysis(
                graph,
                draw(st.integers(0, 2**31)),
                **{name: draw(numbers) for name in NUMBERS},
                pairs_needed=draw(st.none() | numbers),
                **draw(st.sampled_from([{}, {"wiring": None}])),
            )
            for contrast in contrasts
        },
        reward=draw(st.none() | numbers),
        reward_name=draw(st.text()),
        seconds=draw(numbers),
        settings=draw(st.dictionaries(st.text(), facts, max_size=4)),
        versions=draw(st.dictionaries(st.text(), st.text(), max_size=4)),
        precision=draw(st.text()),
    )


def assert_same(result: Any, wanted: Any) -> None:
    """Equal to the bit, NaN to NaN, a 1 not to a True."""
    assert type(result) is type(wanted)
    if isinstance(wanted, Tensor):
        assert result.dtype == wanted.dtype and torch.equal(result, wanted)
    elif is_dataclass(wanted):
        for item in fields(wanted):
            assert_same(getattr(result, item.name), getattr(wanted, item.name))
    elif isinstance(wanted, dict):
        assert list(result) == list(wanted)
        for key in wanted:
            assert_same(result[key], wanted[key])
    elif isinstance(wanted, float) and math.isnan(wanted):
        assert math.isnan(result)
    else:
        assert result == wanted


@given(records())
def test_a_record_is_read_back_as_it_was_written(wanted: Record) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "run" / "heads")
        path = ledger.write(wanted)
        assert ledger.steps() == [wanted.step]
        assert [file.name for file in ledger.folder.iterdir()] == [path.name]
        assert_same(ledger.read(wanted.step), wanted)
        assert ledger.read(wanted.step).graph == Graph(wanted.n_layers, wanted.n_heads)


def test_a_record_of_views_is_read_back_as_their_values(tmp_path: Path) -> None:
    graph = Graph(2, 2)
    analysis = random_analysis(
        graph,
        corrupt=torch.randn(6, 16).T[:, :6],
        circuit=graph.edge_mask.expand_as(graph.edge_mask),
        strength=torch.ones(1, 1).expand(graph.edge_mask.shape),
    )
    wanted = replace(record(), analyses={"pairs": analysis})
    assert_same(read_record(Ledger(tmp_path).write(wanted)), wanted)


def laid_out_as(number: int, whole: Record, without: str = "-", lacking: str = "-") -> bytes:
    """A record's bytes as another version may have written it: without the tensors that end so,
    and without a number."""
    stored = load(to_bytes(whole))
    tensors = {n: t for n, t in stored.items() if not (without and n.endswith(without))}
    facts = {item.name: getattr(whole, item.name) for item in fields(Record)}
    facts["analyses"] = {
        contrast: {
            part.name: _numbers(getattr(analysis, part.name), lacking)
            for part in fields(analysis)
            if getattr(analysis, part.name) is not None
        }
        for contrast, analysis in whole.analyses.items()
    }
    text = json.dumps({**facts, "of a later version": 1})
    meta = {"format": f"sparks-record-{number}", "facts": text, "sha256": _digest(text, tensors)}
    return save(tensors, metadata=meta)


def _numbers(part: Any, lacking: str) -> dict[str, Any]:
    values = {item.name: getattr(part, item.name) for item in fields(part)}
    return {k: v for k, v in values.items() if not isinstance(v, Tensor) and k != lacking}


def test_a_record_without_a_later_field_is_read_with_its_default(tmp_path: Path) -> None:
    whole = record()
    (tmp_path / "r").write_bytes(laid_out_as(5, whole, without="", lacking="random_size"))
    result = read_record(tmp_path / "r").analyses["pairs"].circuit
    assert math.isnan(result.random_size)
    assert torch.equal(result.circuit, whole.analyses["pairs"].circuit.circuit)


@pytest.mark.parametrize("number", [2, 6])
def test_a_record_of_a_format_of_another_time_is_refused(tmp_path: Path, number: int) -> None:
    (tmp_path / "r").write_bytes(laid_out_as(number, record()))
    with pytest.raises(BadInput, match=f"of format {number}; this version reads 3 to 5"):
        read_record(tmp_path / "r")


def test_a_record_can_be_read_without_this_package(tmp_path: Path) -> None:
    """Its layout is a promise: tensors by contrast and name, facts as JSON in the header."""
    wanted = record()
    with safe_open(Ledger(tmp_path).write(wanted), "pt") as file:
        facts = json.loads(file.metadata()["facts"])
        assert torch.equal(
            file.get_tensor("pairs/scores/edge_scores"), wanted.analyses["pairs"].scores.edge_scores
        )
        tensors = {
            f"pairs/{part.name}/{item.name}"
            for part in fields(Analysis)
            for item in fields(getattr(wanted.analyses["pairs"], part.name))
            if item.type in ("Tensor", "Tensor | None")
        }
        assert set(file.keys()) == tensors and len(tensors) > 20
    assert (tmp_path / "step-00000010.safetensors").is_file()
    assert facts["step"] == 10 and facts["pairs"] == "ab12" and facts["reward"] == 0.5
    assert facts["settings"] == {"select": "share=0.9"}
    (result,) = facts["analyses"].values()
    numbers = {name for part, values in result.items() if part != "wiring" for name in values}
    assert numbers == {*NUMBERS, "pairs_needed", "size"}
    assert result["scores"]["gap"] == 0.01 and result["circuit"]["faithfulness"] == 0.9


def test_a_record_that_is_cut_short_is_refused_in_one_line(tmp_path: Path) -> None:
    whole, path = to_bytes(record()), tmp_path / "cut.safetensors"
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    for size in [*range(0, header + 40, 3), *range(header + 40, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(BadInput) as raised:
            read_record(path)
        assert str(path) in str(raised.value) and "\n" not in str(raised.value)
    path.write_bytes(whole)
    assert_same(read_record(path), record())


@settings(max_examples=300)
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
def test_a_header_with_a_wrong_byte_is_refused_or_read_and_nothing_else(
    place: float, byte: int
) -> None:
    """One digit for another still makes a record; of the rest nothing but `BadInput` may come."""
    whole = bytearray(to_bytes(record()))
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    whole[int(place * header)] = byte
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flipped.safetensors"
        path.write_bytes(whole)
        try:
            assert isinstance(read_record(path), Record)
        except BadInput as error:
            assert str(path) in str(error)


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"format": "sparks-record-0", "facts": "{}"},
        {"format": "sparks-record-1", "facts": "{}"},
        {"format": "sparks-record-2"},
        {"format": "sparks-record-2", "facts": "{"},
        {"format": "sparks-record-2", "facts": "{}"},
        {"format": "sparks-record-2", "facts": "[]"},
        {"format": "sparks-record-2", "facts": '{"analyses": {}}'},
        {"format": "sparks-record-2", "facts": '{"analyses": {"pairs": {"gap": 0}}}'},
        {"format": "sparks-record-2", "facts": '{"analyses": {}, "colour": 1}'},
        {"format": "sparks-record-2", "facts": "5"},
        {"format": "sparks-record-2", "facts": '{"analyses": []}'},
    ],
)
def test_a_foreign_file_is_refused(tmp_path: Path, header: dict[str, str]) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.ones(2)}, path, metadata=header)
    with pytest.raises(BadInput, match="foreign"):
        read_record(path)


def test_a_record_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"step-00000007.*no such record"):
        Ledger(tmp_path).read(7)
    (tmp_path / "step-00000007.safetensors").mkdir()
    with pytest.raises(BadInput, match="step-00000007"):
        Ledger(tmp_path).read(7)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 10**10), max_size=8, unique=True))
def test_records_come_in_the_order_of_their_steps(steps: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder))
        for step in steps:
            ledger.write(record(step))
        ledger.mark_failed(3, ValueError("out of memory"))
        assert ledger.steps() == sorted(steps)
        assert [read.step for read in ledger.records()] == sorted(steps)


def test_records_made_with_different_pairs_are_not_mixed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.write(record(1, "ab12"))
    ledger.write(record(2, "cd34"))
    with pytest.raises(BadInput, match="ab12, cd34"):
        ledger.records()


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=8))
def test_superseding_moves_later_records_and_loses_none(resumes: list[tuple[int, int]]) -> None:
    """A run that is resumed again and again: train up to a step, go back to another."""
    with tempfile.TemporaryDirectory() as folder:
        ledger, written = Ledger(Path(folder)), 0
        for upto, back in resumes:
            for step in range(upto + 1):
                if step not in ledger.steps():
                    ledger.write(record(step, seed=written))
                    written += 1
            before = ledger.steps()
            moved = ledger.supersede(back)
            assert ledger.steps() == [step for step in before if step <= back]
            assert [read_record(path).step for path in moved] == [s for s in before if s > back]
        files = [*ledger.folder.rglob("*.safetensors")]
        contents = {
            read_record(path).analyses["pairs"].scores.edge_scores.sum().item() for path in files
        }
        assert len(files) == len(contents) == written
        assert {path.parent.name for path in files} <= {ledger.folder.name, "superseded"}


def test_a_failed_step_is_marked_until_it_has_a_record(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.mark_failed(10, MemoryError("no room"))
    ledger.mark(Mark(20, "budget"))
    wanted = {10: Mark(10, "failed", "MemoryError: no room"), 20: Mark(20, "budget")}
    assert ledger.marks() == wanted
    ledger.write(record(10))
    assert list(ledger.marks()) == [20]
    ledger.supersede(after=10)
    assert ledger.marks() == {} and ledger.steps() == [10]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"step": 1}', '{"step": "x", "why": ""}', "[" * 9999]
)
def test_a_mark_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "missing-00000007.json").write_text(text)
    with pytest.raises(BadInput, match=r"missing-00000007\.json: not a whole mark"):
        Ledger(tmp_path).marks()


def test_the_step_saved_before_has_a_record_a_mark_or_a_checkpoint(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.before(10) == 0
    ledger.write(record(2))
    ledger.mark(Mark(4, "preempted"))
    assert [ledger.before(step) for step in (2, 3, 4, 5)] == [0, 2, 2, 4]
    assert ledger.before(10, checkpoints=(0, 8, 12)) == 8


FLIPPED = to_bytes(Record(3, 1, 1, "ab", {"cue": random_analysis(Graph(1, 1))}, reward=0.25))


@settings(max_examples=300)
@given(st.integers(0, len(FLIPPED) - 1), st.integers(0, 7))
def test_a_flipped_bit_is_noticed_or_changes_nothing(place: int, bit: int) -> None:
    changed = bytearray(FLIPPED)
    changed[place] ^= 1 << bit
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "step-00000003.safetensors"
        path.write_bytes(changed)
        try:
            result = read_record(path)
        except BadInput as error:
            assert "\n" not in str(error) and path.name in str(error)
        else:
            path.write_bytes(FLIPPED)
            assert_same(result, read_record(path))


def test_a_timeline_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    table = pd.DataFrame({"step": [1, 2], "node": ["L0H0", "M0"], "share": [0.5, float("nan")]})
    ledger = Ledger(tmp_path / "heads")
    ledger.write_timeline(table, table)
    pd.testing.assert_frame_equal(pd.read_parquet(ledger.counts_path), table)
    pd.testing.assert_frame_equal(pd.read_parquet(ledger.timeline_path), table)


@contextmanager
def a_full_disk(room: int) -> Iterator[None]:
    """Within it no file can grow beyond `room` bytes: the write fails midway, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0, 1, 1000])
@pytest.mark.parametrize("there", [True, False])
def test_a_write_that_breaks_off_leaves_what_was_there(
    tmp_path: Path, room: int, there: bool
) -> None:
    ledger, old, new = Ledger(tmp_path), record(seed=1), record(seed=2)
    assert len(to_bytes(new)) > room
    if there:
        ledger.write(old)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with a_full_disk(room), pytest.raises(OSError):
        ledger.write(new)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    ledger.write(new)
    assert_same(ledger.read(10), new)


def test_a_rename_that_fails_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "taken" / "inside").mkdir(parents=True)
    with pytest.raises(OSError):
        write_whole(tmp_path / "taken", b"bytes")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
