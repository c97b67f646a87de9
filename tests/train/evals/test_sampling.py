"""Responses: exact samples that belong to their problem and number, whatever the batch."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor
from transformers import AutoModelForCausalLM, TemperatureLogitsWarper, TopPLogitsWarper

from tracking import BadInput
from tracking.pairs.problems import chat_prompt
from tracking.pairs.solutions import greedy_solutions
from train.evals.benchmarks import benchmarks
from train.evals.sampling import (
    GumbelNoise,
    Request,
    Response,
    Sampling,
    check_room,
    every_sample,
    noise_seed,
    respond,
)
from train.tiny.base import base_model
from train.tiny.tokenizer import tokenizer

TINY = Sampling(temperature=1.0, max_new_tokens=36, batch_size=64)
PROBLEMS = [each for name in ("tiny-easy", "tiny-hard") for each in benchmarks([name])[0].problems]


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(base_model())


def written(model: Any, requests: Sequence[Request], sampling: Sampling, **more: Any) -> dict:
    batches = respond(model, tokenizer(), requests, sampling, **more)
    return {response.request.key: response for batch in batches for response in batch}


def texts(responses: Mapping[Any, Response]) -> dict:
    return {key: (each.text, each.length, each.cut_off) for key, each in responses.items()}


def test_a_response_is_the_same_in_any_batch(model: Any) -> None:
    requests = every_sample(PROBLEMS[40:60], 3, TINY)
    whole = written(model, requests, TINY)
    few = written(model, requests[::-4], Sampling(1.0, max_new_tokens=36, batch_size=3))
    assert whole.keys() == {request.key for request in requests}
    assert texts(few) == {key: text for key, text in texts(whole).items() if key in few}


def test_samples_problems_and_seeds_have_noise_of_their_own(model: Any) -> None:
    one, other = PROBLEMS[:2]
    requests = [Request(one, 0), Request(one, 1), Request(other, 0)]
    seeds = {noise_seed(seed, request) for request in requests for seed in (0, 1)}
    assert len(seeds) == 6
    responses = written(model, every_sample(PROBLEMS[52:54], 30, TINY), TINY)
    assert len({each.text for each in responses.values()}) > 10


def test_conditions_have_common_random_numbers(model: Any) -> None:
    plain = [Request(problem, 0) for problem in PROBLEMS[50:60]]
    other = [Request(problem, 0, "off", {"L0H0": 0.0}) for problem in PROBLEMS[50:60]]
    responses = written(model, [*plain, *other], TINY)
    for one, two in zip(plain, other, strict=True):
        assert responses[one.key].text == responses[two.key].text


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (2.0, 0.7)])
def test_the_highest_with_noise_is_an_exact_sample(temperature: float, top_p: float) -> None:
    logits = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -3.0])
    scores = TemperatureLogitsWarper(temperature)(None, logits[None])  # type: ignore[arg-type]
    if top_p < 1:
        scores = TopPLogitsWarper(top_p)(None, scores)  # type: ignore[arg-type]
    expected = scores.softmax(-1)[0].double()
    rows = 20_000
    noise = GumbelNoise(range(rows), torch.device("cpu"))
    for _ in range(2):  # at the first position and at the next
        drawn = noise(torch.empty(0), scores.expand(rows, -1)).argmax(-1)
        counts = torch.bincount(drawn, minlength=6)
        possible = expected > 0
        assert counts[~possible].sum() == 0
        wanted = expected[possible] / expected[possible].sum() * rows
        assert stats.chisquare(counts[possible].numpy(), wanted.numpy()).pvalue > 1e-4


def test_temperature_0_is_greedy_decoding(model: Any) -> None:
    greedy = Sampling(temperature=0, max_new_tokens=36)
    responses = written(model, every_sample(PROBLEMS[:20], 1, greedy), greedy)
    chars = tokenizer()
    prompts = [chat_prompt(chars, problem.question) for problem in PROBLEMS[:20]]
    expected = greedy_solutions(model, chars, prompts, 36, 20)
    responded = [responses[Request(problem, 0).key] for problem in PROBLEMS[:20]]
    assert [each.text for each in responded] == expected
    assert [each.prompt for each in responded] == prompts


def test_length_counts_the_end_and_cut_off_says_that_it_did_not_come(model: Any) -> None:
    requests = every_sample(PROBLEMS[60:70], 2, TINY)
    whole = written(model, requests, TINY)
    short = written(model, requests, Sampling(1.0, max_new_tokens=8))
    for key, each in whole.items():
        ids = tokenizer()(each.text)["input_ids"]
        assert not each.cut_off and each.length == len(ids) + 1
        assert short[key].text == tokenizer().decode(ids[:8])
        assert (short[key].cut_off, short[key].length) == (each.length > 8, min(each.length, 8))


def test_each_row_gets_its_own_factors(model: Any) -> None:
    """Every row's logits are raised at one digit: it writes nothing else."""
    chars = tokenizer()
    requests = [
        Request(problem, sample, f"only {digit}", {"digit": float(digit)})
        for problem in PROBLEMS[:3]
        for sample in range(2)
        for digit in range(5)
    ]

    @contextmanager
    def around(rows: Sequence[Request]) -> Iterator[None]:
        tokens = [chars.convert_tokens_to_ids(str(int(row.factors["digit"]))) for row in rows]

        def raised(module: Any, given: Any, logits: Tensor) -> Tensor:
            logits[torch.arange(len(tokens)), :, tokens] += 1000
            return logits

        handle = model.lm_head.register_forward_hook(raised)
        yield
        handle.remove()

    responses = written(
        model, requests, Sampling(1.0, max_new_tokens=4, batch_size=7), around=around
    )
    for request in requests:
        assert responses[request.key].text == str(int(request.factors["digit"])) * 4


def test_the_model_and_the_random_state_stay_as_they_were(model: Any) -> None:
    model.train()
    before = torch.random.get_rng_state()
    batches = respond(model, tokenizer(), every_sample(PROBLEMS[:4], 1, TINY), TINY)
    next(batches)
    assert model.training and not model.get_input_embeddings().weight.is_inference()
    assert torch.equal(before, torch.random.get_rng_state())
    model.eval()


def test_prompts_of_one_length_lie_together(model: Any) -> None:
    requests = every_sample(PROBLEMS[::9], 2, TINY)
    batches = list(respond(model, tokenizer(), requests, Sampling(max_new_tokens=1, batch_size=8)))
    lengths = [len(each.prompt) for batch in batches for each in batch]
    assert lengths == sorted(lengths, reverse=True)
    assert [len(batch) for batch in batches] == [8, 8, 8, 8, 8]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1.0}, "temperature is -1.0; 0"),
        ({"temperature": float("inf")}, "temperature is inf; 0"),
        ({"top_p": 0.0}, "top_p is 0.0; above 0"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0; at least 1"),
        ({"batch_size": 0}, "batch_size is 0; at least 1"),
        ({"seed": -1}, "seed is -1; 0 or more"),
    ],
)
def test_what_cannot_be_sampled_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Sampling(**settings)


def test_samples_that_make_no_sense_are_refused() -> None:
    with pytest.raises(BadInput, match="samples is 0; at least 1"):
        every_sample(PROBLEMS, 0, TINY)
    with pytest.raises(BadInput, match="temperature 0 is greedy, so samples must be 1, not 2"):
        every_sample(PROBLEMS, 2, Sampling(temperature=0))


def test_responses_longer_than_the_models_positions_are_refused(model: Any) -> None:
    requests = every_sample(PROBLEMS, 1, TINY)
    check_room(model.config, tokenizer(), requests, TINY)
    with pytest.raises(BadInput, match="max_new_tokens is 128, but the longest prompt leaves 11"):
        check_room(model.config, tokenizer(), requests, Sampling(max_new_tokens=128))
