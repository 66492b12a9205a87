"""Whether a task can be read by the subject at all: unknown words make every input alike, and scores meaningless."""

from collections.abc import Sequence
from dataclasses import replace

from tools.methods.tool import ToolInputError
from tools.ports import PortError, port_of
from tools.subjects import Subject
from tools.tasks import Example, Task


def check_fit(subject: Subject, task: Task, examples: Sequence[Example]) -> None:
    """ToolInputError where the subject's port cannot read a task; it names what is wrong."""
    try:
        port_of(subject).check(subject, task, examples)
    except PortError as error:
        raise ToolInputError(str(error)) from None


def merged(subject: Subject, examples: Sequence[Example]) -> list[Example]:
    """The examples, where those that are the same to this subject count as one problem: they share a group.

    A tokenizer that ignores blanks reads `3+4=` and `3 + 4 =` alike.
    """
    port = port_of(subject)
    first: dict[object, str] = {}
    out: list[Example] = []
    for e in examples:
        group = first.setdefault(port.encode(subject, e).identity, e.group)
        out.append(e if group == e.group else replace(e, group=group))
    return out
