"""What a model says to a prompt, cut to what can be held against an answer."""

from collections.abc import Sequence

from tools.ports import port_of
from tools.subjects import Subject
from tools.tasks import Example


def completions(subject: Subject, examples: Sequence[Example], max_tokens: int = 2048) -> list[str]:
    """What the model says to each example, as its port writes it.

    max_tokens: positions in a batch. SubjectError where the model cannot write.
    """
    return port_of(subject).write(subject, examples, max_tokens)
