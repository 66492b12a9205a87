"""Which tools a run offers its planner, and how each is described there."""

import re
from collections.abc import Mapping
from functools import cache

from agent.planners.base import ToolInfo
from tools.methods.describing import fitted
from tools.methods.tool import TaskBook, Tool
from tools.ports import port_of
from tools.subjects import Subject, built_in, fingerprint
from tools.tasks import families
from tools.tasks.task import SPEAKERS

UNITS = re.compile(
    r"\b(?:units?|neurons?|channels?|directions?|features?|polysemantic\w*|monosemantic\w*|autoencoders?|saes?|concepts?)\b",
    re.IGNORECASE,
)


def usable(
    tools: Mapping[str, Tool],
    subject: Subject,
    tasks: TaskBook,
    *,
    goal: str = "",
    by_hand: bool = False,
    code: bool = False,
) -> dict[str, Tool]:
    """The tools that a run on this subject can use, with examples that fit it.

    goal: what the run is to find out; of units and directions only a goal that names some asks. by_hand: a person looks at
    single examples. code: experiments of the planner's own are allowed.
    """
    able = {
        *subject.capabilities,
        *has_trees(subject, tasks),
        *has_labels(subject, tasks),
        *port_of(subject).reads,
        *(("units",) if has_units(subject, goal, by_hand=by_hand) else ()),
        *(("person",) if by_hand else ()),
        *(("code",) if code else ()),
    }
    return {name: fitted(t, port_of(subject).reads, subject.name) for name, t in tools.items() if t.fits(able)}


def has_units(subject: Subject, goal: str, *, by_hand: bool) -> bool:
    """Whether somebody may ask what single units mean: a person, or a goal that names some, of a model that reads tokens."""
    return not {"image", "audio"} & set(port_of(subject).reads) and (by_hand or UNITS.search(goal) is not None)


def has_trees(subject: Subject, tasks: TaskBook) -> set[str]:
    """`trees` where a run may have sentences with trees: its model reads more than plain text, or the user brought some."""
    brought = any("span_labels" in e for t in tasks.made() for e in t.examples)
    return {"trees"} if brought or port_of(subject).name != "text" else set()


def has_labels(subject: Subject, tasks: TaskBook) -> set[str]:
    """What a run's examples have that some tools look at: `foils` of the user's own or of a built-in model's questions,
    `attributes` of who speaks, labels such as `user age` and `model manner`, and `counterfactuals`.
    """
    own = [f.offers for f in families().values() if f.private and _reads_as(subject, f.subject)]
    brought = [e for t in tasks.made() for e in t.examples]
    labels = {name for e in brought for name in e.get("labels", {})}
    return {
        *(o for offers in own for o in offers),
        *(("foils",) if any(e.get("foil") for e in brought) else ()),
        *(("attributes",) if any(n.startswith(SPEAKERS) for n in labels) else ()),
        *(("counterfactuals",) if any(e.get("counterfactuals") for e in brought) else ()),
    }


def _reads_as(subject: Subject, name: str) -> bool:
    """Whether a subject is a built-in model, or one with its tokenizer: the same with other weights."""
    return subject.name == name or (bool(subject.parts) and subject.parts.get("tokenizer") == _tokenizer(name))


@cache
def _tokenizer(name: str) -> str:
    return fingerprint(built_in()[name])[1]["tokenizer"]


def offered(tool: Tool, subject: Subject) -> ToolInfo:
    """A tool as a planner sees it in a run on this subject; which stack is meant is no question where there is one."""
    schema = tool.schema()
    if len(subject.stacks) == 1 and "stack" in schema["properties"]:
        del schema["properties"]["stack"]
        schema["required"] = [name for name in schema["required"] if name != "stack"]
    return ToolInfo(tool.name, tool.description, schema)
