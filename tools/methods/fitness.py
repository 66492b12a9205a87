"""Whether a task's text can be read by the subject at all: unknown words make every prompt alike, and scores meaningless."""

import unicodedata
from collections.abc import Sequence
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
    unknown = _unknown_words(subject, texts)
    # Letters, numbers, punctuation and signs that alone have no token are dropped without a word.
    signs = {c for t in texts for c in t if unicodedata.category(c)[0] in "LNPS"}
    dropped = {c for c in signs if not subject.tokens(c, special=False)}
    lost = {t: [*unknown.get(t, []), *dict.fromkeys(c for c in t if c in dropped)] for t in texts}
    return {t: words for t, words in lost.items() if words}


def _unknown_words(subject: Subject, texts: Sequence[str]) -> dict[str, list[str]]:
    """The words of each text that become the unknown or the padding token."""
    tokenizer = subject.tokenizer
    ends = {tokenizer.bos_token_id, tokenizer.eos_token_id}
    bad = {tokenizer.unk_token_id, tokenizer.pad_token_id} - {None}
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
