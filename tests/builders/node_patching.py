"""The effect of nodes by brute force: whole passes of the bare model, parts replaced by hooks."""

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from tests.builders.decoders import norms_behind
from tracking.attribution.metrics import resolve
from tracking.model.adapters import unwrap
from tracking.pairs.prompt_pairs import PromptPairs, look


def parts(model: Any) -> dict[str, Any]:
    """What writes into the stream, in order: the modules whose input is a layer's z, and its MLP,
    by `L0` and `M0`; Gemma's MLP writes what the norm behind it gives."""
    layers = unwrap(model).model.layers
    named = ((f"L{i}", layer.self_attn.o_proj) for i, layer in enumerate(layers))
    mlps = {f"M{i}": norms_behind(layer)[1] or layer.mlp for i, layer in enumerate(layers)}
    return {**dict(named), **mlps}


def passed(
    model: Any, pairs: PromptPairs, ids: Tensor, nodes: Iterable[str] = (), values: Any = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits [pair, look, vocabulary] and what the parts gave, with `nodes` at `values`."""
    seen: dict[str, Tensor] = {}
    size = unwrap(model).config.head_dim if hasattr(unwrap(model).config, "head_dim") else None
    size = size or unwrap(model).config.hidden_size // unwrap(model).config.num_attention_heads
    chosen = tuple(nodes)

    def heads(name: str) -> Any:
        def hook(_module: Any, args: tuple) -> tuple:
            seen[name], z = args[0], args[0].clone()
            for node in chosen:
                if node.startswith(f"{name}H"):
                    head = int(node.split("H")[1])
                    columns = slice(head * size, (head + 1) * size)
                    z[..., columns] = values[name][..., columns]
            return (z,)

        return hook

    def mlp(name: str) -> Any:
        def hook(_module: Any, _args: tuple, out: Tensor) -> Tensor:
            seen[name] = out
            return values[name] if name in chosen else out

        return hook

    mask = pairs.attention_mask
    with ExitStack() as stack, torch.no_grad():
        for name, module in parts(model).items():
            if name.startswith("M"):
                handle = module.register_forward_hook(mlp(name))
            else:
                handle = module.register_forward_pre_hook(heads(name))
            stack.callback(handle.remove)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        given = model(ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
    return given.float()[torch.arange(len(ids))[:, None], look(pairs)[0]], seen


def by_brute_force(
    model: Any, pairs: PromptPairs, sets: Iterable[Iterable[str]], metric: str = "neg_logit_diff"
) -> tuple[Tensor, Tensor, Tensor]:
    """Corrupt and restore, [pair, set] each, of sets of nodes exchanged at once; behaviour."""
    loss = resolve(metric)
    clean, in_clean = passed(model, pairs, pairs.clean)
    corrupted, in_corrupted = passed(model, pairs, pairs.corrupted)
    low, high = (loss(given, clean, pairs) for given in (clean, corrupted))
    lost, gained = [], []
    for nodes in map(tuple, sets):
        given, _ = passed(model, pairs, pairs.clean, nodes, in_corrupted)
        lost.append(loss(given, clean, pairs) - low)
        given, _ = passed(model, pairs, pairs.corrupted, nodes, in_clean)
        gained.append(high - loss(given, clean, pairs))
    return torch.stack(lost, 1), torch.stack(gained, 1), high - low
