"""Attribution under `torchrun`: two processes share the pairs."""

import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch

SCRIPT = """
import sys
import torch
import torch.distributed as dist
from transformers import Qwen2Config, Qwen2ForCausalLM
from tracking import PromptPairs, attribute

torch.set_num_threads(1)
torch.manual_seed(0)
config = Qwen2Config(vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                     num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3)
model = Qwen2ForCausalLM(config)
clean, corrupted = torch.randint(32, (2, 7, 9))
pairs = PromptPairs(clean, corrupted, labels=torch.randint(32, (7, 2)))
dist.init_process_group("gloo")
for quadrature in sys.argv[2:]:
    options = dict(metric="prob", steps=4, quadrature=quadrature, batch_size=2, per_pair=True)
    alone = attribute(model, pairs, **options)
    shared = attribute(model, pairs, split_over_ranks=True, **options)
    torch.save([alone, shared], f"{sys.argv[1]}/{quadrature}-{dist.get_rank()}.pt")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_find_what_one_does(tmp_path: Path) -> None:
    script = tmp_path / "ranks.py"
    script.write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    rules = ("midpoint", "adaptive")
    told = subprocess.run(
        [*launch, str(script), str(tmp_path), *rules], capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    for rule, rank in product(rules, (0, 1)):
        alone, shared = torch.load(tmp_path / f"{rule}-{rank}.pt", weights_only=False)
        for name in ("edges", "strength", "clean", "corrupted", "per_pair"):
            ours, theirs = getattr(alone, name), getattr(shared, name)
            assert (ours - theirs).abs().max() <= 1e-5 * ours.abs().max()
        assert alone.steps == shared.steps and abs(alone.gap - shared.gap) < 1e-5
