"""Every metric is what a hand computes at the supervised positions, whatever the padding."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tracking.attribution.metrics import METRICS, resolve
from tracking.errors import BadInput
from tracking.pairs.prompt_pairs import PromptPairs, last_position, look

VOCABULARY = 7

layouts = st.builds(
    dict,
    pairs=st.integers(1, 5),
    length=st.integers(1, 7),
    vocabulary=st.just(VOCABULARY),
    ragged=st.booleans(),
    side=st.sampled_from(["left", "right"]),
    looks=st.integers(1, 4),
    seed=st.integers(0, 10_000),
)


def softmax(logits: list[float]) -> list[float]:
    total = sum(math.exp(logit) for logit in logits)
    return [math.exp(logit) / total for logit in logits]


def by_hand(
    metric: str, pairs: PromptPairs, logits: Tensor, clean_logits: Tensor, row: int
) -> float:
    """One pair's metric, in plain Python, from logits [pair, position, vocabulary]."""
    assert pairs.labels is not None
    correct, incorrect = pairs.labels[row].tolist()
    real = pairs.attention_mask[row].nonzero()[:, 0].tolist()
    values = []
    for position in pairs.supervised[row].nonzero()[:, 0].tolist():
        here = logits[row, position].tolist()
        if metric == "kl":
            clean, patched = softmax(clean_logits[row, position].tolist()), softmax(here)
            values.append(sum(p * math.log(p / q) for p, q in zip(clean, patched, strict=True)))
        elif metric == "neg_logit_diff":
            values.append(here[incorrect] - here[correct])
        elif metric == "prob":
            values.append(-softmax(here)[correct])
        else:
            following = correct if position == real[-1] else int(pairs.clean[row, position + 1])
            values.append(-math.log(softmax(here)[following]))
    return sum(values) / len(values)


def seen(pairs: PromptPairs, logits: Tensor) -> Tensor:
    """Logits [pair, position, vocabulary] where the metric looks."""
    positions = look(pairs)[0]
    return logits[torch.arange(len(pairs))[:, None], positions]


@pytest.mark.parametrize("metric", METRICS)
@given(layout=layouts, seed=st.integers(0, 10_000))
def test_a_metric_is_what_a_hand_computes(
    random_pairs, metric: str, layout: dict, seed: int
) -> None:
    pairs = random_pairs(**layout)
    generator = torch.Generator().manual_seed(seed)
    shape = (2, *pairs.clean.shape, VOCABULARY)
    logits, clean = 3 * torch.randn(shape, generator=generator)
    result = METRICS[metric](seen(pairs, logits), seen(pairs, clean), pairs)
    wanted = [by_hand(metric, pairs, logits, clean, row) for row in range(len(pairs))]
    assert result.shape == (len(pairs),)
    assert result.tolist() == pytest.approx(wanted, rel=1e-4, abs=1e-5)


@given(layouts)
def test_look_names_the_supervised_positions_and_weighs_them_evenly(
    random_pairs, layout: dict
) -> None:
    pairs = random_pairs(**layout)
    positions, weights = look(pairs)
    assert torch.allclose(weights.sum(-1), torch.ones(len(pairs)))
    for row in range(len(pairs)):
        wanted = pairs.supervised[row].nonzero()[:, 0].tolist()
        assert positions[row][weights[row] > 0].tolist() == wanted
        assert weights[row][weights[row] > 0].tolist() == pytest.approx(
            [1 / len(wanted)] * len(wanted)
        )
    assert positions.shape[1] == int(pairs.supervised.sum(-1).max())


@given(layouts)
def test_the_last_position_is_the_last_real_token_on_either_side(
    random_pairs, layout: dict
) -> None:
    pairs = random_pairs(**layout)
    wanted = [int(row.nonzero()[-1]) for row in pairs.attention_mask]
    assert last_position(pairs).tolist() == wanted


@given(layouts)
def test_kl_to_itself_is_zero_and_else_positive(random_pairs, layout: dict) -> None:
    pairs = random_pairs(**layout)
    generator = torch.Generator().manual_seed(layout["seed"])
    logits = seen(pairs, torch.randn(*pairs.clean.shape, VOCABULARY, generator=generator))
    assert METRICS["kl"](logits, logits, pairs).abs().max() < 1e-6
    assert METRICS["kl"](logits.flip(-1) * 2, logits, pairs).min() > 1e-3


def test_nll_before_the_last_token_needs_no_labels(random_pairs) -> None:
    ids = random_pairs(labels=False, vocabulary=VOCABULARY).tensors
    ids["supervised"] = torch.zeros_like(ids["supervised"])
    ids["supervised"][:, 2] = True
    pairs = PromptPairs(**ids)
    logits = torch.randn(len(pairs), 1, VOCABULARY)
    wanted = torch.nn.functional.cross_entropy(logits[:, 0], pairs.clean[:, 3], reduction="none")
    assert torch.allclose(METRICS["nll"](logits, logits, pairs), wanted)


@pytest.mark.parametrize("metric", ["neg_logit_diff", "prob", "nll"])
def test_labels_that_are_missing_are_asked_for(random_pairs, metric: str) -> None:
    pairs = random_pairs(labels=False, vocabulary=VOCABULARY)
    logits = torch.randn(len(pairs), 1, VOCABULARY)
    with pytest.raises(BadInput, match=f"'{metric}'.*labels"):
        METRICS[metric](logits, logits, pairs)


def test_an_unknown_metric_is_named_with_the_known_ones() -> None:
    with pytest.raises(BadInput, match="'bleu'; one of kl, neg_logit_diff, prob, nll"):
        resolve("bleu")
