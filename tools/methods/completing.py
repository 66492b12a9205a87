"""What a model says to a prompt, cut to what can be held against an answer."""

from collections.abc import Sequence

from tools.methods.scoring import encode
from tools.subjects import Subject
from tools.tasks import Example


def completions(subject: Subject, examples: Sequence[Example], max_tokens: int = 2048) -> list[str]:
    """Greedy completions of the prompts: the first line of each, and as many words of it as the answer has.

    max_tokens: positions in a batch. SubjectError where the model cannot write.
    """
    longest = max(len(encode(subject, e.prompt, e.answer)[1]) for e in examples) + 1
    rows = [subject.tokens(e.prompt) for e in examples]
    step = max(1, max_tokens // (max(map(len, rows)) + longest))
    new: list[list[int]] = []
    for at in range(0, len(rows), step):
        new += subject.generate(rows[at : at + step], longest)
    texts = [subject.completion(row, more) for row, more in zip(rows, new, strict=True)]
    return [said_in(text, e.answer) for text, e in zip(texts, examples, strict=True)]


def said_in(completion: str, answer: str) -> str:
    """The part of a completion that stands for the answer; '' where nothing is said."""
    lines = completion.strip().splitlines()
    return " ".join(lines[0].split()[: max(1, len(answer.split()))]) if lines else ""
