"""The commands' flags."""

from importlib import import_module

import pytest

from tracking import BadInput


@pytest.mark.parametrize("command", ["report", "show", "dashboard", "track"])
def test_a_missing_argument_is_one_line_and_help_keeps_its_lines(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module = import_module(f"train.commands.{command}")
    with pytest.raises(BadInput, match=rf"required: .*; usage: sparks {command} ") as refused:
        module.main([])
    assert "\n" not in str(refused.value)
    assert capsys.readouterr() == ("", "")
    with pytest.raises(SystemExit):
        module.main(["--help"])
    assert (module.__doc__ or "").strip() in capsys.readouterr().out
