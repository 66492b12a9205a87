"""One name for all command lines."""

import subprocess
import sys
from importlib import import_module

import pytest

from agent.__main__ import COMMANDS, main
from tools.__main__ import headlines
from tools.methods.tool import discover


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_main_that_tells_its_usage(command, capsys):
    module = import_module(COMMANDS[command][0])
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"python -m {module.__name__.removesuffix('.__main__')}" in capsys.readouterr().out


def test_an_unknown_command_is_refused_with_those_there_are(capsys):
    assert main(["investigate"]) == 2
    assert "there is no command 'investigate'; there are run, workbench, review" in capsys.readouterr().err


def test_the_exit_status_is_the_commands_own(capsys, tmp_path):
    assert main(["report", "latest", "--db", str(tmp_path / "none.db")]) == 2
    assert "none.db" in capsys.readouterr().err


@pytest.mark.parametrize("asked", [["--help"], ["run", "--help"], ["tools"], ["tools", "ablat"], ["db", "--help"], ["run", "--goal", "x", "--seed", "y"]])
def test_a_quick_question_is_answered_without_torch(asked):
    code = f"import sys; from agent.__main__ import main\ntry:\n    main({asked!r})\nexcept SystemExit:\n    pass\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "False", done.stdout[-300:] + done.stderr[-300:]


def test_the_quick_list_of_tools_is_the_list_of_tools():
    assert headlines() == {name: tool.description.splitlines()[0] for name, tool in discover().items()}
