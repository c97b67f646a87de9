"""Hugging Face decoders, small and random, made in place from a seed."""

from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from tracking.pairs.prompt_pairs import PromptPairs


def make_decoder(
    arch: str = "qwen2",
    layers: int = 2,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int = 8,
    width: int = 32,
    vocabulary: int = 50,
    tied: bool = False,
    seed: int = 0,
    **more: Any,
) -> Any:
    """A Hugging Face decoder in float32, in eval mode, in which nothing is trivial.

    Biases are not 0, norms not 1, and weights large enough that attention is not even. `more` goes
    to the architecture's config. The global random state stays as it is.
    """
    sizes = {
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "vocab_size": vocabulary,
        "max_position_embeddings": 128,
        "tie_word_embeddings": tied,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    return drawn_weights({"model_type": arch, **sizes, **more}, seed)


def drawn_weights(config: dict[str, Any], seed: int = 0) -> Any:
    """The decoder of a configuration, its weights drawn as in `make_decoder`."""
    with torch.random.fork_rng([]):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("bias"):
            value = 0.3 * noise
        elif "norm" in name:  # Gemma's multiply by 1 + weight
            value = 0.3 * noise + (not config["model_type"].startswith("gemma"))
        elif "embed" in name:
            value = 0.5 * noise
        else:
            value = 1.5 * noise / parameter.shape[1] ** 0.5
        parameter.data.copy_(value)
    return model.eval()


def norms_behind(layer: Any) -> tuple[Any, Any]:
    """The norms behind attention and behind the MLP of a layer, as Gemma 2 and 3 have them."""
    if not hasattr(layer, "pre_feedforward_layernorm"):
        return None, None
    return layer.post_attention_layernorm, layer.post_feedforward_layernorm


LINEAR = [
    *("q_proj", "k_proj", "v_proj", "qkv_proj", "o_proj"),
    *("gate_proj", "up_proj", "gate_up_proj", "down_proj"),
]


VARIANTS = {
    "qwen2": [{}, {"tied": True}, {"kv_heads": 1}, {"kv_heads": 4, "heads": 4}],
    "qwen3": [{"head_dim": 12}, {"head_dim": 6, "tied": True}, {"attention_bias": True}],
    "llama": [{}, {"attention_bias": True, "mlp_bias": True}, {"tied": True, "head_dim": 10}],
    "mistral": [{"sliding_window": 3}, {"sliding_window": 100, "tied": True}, {"head_dim": 4}],
    "phi3": [{"sliding_window": 3}, {"tied": True, "kv_heads": 1}, {"partial_rotary_factor": 0.5}],
    "gemma": [{"kv_heads": 1}],
    "gemma2": [
        {"sliding_window": 3, "final_logit_softcapping": 3.0, "attn_logit_softcapping": 2.0}
    ],
    "gemma3_text": [{"sliding_window": 3, "sliding_window_pattern": 2}, {"tied": True}],
}


def jumping(tiny_decoder, random_pairs, seed: int, count: int = 4) -> tuple[Any, PromptPairs]:
    """A model that is sure of itself, and pairs whose right token's probability jumps."""
    model, pairs = tiny_decoder(seed=seed), random_pairs(pairs=count, seed=seed)
    model.lm_head.weight.data *= 15
    with torch.no_grad():
        tokens = [model(ids).logits[:, -1].argmax(-1) for ids in (pairs.clean, pairs.corrupted)]
    labels = torch.stack(tokens, dim=1)
    return model, PromptPairs(pairs.clean, pairs.corrupted, pairs.attention_mask, labels)


def in_training(tiny_decoder, arch: str) -> Any:
    """A model in the midst of training: gradients on some parameters, some of them frozen, dropout
    on, one layer in eval mode, a user's own hook."""
    model = tiny_decoder(arch, attention_dropout=0.5, seed=3).train()
    model.model.layers[1].mlp.eval()
    model.model.layers[0].self_attn.register_forward_hook(lambda *_: None)
    for index, parameter in enumerate(model.parameters()):
        if index % 3 == 0:
            parameter.grad = torch.randn_like(parameter)
        if index % 4 == 1:
            parameter.requires_grad_(False)
    return model


def with_adapter(model: Any, seed: int, **more: Any) -> Any:
    """Unmerged LoRA whose B is not zero, as it would be after some training."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        config = LoraConfig(
            r=4, target_modules=LINEAR, init_lora_weights=False, lora_dropout=0.5, **more
        )
        return get_peft_model(model, config)
