"""A model with what another's heads and MLPs give, the other running beside it, token by token."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache

from tracking.errors import BadInput
from tracking.interventions.factors import slots
from tracking.interventions.graft import check_alike
from tracking.interventions.rewriting import Rewrite, check_eager, rewritten
from tracking.model.decoder import Decoder
from tracking.model.taps import quiet

CHANGES = ("reorder_cache", "crop", "batch_repeat_interleave", "batch_select_indices", "reset")
"""What generation does to a cache beside filling it."""


@contextmanager
def grafted(base: Any, donor: Any, nodes: Collection[str]) -> Iterator[None]:
    """Within it `nodes` of `base`, like `["L5H1", "M5"]`, give what the donor's give on the same
    tokens: a head its z, an MLP its output.

    The donor runs by itself, in eval mode and without gradients, before every pass of the base, so
    a head's z is that of the donor's own stream, K and V, where `graft` has the donor's head read
    the base's stream: nothing is shared, and any heads may be named. Forward passes with
    `input_ids` and `base.generate`; a cache of your own must be an empty `DynamicCache` when it
    comes in first. Costs the donor's pass. Both models are left as they were.

    Raises `BadInput` for an unknown node or models of different shape, and in the pass for
    `inputs_embeds`, other caches, or a cache that was begun outside.
    """
    here, there = Decoder.of(base), Decoder.of(donor)
    check_alike(here, there)
    check_eager(base)
    asked = set(slots(here.graph, nodes))
    beside = Beside(there)
    z: dict[int, Rewrite] = {}
    mlp_outs: dict[int, Rewrite] = {}
    kept_z: dict[int, Rewrite] = {}
    kept_mlp_outs: dict[int, Rewrite] = {}
    for layer in sorted({layer for layer, _ in asked}):
        heads = [slot for at, slot in asked if at == layer and slot < here.n_heads]
        if heads:
            columns = torch.zeros(here.n_heads, here.head_dim, dtype=torch.bool)
            columns[heads] = True
            z[layer], kept_z[layer] = beside.exchange(columns.flatten())
        if (layer, here.n_heads) in asked:
            mlp_outs[layer], kept_mlp_outs[layer] = beside.exchange(torch.tensor(True))
    with ExitStack() as stack:
        stack.enter_context(quiet(there))
        stack.enter_context(rewritten(there, kept_z, kept_mlp_outs))
        hook = here.backbone.register_forward_pre_hook(beside.run, with_kwargs=True)
        stack.callback(hook.remove)
        stack.enter_context(rewritten(here, z, mlp_outs))
        yield


class Beside:
    """Runs a donor on what a base is about to run on."""

    def __init__(self, donor: Decoder) -> None:
        self.donor = donor
        self.caches: WeakKeyDictionary[Cache, DynamicCache] = WeakKeyDictionary()

    def exchange(self, columns: Tensor) -> tuple[Rewrite, Rewrite]:
        """What puts the donor's values in the place of the base's, where `columns` BoolTensor
        [feature], and what keeps the donor's."""
        kept: list[Tensor] = []

        def keep(given: Tensor) -> Tensor:
            kept[:] = [given]
            return given

        def exchange(own: Tensor) -> Tensor:
            return torch.where(columns.to(own.device), kept[0].to(own), own)

        return exchange, keep

    def run(self, _module: Any, args: tuple, given: dict[str, Any]) -> None:
        """Told of the base's inputs before it runs."""
        if args or given.get("input_ids") is None:
            raise BadInput("grafted runs the donor on the same tokens: pass input_ids")
        cache = given.get("past_key_values")
        beside = None if cache is None else self._cache(cache)
        more = {**given, "past_key_values": beside, "use_cache": beside is not None}
        with torch.no_grad():
            self.donor.backbone(**more)

    def _cache(self, cache: Cache) -> DynamicCache:
        """The donor's own beside the base's; what is done to one is done to the other."""
        if cache not in self.caches:
            if not isinstance(cache, DynamicCache) or cache.get_seq_length():
                raise BadInput("grafted needs a DynamicCache that is empty in its first pass")
            self.caches[cache] = beside = DynamicCache(config=self.donor.causal.config)
            for name in CHANGES:
                setattr(cache, name, _both(getattr(cache, name), getattr(beside, name)))
        return self.caches[cache]


def _both(first: Any, second: Any) -> Any:
    def call(*args: Any, **more: Any) -> None:
        first(*args, **more)
        second(*args, **more)

    return call
