"""A short investigation as a script of turns, cheap enough to be run many times."""

import json
from pathlib import Path
from typing import Any


def call(name: str, /, **arguments: Any) -> dict[str, Any]:
    """One call of a turn."""
    return {"name": name, "arguments": arguments}


TURNS: list[dict[str, Any]] = [
    {"text": "What is it?", "calls": [call("describe_subject")]},
    {
        "text": "Can it add? Two things at once, one of them wrong.",
        "calls": [
            call("loss", tasks=["addition"], examples=16),
            call("loss", tasks=["additoin"], examples=16),
            call("no_such_tool"),
            call("layer_program", tasks=["addition"], sweep="skip_each", examples=16),
        ],
    },
    {
        "text": "State it, and measure exactly that.",
        "calls": [
            call("hypothesis", statement="It can add."),
            call("note", text="Not sure of it."),
            call("examine", kind="capability", task="addition", examples=16),
        ],
    },
    {"text": "Predict it.", "calls": [call("predict", experiment="E4", hypothesis="H1", probability=0.8)]},
    {"text": "Confirm it.", "calls": [call("confirm")]},
    {
        "text": "Conclude.",
        "calls": [
            call("claim", finding="F1", question="Q1", interpretation="It adds (F1): accuracy {{E5.accuracy}}."),
            call("finish", answer="found", words="It adds, {{E5.accuracy}}."),
        ],
    },
]


def write(path: Path, turns: list[dict[str, Any]] = TURNS) -> Path:
    """The script as a file for `--planner scripted:FILE`."""
    path.write_text("".join(json.dumps(t) + "\n" for t in turns))
    return path


def places(folder: Path) -> list[str]:
    """Options of a run whose database and report lie in a folder."""
    return ["--db", str(folder / "e.db"), "--out", str(folder / "t"), "--device", "cpu"]
