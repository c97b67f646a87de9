import pytest

from tracking import BadInput
from train.rewards import registry as rewards
from train.rewards.registry import tag_count_reward


def chats(*texts: str) -> list[list[dict[str, str]]]:
    return [[{"role": "assistant", "content": text}] for text in texts]


def test_registered_rewards_grade_as_they_say() -> None:
    names = ["accuracy_reward", "think_format_reward", "tag_count_reward", "tiny_answer_reward"]
    accuracy, think, tags, exact = rewards.resolve(names, completion_length=64)
    boxed = chats(r"so \boxed{72}", r"so \boxed{71}")
    assert accuracy(completions=boxed, solution=[r"\boxed{72}"] * 2) == [1.0, 0.0]
    assert think(completions=chats("<think>\na\n</think>\nb", "b")) == [1.0, 0.0]
    whole = "<think>\na\n</think>\n<answer>\nb\n</answer>"
    assert tags(completions=chats(whole, "<think>\na", "a")) == [1.0, 0.25, 0.0]
    assert exact(completions=chats("3+5=8;####8", "####7"), answer=["8", "8"]) == [1.0, 0.0]


def test_a_dotted_path_is_imported() -> None:
    (result,) = rewards.resolve(["train.rewards.registry.tag_count_reward"], 8)
    assert result is tag_count_reward


@pytest.mark.parametrize("name", ["accuracy", "no.such.module", "math.no_such_function"])
def test_an_unknown_reward_is_one_line(name: str) -> None:
    with pytest.raises(BadInput, match=name) as refused:
        rewards.resolve([name], 8)
    assert "\n" not in str(refused.value)
