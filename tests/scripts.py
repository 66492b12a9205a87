"""A short investigation as a script of turns, cheap enough to be run many times."""

import json
from pathlib import Path
from typing import Any

KEY = "accuracy[task=addition, split=confirm, program=intact]"


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
    {"text": "State it.", "calls": [call("hypothesis", statement="It can add."), call("note", text="Half a note.")]},
    {
        "text": "Predict it.",
        "calls": [call("predict", hypothesis="H1", metric=KEY, comparison=">", threshold=0.9, probability=0.8)],
    },
    {"text": "Confirm it.", "calls": [call("loss", tasks=["addition"], split="confirm", examples=16)]},
    {
        "text": "Conclude.",
        "calls": [
            call("hypothesis", handle="H1", status="supported", evidence_for=["E4"]),
            call(
                "claim",
                kind="behaviour",
                text="It adds: accuracy {{E4.accuracy[task=addition]}}.",
                experiments=["E2", "E4"],
                confidence=0.9,
            ),
            call("finish", answer="found", conclusion="It adds (C1), {{E4.accuracy}}."),
        ],
    },
]


def write(path: Path, turns: list[dict[str, Any]] = TURNS) -> Path:
    """The script as a file for `--planner scripted:FILE`."""
    path.write_text("".join(json.dumps(t) + "\n" for t in turns))
    return path
