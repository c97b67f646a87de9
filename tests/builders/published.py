"""Configurations of published models, by their Hub names, written down from their `config.json`.

Switches and sizes are theirs; weights are nobody's.
"""

from typing import Any

QWEN2 = {
    "model_type": "qwen2",
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "num_hidden_layers": 28,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "use_sliding_window": False,
    "max_window_layers": 21,
}
SMALL = {
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
}
LARGE = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
}
LONG_FACTOR = [
    *(1, 1.118320672, 1.250641126, 1.398617824, 1.564103225, 1.74916897, 1.956131817, 2.187582649),
    *(2.446418898, 2.735880826, 3.059592084, 3.421605075, 3.826451687, 4.279200023, 4.785517845),
    *(5.351743533, 5.984965424, 6.693110555, 7.485043894, 8.370679318, 9.36110372, 10.4687158),
    *(11.70738129, 13.09260651, 14.64173252, 16.37415215, 18.31155283, 20.47818807, 22.90118105),
    *(25.61086418, 28.64115884, 32.03, 32.1, 32.13, 32.23, 32.6, 32.61, 32.64, 32.66, 32.7, 32.71),
    *(32.93, 32.97, 33.28, 33.49, 33.5, 44.16, 47.77),
]

PUBLISHED: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2.5-Math-1.5B": {
        **QWEN2,
        **SMALL,
        "tie_word_embeddings": True,
        "max_position_embeddings": 4096,
    },
    "Qwen/Qwen2.5-Math-7B": {**QWEN2, **LARGE, "max_position_embeddings": 4096},
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": {
        **QWEN2,
        **SMALL,
        "tie_word_embeddings": False,
        "max_position_embeddings": 131072,
    },
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": {
        **QWEN2,
        **LARGE,
        "max_position_embeddings": 131072,
    },
    "Qwen/Qwen3-8B": {
        "model_type": "qwen3",
        "attention_bias": False,
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "max_position_embeddings": 40960,
        "max_window_layers": 36,
        "num_attention_heads": 32,
        "num_hidden_layers": 36,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "use_sliding_window": False,
        "vocab_size": 151936,
    },
    "meta-llama/Llama-3.2-1B-Instruct": {
        "model_type": "llama",
        "attention_bias": False,
        "head_dim": 64,
        "hidden_act": "silu",
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "max_position_embeddings": 131072,
        "mlp_bias": False,
        "num_attention_heads": 32,
        "num_hidden_layers": 16,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5,
        "rope_scaling": {
            "factor": 32.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
        "rope_theta": 500000.0,
        "tie_word_embeddings": True,
        "vocab_size": 128256,
    },
    "microsoft/Phi-3-mini-4k-instruct": {
        "model_type": "phi3",
        "attention_dropout": 0.0,
        "embd_pdrop": 0.0,
        "hidden_act": "silu",
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "max_position_embeddings": 4096,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 32,
        "original_max_position_embeddings": 4096,
        "resid_pdrop": 0.0,
        "rms_norm_eps": 1e-5,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "sliding_window": 2047,
        "tie_word_embeddings": False,
        "vocab_size": 32064,
    },
    "microsoft/phi-4": {
        "model_type": "phi3",
        "attention_dropout": 0.0,
        "embd_pdrop": 0.0,
        "hidden_act": "silu",
        "hidden_size": 5120,
        "intermediate_size": 17920,
        "max_position_embeddings": 16384,
        "num_attention_heads": 40,
        "num_hidden_layers": 40,
        "num_key_value_heads": 10,
        "original_max_position_embeddings": 16384,
        "resid_pdrop": 0.0,
        "rms_norm_eps": 1e-5,
        "rope_scaling": None,
        "rope_theta": 250000,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "vocab_size": 100352,
    },
    "microsoft/Phi-4-mini-instruct": {
        "model_type": "phi3",
        "attention_dropout": 0.0,
        "embd_pdrop": 0.0,
        "hidden_act": "silu",
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "max_position_embeddings": 131072,
        "num_attention_heads": 24,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "original_max_position_embeddings": 4096,
        "partial_rotary_factor": 0.75,
        "resid_pdrop": 0.0,
        "rms_norm_eps": 1e-5,
        "rope_scaling": {
            "long_factor": LONG_FACTOR,
            "short_factor": [1.0] * len(LONG_FACTOR),
            "type": "longrope",
        },
        "rope_theta": 10000.0,
        "sliding_window": 262144,
        "tie_word_embeddings": True,
        "vocab_size": 200064,
    },
    "google/gemma-3-1b-it": {
        "model_type": "gemma3_text",
        "attention_bias": False,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 1152,
        "intermediate_size": 6912,
        "max_position_embeddings": 32768,
        "num_attention_heads": 4,
        "num_hidden_layers": 26,
        "num_key_value_heads": 1,
        "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-6,
        "rope_local_base_freq": 10000,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": 512,
        "sliding_window_pattern": 6,
        "vocab_size": 262144,
    },
    "allenai/OLMo-2-1124-7B": {
        "model_type": "olmo2",
        "attention_bias": False,
        "hidden_act": "silu",
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "max_position_embeddings": 4096,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 32,
        "rms_norm_eps": 1e-6,
        "rope_scaling": None,
        "rope_theta": 500000,
        "tie_word_embeddings": False,
        "vocab_size": 100352,
    },
    "allenai/Olmo-3-7B-Instruct": {
        "model_type": "olmo3",
        "attention_bias": False,
        "hidden_act": "silu",
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "layer_types": (["sliding_attention"] * 3 + ["full_attention"]) * 8,
        "max_position_embeddings": 65536,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 32,
        "rms_norm_eps": 1e-6,
        "rope_theta": 500000,
        "sliding_window": 4096,
        "tie_word_embeddings": False,
        "vocab_size": 100278,
    },
}


def scaled_down(name: str, **more: Any) -> dict[str, Any]:
    """The configuration of a published model with 2 layers, few and narrow heads and a small
    vocabulary; its switches, groups of query heads and ratios of widths stay, and a window over
    which attention slides is 4 tokens."""
    whole = dict(PUBLISHED[name])
    heads, of_keys = whole["num_attention_heads"], whole["num_key_value_heads"]
    groups, size = min(of_keys, 2), 16
    before = whole.get("head_dim") or whole["hidden_size"] // heads
    whole["num_key_value_heads"] = groups
    whole["num_attention_heads"] = queries = groups * heads // of_keys
    whole["hidden_size"] = whole["hidden_size"] * queries * size // (heads * before)
    whole["intermediate_size"] = 2 * whole["hidden_size"]
    if "head_dim" in whole:
        whole["head_dim"] = size
    if whole.get("sliding_window"):
        whole["sliding_window"] = 4
    if scaling := whole.get("rope_scaling"):
        turned = int(size * whole.get("partial_rotary_factor", 1)) // 2
        whole["rope_scaling"] = {
            key: value[:turned] if isinstance(value, list) else value
            for key, value in scaling.items()
        }
    if "sliding_window_pattern" in whole:
        whole["sliding_window_pattern"] = 2  # one layer of each kind
    if "layer_types" in whole:
        whole["layer_types"] = whole["layer_types"][2:4]  # one of each kind
    small = {"num_hidden_layers": 2, "vocab_size": 50, "bos_token_id": None, "eos_token_id": None}
    return {**whole, **small, "pad_token_id": None, **more}
