"""Whether a task's text can be read by the subject at all: unknown words make every prompt alike, and scores meaningless."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tools.methods.scoring import encode
from tools.methods.tool import ToolInputError
from tools.subjects import Subject, SubjectError
from tools.tasks import Example, Task


def check_fit(subject: Subject, task: Task, examples: Sequence[Example]) -> None:
    """Refuse text that the tokenizer turns into unknown or padding tokens, or drops, and answers that have no tokens.

    Looks at prompts, answers, foils, twins and the task's choices. ToolInputError names the words.
    """
    if subject.tokenizer is None:
        return
    texts = {t: None for e in examples for t in (e.prompt, e.answer, e.foil, e.twin) if t}
    lost = _unreadable(subject, [*texts, *(c for c in task.choices if c not in texts)])
    if lost:
        hit = sum(any(t in lost for t in (e.prompt, e.answer, e.foil, e.twin)) for e in examples)
        words = list(dict.fromkeys(w for found in lost.values() for w in found))
        more = f" and {len(words) - 8} more" if len(words) > 8 else ""
        raise ToolInputError(
            f"task {task.name} does not fit this model: its tokenizer cannot read {', '.join(map(repr, words[:8]))}{more} "
            f"({hit} of {len(examples)} examples); use words of the model's vocabulary, or another model"
        )
    for e in examples:
        if not subject.tokens(e.prompt):
            raise ToolInputError(f"task {task.name}: the prompt {e.prompt!r} has no tokens in this model")
        for answer in filter(None, (e.answer, e.foil)):
            try:
                encode(subject, e.prompt, answer)
            except SubjectError as error:
                raise ToolInputError(f"task {task.name}: {error} in this model") from None


def merged(subject: Subject, examples: Sequence[Example]) -> list[Example]:
    """The examples, where those that are the same tokens to this subject count as one problem: they share a group.

    A tokenizer that ignores blanks reads `3+4=` and `3 + 4 =` alike.
    """
    if subject.tokenizer is None:
        return list(examples)
    first: dict[tuple[tuple[int, ...], tuple[int, ...]], str] = {}
    out: list[Example] = []
    for e in examples:
        group = first.setdefault(encode(subject, e.prompt, e.answer), e.group)
        out.append(e if group == e.group else replace(e, group=group))
    return out


def _unreadable(subject: Subject, texts: Sequence[str]) -> dict[str, list[str]]:
    """The texts with words that the tokenizer loses, and those words."""
    tokenizer = subject.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        bad = {tokenizer.unk_token_id, tokenizer.pad_token_id} - {None, tokenizer.bos_token_id, tokenizer.eos_token_id}
        # Without offsets words are tried one by one, which splits no word that blanks hold together.
        tried = {t: [w for w in t.split() if bad & set(subject.tokens(w, special=False))] for t in texts}
        return {t: words for t, words in tried.items() if words}
    found = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    rows = zip(texts, found["input_ids"], found["offset_mapping"], strict=True)
    return {t: words for t, ids, offsets in rows if (words := list(_lost(subject, t, ids, offsets)))}


def _lost(subject: Subject, text: str, ids: Sequence[int], offsets: Sequence[tuple[int, int]]) -> Iterator[str]:
    tokenizer = subject.tokenizer
    # Some tokenizers have an unknown token that they do not declare; in its own place it is an ordinary word.
    undeclared = getattr(tokenizer.backend_tokenizer.model, "unk_token", None)
    hidden = None if undeclared is None else tokenizer.convert_tokens_to_ids(undeclared)
    declared = {tokenizer.unk_token_id, tokenizer.pad_token_id}
    literal = {tokenizer.bos_token_id, tokenizer.eos_token_id, hidden} - (
        declared - {tokenizer.bos_token_id, tokenizer.eos_token_id}
    )
    covered = [False] * len(text)
    for token, (start, end) in zip(ids, offsets, strict=True):
        covered[start:end] = [True] * (end - start)
        word = text[start:end]
        is_itself = token in literal and word.strip() == tokenizer.convert_ids_to_tokens(token)
        if token in {*declared, hidden} and not is_itself:
            yield word
    # Letters, numbers, punctuation and signs that no token comes from were dropped without a word.
    dropped = "".join(
        c if not seen and unicodedata.category(c)[0] in "LNPS" else " " for c, seen in zip(text, covered, strict=True)
    )
    yield from dropped.split()
