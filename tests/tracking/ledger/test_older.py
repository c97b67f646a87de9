"""Records of formats 3 and 4 are read, with what they lack missing, and never called damaged."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from tracking.ledger.codec import _digest
from tracking.ledger.ledger import Ledger
from tracking.ledger.record import Record
from tracking.model.graph import Graph
from tracking.timeline.summary import Summary
from tracking.timeline.timeline import Timeline

GRAPH, PAIRS, RESAMPLES = Graph(2, 2), 6, 20
PLACES = {  # of format 4; format 3 has neither parts
    "scores": ("edge_scores", "strength", "gap"),
    "circuit": ("circuit", "curve", "clean", "corrupted", "difference_low", "faithfulness",
                "faithfulness_low", "faithfulness_high", "complement", "accuracy",
                "clean_accuracy", "cpr", "cmd"),
    "stability": ("in_circuit", "edge_membership", "jaccard", "jaccard_low", "jaccard_high",
                  "rank_correlation", "pairs_needed"),
    "heads": ("effect", "roles", "weight_change"),
}  # fmt: skip
OLD = {"edge_scores": "edges", "weight_change": "weights", "pairs_needed": "probes_needed"}


def contents() -> tuple[dict[str, Tensor], dict[str, float]]:
    """Tensors and numbers of an analysis of before, by name."""
    heads = len(GRAPH.head_names)
    circuit = torch.zeros(GRAPH.edge_mask.shape).bool()
    circuit[GRAPH.index("embed->L0H1.v")] = circuit[GRAPH.index("L0H1->logits")] = True
    inside = torch.zeros(RESAMPLES, heads).bool()
    inside[:, 1], inside[:5, 2] = True, True
    tensors = {
        "edge_scores": torch.randn(circuit.shape), "strength": torch.rand(circuit.shape),
        "circuit": circuit, "curve": torch.rand(3, 4), "in_circuit": inside,
        "edge_membership": torch.rand(circuit.shape), "effect": torch.randn(PAIRS, heads),
        "roles": torch.rand(8, heads), "weight_change": torch.rand(5, heads),
    }  # fmt: skip
    every = [name for names in PLACES.values() for name in names if name not in tensors]
    return tensors, {name: round(0.1 + 0.01 * place, 2) for place, name in enumerate(every)}


def older(number: int, step: int = 0) -> bytes:
    """The bytes of a record as that format had it."""
    tensors, numbers = contents()
    facts: dict[str, Any] = {"step": step, "reward": 0.5, "reward_name": "reward", "seconds": 1.5}
    if number == 3:
        stored = {f"cue/{OLD.get(name, name)}": value for name, value in tensors.items()}
        facts |= {
            "layers": 2,
            "heads": 2,
            "probes": "ab12",
            "settings": {"steps": 8, "member": 0.8},
        }
        facts["analyses"] = {"cue": {OLD.get(k, k): v for k, v in numbers.items()}}
    else:
        part_of = {name: part for part, names in PLACES.items() for name in names}
        stored = {f"cue/{part_of[name]}/{name}": value for name, value in tensors.items()}
        facts |= {"n_layers": 2, "n_heads": 2, "pairs": "ab12", "settings": {"ig_steps": 8}}
        facts["thresholds"] = {"member": 0.8, "effect": 0.02, "gap": 0.1}
        facts["analyses"] = {
            "cue": {
                part: {name: numbers[name] for name in names if name in numbers}
                for part, names in PLACES.items()
            }
        }
    text = json.dumps(facts)
    header = {"format": f"sparks-record-{number}", "facts": text, "sha256": _digest(text, stored)}
    return save(stored, metadata=header)


def read(folder: Path, number: int) -> Record:
    torch.manual_seed(0)
    (folder / "step-00000000.safetensors").write_bytes(older(number))
    ledger = Ledger(folder)
    assert ledger.set_aside_damaged() == []
    (record,) = ledger.records()
    return record


formats = pytest.mark.parametrize("number", [3, 4])


@formats
def test_what_a_record_of_before_says_of_circuits_stands(tmp_path: Path, number: int) -> None:
    record = read(tmp_path, number)
    torch.manual_seed(0)
    tensors, numbers = contents()
    analysis = record.analyses["cue"]
    assert (record.step, record.pairs, record.reward, record.graph) == (0, "ab12", 0.5, GRAPH)
    assert record.settings == {"ig_steps": 8} and record.thresholds["member"] == 0.8
    assert "effect" not in record.thresholds
    assert torch.equal(analysis.scores.edge_scores, tensors["edge_scores"])
    assert torch.equal(analysis.circuit.circuit, tensors["circuit"])
    assert torch.equal(analysis.heads.weight_change, tensors["weight_change"])
    assert analysis.circuit.faithfulness == numbers["faithfulness"]
    assert analysis.stability.pairs_needed == numbers["pairs_needed"]
    assert analysis.circuit.size == 2
    assert analysis.wiring is None


@formats
def test_membership_is_as_it_was(tmp_path: Path, number: int) -> None:
    nodes = Timeline.of([read(tmp_path, number)]).nodes.set_index("node")
    wanted = {"L0H0": 0, "L0H1": 1, "L1H0": 0.25, "L1H1": 0, "M0": 0, "M1": 0}
    assert nodes["membership"].to_dict() == pytest.approx(wanted)
    assert nodes.index[nodes["in_circuit"]].tolist() == ["L0H1"]


@formats
def test_its_nodes_are_undecided_and_its_behaviour_unknown(tmp_path: Path, number: int) -> None:
    record = read(tmp_path, number)
    assert record.analyses["cue"].behaviour.clean.isnan().all()
    later = [Record(**{**vars(record), "step": step}) for step in (0, 10, 20)]
    timeline = Timeline.of(later)
    assert set(timeline.nodes["state"]) == {"undecided"}
    assert not timeline.nodes["active"].any() and not timeline.nodes["lasting"].any()
    assert (timeline.counts["verdict"] == "absent").all()
    assert timeline.counts["turnover"].notna().tolist() == [False, True, True]
    assert "not known" in Summary.of(timeline, "cue").sentence
