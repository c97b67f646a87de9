"""Models are loaded whole though training shards them, and as they were saved."""

from pathlib import Path

import pytest
from torch import nn
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.integrations.deepspeed import HfDeepSpeedConfig, unset_hf_deepspeed_config

from tests.builders.closeness import assert_close
from tests.builders.decoders import with_adapter
from tracking.attribution.attribute import attribute
from tracking.errors import BadInput
from tracking.model.sharded import is_sharded, load_saved, outside_sharding

SAVES = "stage3_gather_16bit_weights_on_model_save"


def test_a_saved_adapter_is_read_on_its_base(tiny_decoder, random_pairs, tmp_path: Path) -> None:
    base, pairs = tiny_decoder("qwen2", seed=1), random_pairs(seed=1)
    base.save_pretrained(tmp_path / "base")
    base.name_or_path = str(tmp_path / "base")
    live = with_adapter(base, seed=1)
    live.save_pretrained(tmp_path / "adapter")
    ours = attribute(load_saved(tmp_path / "adapter"), pairs, metric="neg_logit_diff")
    theirs = attribute(live, pairs, metric="neg_logit_diff")
    assert_close(ours.edges, theirs.edges, 1e-5)


def test_a_plain_model_is_not_sharded(tiny_decoder) -> None:
    assert not is_sharded(tiny_decoder("qwen2", seed=0))


@pytest.fixture
def zero3(request: pytest.FixtureRequest):
    """As in a process of ZeRO-3, with these settings of it."""
    pytest.importorskip("deepspeed", reason="deepspeed is not installed")
    yield HfDeepSpeedConfig({"zero_optimization": {"stage": 3, **request.param}})
    unset_hf_deepspeed_config()


@pytest.mark.parametrize("zero3", [{SAVES: True}], indirect=True)
def test_zero3_is_outside_for_as_long_as_asked(zero3) -> None:
    assert is_sharded(nn.Identity())
    with pytest.raises(OSError), outside_sharding():
        assert not is_deepspeed_zero3_enabled()
        raise OSError
    assert is_deepspeed_zero3_enabled()


@pytest.mark.parametrize("zero3", [{}, {SAVES: False}], indirect=True)
def test_checkpoints_without_whole_weights_are_refused(zero3) -> None:
    with pytest.raises(BadInput, match="zero3_save_16bit_model: true"):
        is_sharded(nn.Identity())
