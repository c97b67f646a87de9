"""Heads and MLPs scaled, switched off or held at a reference while the model runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from tracking.errors import BadInput
from tracking.interventions.factors import Factors, Nodes
from tracking.interventions.positions import Positions, positions_of
from tracking.interventions.reference import Reference
from tracking.interventions.rewriting import check_eager, rewritten
from tracking.model.decoder import Decoder

MODES = ("scale", "zero", "mean", "resample")


@contextmanager
def intervene(
    model: Any,
    factors: Nodes | Sequence[Nodes],
    mode: str = "scale",
    reference: Reference | None = None,
) -> Iterator[None]:
    """Within it nodes of `model` give `factor * own + (1 - factor) * reference`.

    What a head gives is its z, the input of the output projection (whose bias is no head's); what
    an MLP gives is its output. `factors` is `{"L5H1": 0.5, "M5": 0.0}`, or names alone, which
    stand for factors of 0; or a sequence of these, one for each row of the batch as the model sees
    it (`num_return_sequences` repeats every prompt's row), so that one batch runs many
    interventions. Other nodes give what they give. The reference is 0 in the modes `scale` and
    `zero`, two words for the same, and that of `Reference.mean` or `.resample` in `mean` and
    `resample`.

    It holds in forward passes, in generation with or without a cache, and in training: gradients
    flow through `factor * own`. A factor of 1 changes not one bit. Contexts nest: the inner one
    takes what the outer one leaves. Hooks are removed on leaving, also after an exception; with
    activation checkpointing the backward pass must run within it too, and a model that
    `torch.compile` has compiled is refused: it would go on without the hooks.

    Raises `BadInput` for an unknown node or mode, a factor that is not finite, a reference that is
    missing or of another mode or model, and, in the pass, where the batch has another number of
    rows than `factors`.
    """
    decoder = Decoder.of(model)
    asked = Factors.of(decoder, factors)
    _check(decoder, mode, reference)
    check_eager(model)
    with ExitStack() as stack:
        positions = None
        if reference is not None and reference.length > 1:
            positions = stack.enter_context(positions_of(decoder, reference.length - 1))

        def site(layer: int, factor: Tensor, values: list[Tensor] | None) -> Site:
            device = decoder.blocks[layer].attention_norm.weight.device
            value = values[layer].to(device) if values else None
            return Site(factor.to(device), value, asked.rows, positions)

        z, mlp_outs = (reference.z, reference.mlp_outs) if reference else (None, None)
        heads = {layer: site(layer, factor, z) for layer, factor in asked.heads.items()}
        mlps = {layer: site(layer, factor, mlp_outs) for layer, factor in asked.mlps.items()}
        stack.enter_context(rewritten(decoder, heads, mlps))
        yield


def _check(decoder: Decoder, mode: str, reference: Reference | None) -> None:
    """Raise `BadInput` where mode, reference and model do not go together."""
    if mode not in MODES:
        raise BadInput(f"no mode {mode!r}; there are {', '.join(MODES)}")
    needed = mode if mode in ("mean", "resample") else None
    given = reference.mode if reference else None
    if needed != given:
        has = f"a Reference of {given!r}" if given else "none"
        wants = f"reference=Reference.{needed}(model, ...)" if needed else "no reference"
        raise BadInput(f"mode {mode!r} needs {wants}, not {has}")
    if reference is not None:
        reference.check(decoder)


class Site:
    """What all heads of a layer, or its MLP, give in the place of their own.

    `factor` is float32 [row or 1, 1, feature], `values` the reference [draw, position, feature] or
    None for 0. Made once, so that a step of generation costs one operation.
    """

    def __init__(
        self,
        factor: Tensor,
        values: Tensor | None,
        rows: int | None,
        positions: Positions | None,
    ) -> None:
        self.factor, self.rows, self.positions = factor, rows, positions
        self.rest = None  # (1 - factor) * reference, [row or draw, position, feature]
        if values is not None:
            if rows is not None:
                values = values[torch.arange(rows) % len(values)]
            self.rest = (1 - factor) * values
        self.of_rows: Tensor | None = None  # of `rest`, for the batch of the last pass

    def __call__(self, own: Tensor) -> Tensor:
        """[row, position, feature], in the precision of `own`."""
        if self.rows not in (None, len(own)):
            raise BadInput(
                f"factors for {self.rows} rows, and a batch of {len(own)}: give one mapping for "
                "each row that the model sees (num_return_sequences repeats every prompt's)"
            )
        # factors are float32: bfloat16 would round them
        if self.rest is None:
            return (own * self.factor).to(own.dtype)
        return torch.addcmul(self._share(self.rest, own), own, self.factor).to(own.dtype)

    def _share(self, rest: Tensor, own: Tensor) -> Tensor:
        """What the reference adds in a batch, [row or 1, position or 1, feature]."""
        count = len(own) if len(rest) > 1 else 1
        if self.of_rows is None or len(self.of_rows) != count:
            self.numbers = torch.arange(count, device=own.device)[:, None]
            self.of_rows = rest[self.numbers[:, 0] % len(rest)]
        if self.positions is None:
            return self.of_rows
        return self.of_rows[self.numbers, self.positions.now.to(own.device)]
