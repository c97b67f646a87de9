"""Ground truth: in a planted decoder the planted head comes first, and its path is the circuit."""

import pytest
import torch

from tests.builders.planted import COPY, pairs, planted
from tracking import attribute


def test_the_planted_model_answers_with_the_first_token() -> None:
    prompt_pairs = pairs()
    with torch.no_grad():
        answers = planted()(prompt_pairs.clean).logits[:, -1].argmax(-1)
    assert prompt_pairs.labels is not None
    assert answers.tolist() == prompt_pairs.labels[:, 0].tolist()


@pytest.mark.parametrize("metric", ["kl", "prob", "neg_logit_diff"])
@pytest.mark.parametrize("method", ["eap-ig", "eap-ig-activations", "exact", "node-ig"])
def test_the_planted_head_comes_first_and_no_other_counts(method: str, metric: str) -> None:
    quadrature = "adaptive" if method == "eap-ig" else "midpoint"
    scores = attribute(
        planted(), pairs(), method=method, metric=metric, steps=8, quadrature=quadrature
    )
    ranked = scores.heads.assign(size=scores.heads["effect"].abs())
    ranked = ranked.sort_values("size", ascending=False)
    assert ranked["head"].iloc[0] == COPY
    assert ranked["size"].iloc[1] < 0.02 * ranked["size"].iloc[0]


def test_the_planted_path_is_the_circuit() -> None:
    scores = attribute(planted(), pairs(), metric="prob", steps=20, quadrature="adaptive")
    strongest = scores.edges.abs().flatten().topk(2).indices
    edges = {
        (scores.graph.sources[int(i) // scores.edges.shape[1]],
         scores.graph.targets[int(i) % scores.edges.shape[1]])
        for i in strongest
    }  # fmt: skip
    assert edges == {("embed", f"{COPY}.v"), (COPY, "logits")}
