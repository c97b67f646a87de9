"""A model's own solutions are the same whatever the batch."""

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from tests.builders.word_problems import (
    TOKENIZER,
)
from tracking.pairs.solutions import greedy_solutions


def tiny_model() -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(TOKENIZER),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=64,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


def test_generation_leaves_model_and_random_numbers_as_they_were():
    model = tiny_model()
    model.train()
    model.lm_head.eval()
    state = torch.get_rng_state()
    solutions = greedy_solutions(model, TOKENIZER, ["1+1=", "20+30="], 5, batch_size=2)
    assert len(solutions) == 2
    assert torch.equal(state, torch.get_rng_state())
    assert model.training and model.model.layers[0].training and not model.lm_head.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_generation_is_the_same_whatever_the_batch():
    model, prompts = tiny_model(), ["1+1=", "20+30=", "4*4*4="]
    apart = greedy_solutions(model, TOKENIZER, prompts, 6, batch_size=1)
    assert greedy_solutions(model, TOKENIZER, prompts, 6, batch_size=2) == apart
    assert greedy_solutions(model, TOKENIZER, [], 6, batch_size=2) == []
