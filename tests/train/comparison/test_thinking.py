"""Modes of thinking wrap the same pairs: turn, question, written part and labels stay."""

import shlex
from copy import copy, deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import trl
from transformers import AutoTokenizer

from tests.builders.paths import SHARED
from tests.builders.prompt_pairs import same
from tests.builders.tokenizers import CHARACTERS
from tracking import BadInput, PromptPairs
from tracking.comparison.section import Section
from tracking.pairs.prompt_pairs import last_token
from train.commands import ablate
from train.comparison.thinking import NAMES, Modes, ablations
from train.tiny import tokenizer as tiny

TEMPLATES = Path(trl.__file__).parent / "chat_templates"
QWEN = SHARED / "qwen-tokenizer"
needs_qwen = pytest.mark.skipif(not QWEN.is_dir(), reason=f"no tokenizer at {QWEN}")


@cache
def _qwen() -> Any:
    return AutoTokenizer.from_pretrained(QWEN)


def qwen(template: str) -> Any:
    """Qwen's tokenizer with one of TRL's chat templates."""
    tokenizer = copy(_qwen())
    tokenizer.chat_template = (TEMPLATES / f"{template}.jinja").read_text()
    return tokenizer


def chats(tokenizer: Any) -> PromptPairs:
    """Two pairs, the second with a turn begun."""

    def asked(text: str, *begun: str) -> list[dict[str, str]]:
        turns = [{"role": "user", "content": text}]
        return [*turns, *({"role": "assistant", "content": one} for one in begun)]

    return PromptPairs.from_text(
        tokenizer,
        [
            (asked("1+2"), asked("1+3"), "3", "4"),
            (asked("5+2", "5+2="), asked("5+4", "5+4="), "7", "9"),
        ],
    )


def prompts(pairs: PromptPairs, tokenizer: Any) -> list[str]:
    rows = zip(pairs.clean, pairs.attention_mask.bool(), strict=True)
    return [tokenizer.decode(row[mask]) for row, mask in rows]


CASES = {
    "qwen3": ("<|im_start|>assistant\n", "<think>\n", "<think>\n\n</think>\n\n"),
    "deepseek_r1_distill": ("<｜Assistant｜>", "<think>\n", "<think>\n\n</think>\n\n"),
    "qwen2_5": ("<|im_start|>assistant\n", "", "<think>\n\n</think>\n\n"),
}


@needs_qwen
@pytest.mark.parametrize("template", CASES)
def test_modes_follow_what_the_template_knows_of_thinking(template: str) -> None:
    modes = Modes.of(qwen(template))
    assert (modes.turn, modes.texts["on"], modes.texts["off"]) == CASES[template]


@needs_qwen
@pytest.mark.parametrize("template", CASES)
def test_prompts_in_a_mode_are_the_template_s_own_with_its_beginning(template: str) -> None:
    tokenizer = qwen(template)
    modes, pairs = Modes.of(tokenizer), chats(tokenizer)
    turn = modes.turn
    for mode in NAMES:
        wrapped = modes.pairs(tokenizer, mode, pairs)
        first, second = prompts(wrapped, tokenizer)
        assert first.endswith(f"1+2{first.partition('1+2')[2].partition(turn)[0]}{turn}"
                              f"{modes.texts[mode]}")  # fmt: skip
        assert second.endswith(f"{turn}{modes.texts[mode]}5+2=")
        assert wrapped.labels is not None and pairs.labels is not None
        assert torch.equal(wrapped.labels, pairs.labels)
        assert wrapped.texts[1][0].endswith("5+2=⟦7⟧")


@needs_qwen
def test_off_is_token_for_token_what_enable_thinking_false_gives() -> None:
    tokenizer = qwen("qwen3")
    wrapped = Modes.of(tokenizer).pairs(tokenizer, "off", chats(tokenizer))
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "1+2"}], add_generation_prompt=True, enable_thinking=False
    )["input_ids"]
    assert wrapped.clean[0][wrapped.attention_mask[0].bool()].tolist() == ids


@needs_qwen
@pytest.mark.parametrize("template", CASES)
def test_a_mode_s_tokenizer_opens_the_turn_so_and_reads_chats_as_before(template: str) -> None:
    tokenizer = qwen(template)
    modes, before = Modes.of(tokenizer), tokenizer.chat_template
    asked = [{"role": "user", "content": "1+2"}]
    answered = [*asked, {"role": "assistant", "content": "3"}]
    for mode in NAMES:
        moded = modes.tokenizer(tokenizer, mode)
        text = moded.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        assert text.endswith(f"{modes.turn}{modes.texts[mode]}")
        assert moded.apply_chat_template(answered, tokenize=False) == tokenizer.apply_chat_template(
            answered, tokenize=False
        )
        assert tokenizer.chat_template == before


def test_the_control_has_as_many_tokens_as_off_and_no_block() -> None:
    for tokenizer in [tiny.tokenizer(), *([qwen("qwen3")] if QWEN.is_dir() else [])]:
        modes = Modes.of(tokenizer)
        off, control = (modes.ids(tokenizer, mode) for mode in ("off", "template"))
        assert len(off) == len(control) and "think" not in modes.texts["template"]


def test_a_mode_can_be_taken_for_another_and_back() -> None:
    tokenizer = tiny.tokenizer()
    modes, pairs = Modes.of(tokenizer), chats(tokenizer)
    on = modes.pairs(tokenizer, "on", pairs)
    off = modes.pairs(tokenizer, "off", on)
    assert same(modes.pairs(tokenizer, "off", off), off)  # in the place of what is there
    assert torch.equal(modes.pairs(tokenizer, "on", off).clean, on.clean)


def test_the_metric_looks_at_the_last_token_of_every_mode() -> None:
    tokenizer = tiny.tokenizer()
    modes, pairs = Modes.of(tokenizer), chats(tokenizer)
    for mode in NAMES:
        wrapped = modes.pairs(tokenizer, mode, pairs)
        assert torch.equal(wrapped.supervised, last_token(wrapped.attention_mask))
    mask = pairs.attention_mask
    everywhere = PromptPairs(pairs.clean, pairs.corrupted, mask, pairs.labels, mask.bool())
    with pytest.raises(BadInput, match="looks at the last token"):
        modes.pairs(tokenizer, "off", everywhere)


def test_prompts_that_are_no_chats_are_refused_by_their_number() -> None:
    tokenizer = tiny.tokenizer()
    pairs = PromptPairs.from_text(tokenizer, [("1+2=", "1+3=", "3", "4")])
    with pytest.raises(BadInput, match="pair 0: no turn of the model's has begun"):
        Modes.of(tokenizer).pairs(tokenizer, "off", pairs)


def test_a_tokenizer_without_a_chat_template_has_no_modes() -> None:
    with pytest.raises(BadInput, match="no template"):
        Modes.of(deepcopy(CHARACTERS))


def test_heads_that_are_active_only_off_are_named_in_a_line_that_ablate_takes() -> None:
    rows = [
        ("cue", "L0H1", "off only"), ("cue", "M0", "off only"), ("cue", "L1H2", "off only"),
        ("cue", "L0H0", "on only"), ("operand", "M1", "off only"), ("result", "L0H3", "off only"),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["contrast", "node", "mode"])
    first, second = ablations(Section("", (), {"modes": table}), "runs/mine")
    words = shlex.split(first, comments=True)
    assert words[:2] == ["sparks", "ablate"] and first.endswith("active only off, 'cue'")
    options = ablate._parse(words[2:])
    assert options.heads == ["L0H1,L1H2"] and options.thinking == "off"
    assert options.mode == ["zero", "scale:1.3"]
    assert "--heads L0H3 " in second and second.endswith("'result'")
    none = table[table["mode"] == "on only"]
    assert ablations(Section("", (), {"modes": none}), "runs/mine") == []
