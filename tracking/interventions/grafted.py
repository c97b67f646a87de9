"""A model with what another's heads and MLPs write, the other running beside it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.cache_utils import Cache, DynamicCache

from tracking.errors import BadInput
from tracking.interventions.factors import slots
from tracking.interventions.graft import check_alike
from tracking.interventions.rewriting import check_eager
from tracking.model.architecture import Block
from tracking.model.decoder import Decoder
from tracking.model.taps import quiet

CHANGES = ("reorder_cache", "crop", "batch_repeat_interleave", "batch_select_indices", "reset")
"""What generation does to a cache beside filling it."""


@contextmanager
def grafted(base: Any, donor: Any, nodes: Collection[str]) -> Iterator[None]:
    """Within it `nodes` of `base`, like `["L5H1", "M5"]`, write what the donor's write on the same
    tokens: a head the donor's z through the donor's columns of the output projection, whose bias
    stays the base's; an MLP its output. Where a norm stands behind attention, it takes the sum of
    the heads of both, and must be the same in both.

    The donor runs by itself, in eval mode and without gradients, before every pass of the base: a
    grafted node writes what it does in the donor's own stream, where `graft` has it read the
    base's. Nothing is shared, so that any heads may be named. It holds in forward passes on
    `input_ids` and in `base.generate`, the donor keeping a cache beside the base's; a cache of
    your own must be a `DynamicCache` that is empty when it comes in first. It costs the donor's
    pass. Both models are left as they were. `intervene` within it does nothing to grafted heads;
    around it, on the donor, it does.

    Raises `BadInput` for an unknown node or models of different shape, and in the pass for
    `inputs_embeds`, other caches, or a cache that was begun outside.
    """
    here, there = Decoder.of(base), Decoder.of(donor)
    check_alike(here, there)
    check_eager(base)
    check_eager(donor)
    asked = sorted(set(slots(here.graph, nodes)))
    beside = Beside(there)
    with ExitStack() as stack:
        stack.enter_context(quiet(there))
        hook = here.backbone.register_forward_pre_hook(beside.run, with_kwargs=True)
        stack.callback(hook.remove)
        for layer in sorted({layer for layer, _ in asked}):
            heads = [slot for at, slot in asked if at == layer and slot < here.n_heads]
            hooks = list(_exchange_heads(here, there, layer, heads)) if heads else []
            if (layer, here.n_heads) in asked:
                hooks += _exchange_mlp(here.blocks[layer], there.blocks[layer])
            for hook in hooks:
                stack.callback(hook.remove)
        yield


def _exchange_heads(
    base: Decoder, donor: Decoder, layer: int, heads: list[int]
) -> Iterator[RemovableHandle]:
    """Hooks that put the donor's writes of `heads` in the place of the base's."""
    columns = torch.zeros(base.n_heads, base.head_dim, dtype=torch.bool)
    columns[heads] = True
    chosen, written = columns.flatten().to(base.device), []
    weight = donor.projection(layer, "o")[:, chosen].to(donor.dtype)  # [width, chosen feature]

    def keep(_module: nn.Module, args: tuple) -> None:
        written[:] = [nn.functional.linear(args[0][..., chosen], weight)]

    def silence(_module: nn.Module, args: tuple) -> tuple:
        return (args[0].masked_fill(chosen, 0), *args[1:])

    def write(_module: nn.Module, _args: tuple, out: Tensor) -> Tensor:
        return out + written[0].to(out)

    behind = base.blocks[layer].attention_behind, donor.blocks[layer].attention_behind
    if all(behind) and not torch.equal(*(norm.weight.cpu().float() for norm in behind)):
        raise BadInput(
            f"layer {layer}'s norm behind attention, which all its heads share, differs between "
            "base and donor: name no heads of it, or use graft(...)"
        )
    ours, theirs = base.blocks[layer].o, donor.blocks[layer].o
    yield theirs.register_forward_pre_hook(keep)
    yield ours.register_forward_pre_hook(silence)
    yield ours.register_forward_hook(write)


def _exchange_mlp(ours: Block, theirs: Block) -> Iterator[RemovableHandle]:
    """Hooks that put the output of the donor's MLP in the place of the base's."""
    written: list[Tensor] = []

    def keep(_module: nn.Module, _args: tuple, out: Tensor) -> None:
        written[:] = [out]

    def write(_module: nn.Module, _args: tuple, out: Tensor) -> Tensor:
        return written[0].to(out)

    yield theirs.mlp_out.register_forward_hook(keep)
    yield ours.mlp_out.register_forward_hook(write)


class Beside:
    """Runs a donor on what a base is about to run on."""

    def __init__(self, donor: Decoder) -> None:
        self.donor = donor
        self.caches: WeakKeyDictionary[Cache, DynamicCache] = WeakKeyDictionary()

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
