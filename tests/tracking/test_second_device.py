"""On another device everything comes out as on the CPU: no tensor is left behind on either."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from scripts.bench.prompts import told_apart
from tests.builders.decoders import make_decoder
from tests.builders.prompt_pairs import make_pairs
from tests.builders.records import assert_second_record_alike
from tests.builders.second_device import CUDA, OnCuda, second_device
from tracking.attribution.attribute import attribute
from tracking.attribution.plan import METHODS
from tracking.circuits.all_edges import check_all_edges
from tracking.circuits.faithfulness import faithfulness
from tracking.circuits.select import select
from tracking.model.decoder import Decoder
from tracking.nodes.effects import effects

RAGGED = make_pairs(6, ragged=True, looks=2, shared=2)


def model() -> Any:
    return make_decoder(attn_implementation="eager")  # kernels for `cuda` are not here


def on_both(work: Callable[[Any], Any]) -> tuple[Any, Any]:
    """What comes out on the CPU, and on the second device."""
    here = work(model())
    with second_device() as move:
        there = model()
        move(there)
        return here, work(there)


def test_the_second_device_refuses_what_a_gpu_would() -> None:
    with second_device():
        there, here = OnCuda(torch.ones(3)), torch.ones(3)
        for mixed in (
            lambda: there + here,
            lambda: here[torch.arange(2, device=there.device)],
            lambda: torch.stack([there, here]),
            lambda: there.numpy(),
        ):
            with pytest.raises(RuntimeError):
                mixed()
        assert there.device == CUDA and torch.equal(there.cpu() + here, 2 * here)


def test_a_record_is_the_same_on_another_device() -> None:
    pairs = told_apart(model(), make_pairs(6, shared=3), batch_size=6)
    quick = {"ig_steps": 2, "max_ig_steps": 2, "resamples": 10}
    assert_second_record_alike(on_both, model(), make_decoder(seed=1), pairs, **quick)


@pytest.mark.parametrize("method", METHODS)
def test_scores_are_the_same_on_another_device(method: str) -> None:
    pairs = RAGGED[:2] if method == "exact" else RAGGED
    here, there = on_both(lambda of: attribute(of, pairs, method, "neg_logit_diff").edges)
    assert there.device.type == "cpu" and torch.allclose(here, there, atol=1e-5)


def test_effects_and_patching_are_the_same_on_another_device() -> None:
    here, there = on_both(lambda of: torch.tensor(effects(of, RAGGED).iloc[:, 1:].to_numpy()))
    assert torch.allclose(here, there, atol=1e-4, equal_nan=True)
    circuit = select(attribute(model(), RAGGED), edges=60)
    here, there = on_both(lambda of: faithfulness(of, RAGGED, circuit))
    assert here.value == pytest.approx(there.value, abs=1e-4)


def test_patching_is_checked_on_a_gpu_that_rounds_to_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends, "fp32_precision", "tf32")  # what `tf32: true` sets
    assert on_both(lambda of: check_all_edges(Decoder.of(of), RAGGED)) == (None, None)
    assert on_both(lambda of: Decoder.of(of).precision) == ("float32", "tf32")


def test_pairs_may_lie_on_the_device_of_the_model() -> None:
    def scores(of: Any) -> torch.Tensor:
        pairs = RAGGED.to(Decoder.of(of).device)
        return attribute(of, pairs, metric="neg_logit_diff").edges

    here, there = on_both(scores)
    assert torch.allclose(here, there, atol=1e-5)
    here, there = on_both(lambda of: effects(of, RAGGED.to(Decoder.of(of).device))["corrupt"])
    assert here.tolist() == pytest.approx(there.tolist(), abs=1e-4)
