"""Continued text: a prompt of tokens, and an answer of tokens that follows it. Decoder-only language models."""

import unicodedata
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Any, TypeVar

import torch

from tools.ports.port import Encoded, Port, PortError, first_difference
from tools.subjects import Inputs, Subject, SubjectError
from tools.subjects.subject import TEXTS_KEPT
from tools.tasks import Example, Given, Task

_Found = TypeVar("_Found")


def encode(subject: Subject, prompt: str, answer: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Tokens of the prompt and of the answer that continues it.

    Taken from the joint text where the prompt's tokens begin it; else the two are tokenised apart.
    """
    head, joint = subject.tokens(prompt), subject.tokens(prompt + answer)
    if joint[: len(head)] == head and len(joint) > len(head):
        return tuple(head), tuple(joint[len(head) :])
    tail = subject.tokens(answer, special=False)
    if not tail:
        raise SubjectError(f"the answer {answer!r} has no tokens")
    return tuple(head), tuple(tail)


def once(subject: Subject, example: Example, what: tuple[Hashable, ...], find: Callable[[], _Found]) -> _Found:
    """What is found in an example, looked for once while the example is the same object."""
    key = (id(example), *what)
    if (known := subject.found.get(key)) is not None and known[0] is example:
        return known[1]
    made = find()
    if len(subject.found) >= TEXTS_KEPT:
        subject.found.clear()
    subject.found[key] = example, made
    return made


class ContinuedText(Port):
    """Prompts that the model continues."""

    name = "text"
    reads = ("text",)
    writes = True
    answered = "where its tokens are predicted, from the last token of the prompt on"

    def encode(self, subject: Subject, example: Example) -> Encoded:
        """Prompt and answer as tokens; the answer's last one is predicted and not read."""
        return once(subject, example, ("encoded",), lambda: self._encode(subject, example))

    def _encode(self, subject: Subject, example: Example) -> Encoded:
        prompt, answer = encode(subject, example.prompt, example.target)
        other = () if example.foil is None else encode(subject, example.prompt, example.foil)[1]
        return self._encoded(subject, prompt, answer, first_difference(answer, other))

    def _encoded(
        self, subject: Subject, prompt: tuple[int, ...], answer: tuple[int, ...], foil: tuple[int, int] | None = None
    ) -> Encoded:
        at = len(prompt) - 1
        lengths = {subject.readout: len(prompt) + len(answer) - 1}
        return Encoded(prompt, lengths, len(prompt), tuple(range(at, at + len(answer))), answer, foil, subject.readout)

    def inputs(self, subject: Subject, encoded: Sequence[Encoded]) -> Inputs:
        """Each prompt followed by all of its answer but the last token, right-padded."""
        return subject.inputs([[*e.tokens, *map(int, e.targets[:-1])] for e in encoded])

    def span(self, subject: Subject, example: Example, role: str, stack: str, *, twin: bool = False) -> list[int]:
        """The tokens of the prompt (with `twin`, of the twin) that hold a character of the span."""
        return list(once(subject, example, (role, twin), lambda: text_span(subject, example, role, twin=twin)))

    def noise(self, subject: Subject, n: int, length: int, generator: torch.Generator) -> list[Encoded]:
        """Rows of random ordinary tokens, nothing but the last one left to predict."""
        rows = ordinary_tokens(subject, n, length, generator)
        return [self._encoded(subject, tuple(row), (row[-1],)) for row in rows]

    def row(self, encoded: Encoded) -> list[int] | None:
        """The prompt."""
        return list(encoded.tokens)

    def with_row(self, subject: Subject, encoded: Encoded, row: Sequence[int]) -> Encoded:
        """Another prompt."""
        return self._encoded(subject, tuple(row), (row[-1],))

    def labels(self, subject: Subject, example: Example, *, stack: str | None = None, twin: bool = False) -> list[str]:
        """The prompt's tokens."""
        text = example.twin if twin else example.prompt
        return [subject.token_label(t) for t in subject.tokens(text or "")]

    def require(self, subject: Subject) -> None:
        """A model whose positions have seen what follows them continues nothing."""
        subject.require("next_token")

    def check(self, subject: Subject, task: Task, examples: Sequence[Example]) -> None:
        """Refuse text that the tokenizer turns into unknown or padding tokens, or drops, and answers that have no tokens.

        Looks at prompts, answers, foils, twins and the task's choices.
        """
        self.check_inputs(subject, task, examples)
        if subject.tokenizer is None:
            return
        check_words(subject, task, examples)
        for e in examples:
            if not subject.tokens(e.prompt):
                raise PortError(f"task {task.name}: the prompt {e.prompt!r} has no tokens in this model")
            for answer in filter(None, (e.target, e.foil)):
                try:
                    encode(subject, e.prompt, answer)
                except SubjectError as error:
                    raise PortError(f"task {task.name}: {error} in this model") from None

    def choices(self, subject: Subject, example: Example, choices: Sequence[str]) -> tuple[int, ...] | None:
        """First tokens of the choices after this prompt; None where two choices share one, so that they cannot decide."""
        firsts = tuple(encode(subject, example.prompt, c)[1][0] for c in choices)
        return firsts if firsts and len(set(firsts)) == len(firsts) else None

    def write(self, subject: Subject, examples: Sequence[Example], max_tokens: int = 2048, **how: Any) -> list[str]:
        """Greedy completions of the prompts: the first line of each, and as many words of it as the answer has."""
        longest = max(len(encode(subject, e.prompt, e.target)[1]) for e in examples) + 1
        program, edits = (how.get("program") or {}).get(subject.readout), how.get("edits", ())
        rows = [subject.tokens(e.prompt) for e in examples]
        step = max(1, max_tokens // (max(map(len, rows)) + longest))
        new: list[list[int]] = []
        for at in range(0, len(rows), step):
            new += subject.generate(rows[at : at + step], longest, program, edits)
        texts = [subject.completion(row, more) for row, more in zip(rows, new, strict=True)]
        return [said_in(text, e.target) for text, e in zip(texts, examples, strict=True)]

    def own_answer(self, subject: Subject, inputs: Given) -> str:
        """The next token."""
        row = subject.tokens(str(inputs.get("text", "")))
        new = subject.generate([row], 1)[0] if row else []
        said = subject.completion(row, new) if new else ""
        if not said:
            raise PortError("the model says nothing here: give a prompt that it continues, or the right answer")
        return said


def said_in(completion: str, answer: str) -> str:
    """The part of a completion that stands for the answer; '' where nothing is said."""
    lines = completion.strip().splitlines()
    return " ".join(lines[0].split()[: max(1, len(answer.split()))]) if lines else ""


def ordinary_tokens(subject: Subject, n: int, length: int, generator: torch.Generator) -> list[list[int]]:
    """Rows of random tokens that mean something to the model."""
    config, tokenizer = subject.model.config, subject.tokenizer
    special = set(tokenizer.all_special_ids if tokenizer is not None else ())
    special |= {getattr(config, f"{n}_token_id", None) for n in ("pad", "bos", "eos", "decoder_start")}
    size = getattr(config, "vocab_size", 100)  # a model without one is given more than tokens, made from these
    size = min(size, len(tokenizer) if tokenizer is not None else size)
    ordinary = [i for i in range(size) if i not in special] or list(range(size))
    picked = torch.randint(len(ordinary), (n, length), generator=generator).tolist()
    return [[ordinary[i] for i in row] for row in picked]


# -- spans -------------------------------------------------------------------------------------------------------------


def text_span(subject: Subject, example: Example, role: str, *, twin: bool = False) -> list[int]:
    """The tokens of the first input that hold a character of a role's span; with `twin`, of the twin's.

    PortError names the roles there are.
    """
    text, spans = sides(example, twin=twin)
    if role not in spans:
        known = ", ".join(["answer", *spans])
        named = text or example.prompt
        raise PortError(f"anchor {role!r}: the example {named!r} has no such span; its anchors are {known}, and -1, -2")
    return tokens_of(subject, text, (spans[role][0], spans[role][1]))


def sides(example: Example, *, twin: bool) -> tuple[str, dict[str, tuple[int, ...]]]:
    """A side's first input and its spans; a side without spans has the other's, token for token: its characters may have
    moved, so that text and spans are both the other's then.
    """
    given = ((example.inputs, example.spans), (example.twin_inputs or {}, example.twin_spans))
    inputs, spans = given[twin]
    if not spans:
        inputs, spans = given[not twin]
    first = next(iter(inputs.values()), "")
    return first if isinstance(first, str) else first.name, dict(spans)


def tokens_of(subject: Subject, text: str, span: tuple[int, int]) -> list[int]:
    """The tokens of a text that hold characters of the stretch, special tokens in front counted in."""
    start, end = span
    offsets = token_offsets(subject, text)
    inside = [i for i, (a, b) in enumerate(offsets or ()) if max(a, start) < min(b, end)]
    return inside or _by_prefix(subject, text, start, end)


def token_offsets(subject: Subject, text: str) -> tuple[tuple[int, int], ...] | None:
    """Which characters each of `subject.tokens(text)` comes from; None where the tokenizer does not tell."""
    if not getattr(subject.tokenizer, "is_fast", False):
        return None
    if (known := subject.offsets.get(text)) is not None:
        return known
    found = subject.tokenizer(text, add_special_tokens=True, return_offsets_mapping=True, verbose=False)
    made = tuple((a, b) for a, b in found["offset_mapping"])[: len(subject.tokens(text))]
    if len(subject.offsets) >= TEXTS_KEPT:
        subject.offsets.clear()
    subject.offsets[text] = made
    return made


def _by_prefix(subject: Subject, text: str, start: int, end: int) -> list[int]:
    """For tokenizers without offsets: the tokens by which the text up to the stretch and with it differ in number."""
    total = len(subject.tokens(text))
    first = min(len(subject.tokens(text[:start].rstrip())) if text[:start].strip() else _in_front(subject), total - 1)
    last = min(len(subject.tokens(text[:end])), total) - 1
    return list(range(first, max(first, last) + 1))


def _in_front(subject: Subject) -> int:
    """How many special tokens the tokenizer puts before a text."""
    return len(subject.tokens("a")) - len(subject.tokens("a", special=False))


# -- words that a tokenizer loses --------------------------------------------------------------------------------------


def check_words(subject: Subject, task: Task, examples: Sequence[Example], meant: Collection[int] = ()) -> None:
    """PortError that names the words of a task which the tokenizer turns into unknown or padding tokens, or drops.

    meant: tokens that may be written out all the same.
    """
    read = [dict.fromkeys(_texts(e)) for e in examples]
    texts = {t: None for found in read for t in found}
    if not texts and not task.choices:  # there is nothing to say
        return
    lost = _unreadable(subject, [*texts, *(c for c in task.choices if c not in texts)], meant)
    if lost:
        hit = sum(any(t in lost for t in found) for found in read)
        words = list(dict.fromkeys(w for found in lost.values() for w in found))
        more = f" and {len(words) - 8} more" if len(words) > 8 else ""
        raise PortError(
            f"task {task.name} does not fit this model: its tokenizer cannot read {', '.join(map(repr, words[:8]))}{more} "
            f"({hit} of {len(examples)} examples); use words of the model's vocabulary, or another model"
        )


def _texts(e: Example) -> list[str]:
    """Every text of an example."""
    given = [*e.inputs.values(), e.target, e.foil, *(e.twin_inputs or {}).values()]
    return [t for t in given if isinstance(t, str) and t]


def _unreadable(subject: Subject, texts: Sequence[str], meant: Collection[int]) -> dict[str, list[str]]:
    """The texts with words that the tokenizer loses, and those words."""
    unknown = _unknown_words(subject, texts, meant)
    # Letters, numbers, punctuation and signs that alone have no token are dropped without a word.
    signs = {c for t in texts for c in t if unicodedata.category(c)[0] in "LNPS"}
    dropped = {c for c in signs if not subject.tokens(c, special=False)}
    lost = {t: [*unknown.get(t, []), *dict.fromkeys(c for c in t if c in dropped)] for t in texts}
    return {t: words for t, words in lost.items() if words}


def _unknown_words(subject: Subject, texts: Sequence[str], meant: Collection[int]) -> dict[str, list[str]]:
    """The words of each text that become the unknown or the padding token."""
    tokenizer = subject.tokenizer
    ends = {tokenizer.bos_token_id, tokenizer.eos_token_id}
    bad = {tokenizer.unk_token_id, tokenizer.pad_token_id} - {None, *meant}
    if not getattr(tokenizer, "is_fast", False):
        # Without offsets words are tried one by one; an end of text may be written out, as some prompts begin with one.
        return {t: [w for w in t.split() if (bad - ends) & set(subject.tokens(w, special=False))] for t in texts}
    # Some tokenizers have an unknown token that they do not declare; where it is written itself it is an ordinary word.
    hidden = getattr(tokenizer.backend_tokenizer.model, "unk_token", None)
    undeclared = set[int]() if hidden is None else {tokenizer.convert_tokens_to_ids(hidden)} - bad
    found = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    lost: dict[str, list[str]] = {}
    for text, ids, offsets in zip(texts, found["input_ids"], found["offset_mapping"], strict=True):
        for token, (start, end) in zip(ids, offsets, strict=True):
            word = text[start:end].strip()
            is_itself = token in (ends | undeclared) and word == tokenizer.convert_ids_to_tokens(token)
            if token in (bad | undeclared) and not is_itself:
                lost.setdefault(text, []).append(word)
    return lost


PORT = ContinuedText()
