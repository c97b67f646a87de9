"""`--thinking` of eval and ablate opens the turn in that mode, and keeps responses apart."""

import argparse
from pathlib import Path

from tests.builders.checkpoints import save_model
from train.evals.sampling import prompts_of
from train.flags.evaluation import Asked, add_evaluation


def asked(model: Path, *words: str) -> Asked:
    parser = argparse.ArgumentParser()
    add_evaluation(parser)
    more = ["--benchmarks", "tiny-easy", "--limit", "2", "--max_new_tokens", "8"]
    return Asked.of(parser.parse_args([str(model), *more, *words]))


def test_the_model_s_turn_begins_as_the_mode_says(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", seed=0)
    plain, off = asked(model), asked(model, "--thinking", "off")
    texts = [
        [text for text, _ in prompts_of(one.subject.tokenizer, one.requests, None).values()]
        for one in (plain, off)
    ]
    assert [f"{text}<think>\n\n</think>\n\n" for text in texts[0]] == texts[1]


def test_responses_in_a_mode_are_not_taken_for_others(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", seed=0)
    plain, off = asked(model), asked(model, "--thinking", "off")
    assert plain.folder != off.folder
    assert plain.subject.facts["chat_template"] != off.subject.facts["chat_template"]
