"""Interventions on another device give what they give on the CPU."""

from typing import Any

import torch
from torch import Tensor

from tests.builders.closeness import assert_close
from tests.builders.decoders import make_decoder
from tests.builders.generation import prompts
from tests.builders.second_device import second_device
from tracking.interventions.graft import graft
from tracking.interventions.grafted import grafted
from tracking.interventions.intervene import intervene
from tracking.interventions.matched import write_norms
from tracking.interventions.reference import Reference

ROWS = [{}, {"L0H1": 0.0}, {"M1": 0.5, "L1H2": 2.0}, ["M0"]]


def outcomes(base: Any, donor: Any, inputs: dict[str, Any]) -> list[Tensor]:
    """Logits, on the CPU, of everything that there is."""
    mean = Reference.mean(base, **inputs, per_position=True)
    draws = Reference.resample(base, **inputs, draws=3)
    each = [torch.tensor(write_norms(base, **inputs).to_numpy()).float()]
    for factors, mode, reference in (
        (ROWS, "scale", None),
        (ROWS, "mean", mean),
        (ROWS[2], "resample", draws),
    ):
        with intervene(base, factors, mode, reference):
            each.append(base(**inputs).logits.cpu())
    each.append(graft(base, donor, ["L1H0", "L1H1", "M0"])(**inputs).logits.cpu())
    with grafted(base, donor, ["L0H3", "M1"]):
        each.append(base(**inputs).logits.cpu())
    return each


@torch.no_grad()
def test_everything_is_the_same_on_another_device() -> None:
    def model(seed: int) -> Any:
        return make_decoder(attn_implementation="eager", seed=seed)

    wanted = outcomes(model(1), model(2), prompts())
    with second_device() as move:
        base, donor = model(1), model(2)
        move(base)
        move(donor)
        device = base.lm_head.weight.device
        inputs = {name: tensor.to(device) for name, tensor in prompts().items()}
        for mine, other in zip(outcomes(base, donor, inputs), wanted, strict=True):
            assert_close(mine, other, 1e-5)
