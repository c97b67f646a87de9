"""What the model is asked for: one loss per pair, from its logits at the supervised positions.

Every metric is a loss and has the form

    metric(logits, clean_logits, pairs) -> [pair]

with both logits [pair, look, vocabulary] at the positions that `look(pairs)` names, in float32.
Anyone's own callable of that form can stand in the place of a name. Where a pair has several
supervised positions, a metric is their mean.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from tracking.errors import BadInput
from tracking.model.passes import Metric
from tracking.pairs.prompt_pairs import PromptPairs, last_position, look


def kl(logits: Tensor, clean_logits: Tensor, pairs: PromptPairs) -> Tensor:
    """KL(clean || patched) in nats, summed over the vocabulary."""
    clean = clean_logits.log_softmax(-1)
    return _mean((clean.exp() * (clean - logits.log_softmax(-1))).sum(-1), pairs)


def neg_logit_diff(logits: Tensor, clean_logits: Tensor, pairs: PromptPairs) -> Tensor:
    """logit[incorrect] - logit[correct], the tokens being `pairs.labels`."""
    labels = _labels(pairs, "neg_logit_diff")[:, None, :].expand(-1, logits.shape[1], -1)
    correct, incorrect = logits.gather(-1, labels).unbind(-1)  # [pair, look] each
    return _mean(incorrect - correct, pairs)


def prob(logits: Tensor, clean_logits: Tensor, pairs: PromptPairs) -> Tensor:
    """Minus the probability of the right token: bounded, so it compares over checkpoints."""
    correct = _labels(pairs, "prob")[:, None, :1].expand(-1, logits.shape[1], -1)
    return -_mean(logits.softmax(-1).gather(-1, correct)[..., 0], pairs)


def nll(logits: Tensor, clean_logits: Tensor, pairs: PromptPairs) -> Tensor:
    """Negative log-likelihood in nats of the clean prompt's next token at each position.

    After the last real token the right token of `pairs.labels` is what comes next.
    """
    following = pairs.clean.roll(-1, dims=-1)
    last = last_position(pairs)
    if pairs.labels is not None:
        following = following.scatter(1, last[:, None], pairs.labels[:, :1])
    elif bool(pairs.supervised.gather(1, last[:, None]).any()):
        raise BadInput("metric 'nll' at a pair's last token needs labels: what comes after it?")
    following = following.gather(1, look(pairs)[0])[..., None]  # [pair, look, 1]
    return -_mean(logits.log_softmax(-1).gather(-1, following)[..., 0], pairs)


METRICS: dict[str, Metric] = {
    "kl": kl,
    "neg_logit_diff": neg_logit_diff,
    "prob": prob,
    "nll": nll,
}


def resolve(metric: str | Metric) -> Metric:
    """The metric of that name, or the callable itself, its result's shape checked."""
    if isinstance(metric, str):
        if metric not in METRICS:
            raise BadInput(f"unknown metric {metric!r}; one of {', '.join(METRICS)}")
        return METRICS[metric]
    return partial(_checked, metric)


def _mean(values: Tensor, pairs: PromptPairs) -> Tensor:
    return (values * look(pairs)[1].to(values)).sum(-1)


def _labels(pairs: PromptPairs, metric: str) -> Tensor:
    if pairs.labels is None:
        raise BadInput(f"metric {metric!r} needs pairs with labels: correct and incorrect token")
    return pairs.labels


def _checked(metric: Metric, logits: Tensor, clean_logits: Tensor, pairs: PromptPairs) -> Tensor:
    values = metric(logits, clean_logits, pairs)
    if not isinstance(values, Tensor) or values.shape != (len(pairs),):
        shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise BadInput(f"the metric returned {shape}; it must return one value per pair, [pair]")
    return values
