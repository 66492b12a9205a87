"""Score answers under many variants at once: NLL over ALL answer tokens, accuracy, rank, logits.

The scored positions are selected first, stacked over all variants, and multiplied by the unembedding once at the end.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tools.engine.executor import SweepCost, Variant
from tools.subjects import Inputs, Subject, SubjectError
from tools.tasks import Example

UNEMBED_ROWS = 2048


@dataclass(frozen=True)
class Scores:
    """How one variant answers n examples.

    nll: nats, summed over all answer tokens. tokens: answer tokens. correct: every answer token is the most likely one
    (or, where the task closes the answer set and every example's choices differ in their first token after its prompt, the
    answer's first token beats the other choices'). rank: of the first
    answer token in the vocabulary, 1 is top. foil_margin: logit of the answer minus logit of the foil at the first token
    where they differ, NaN where an example has no foil. token_logits, token_owner: per answer token, its logit and
    the example it belongs to. kl: nats, from the first variant's distribution to this one's, summed over answer tokens;
    NaN where it was not asked for.
    """

    nll: Float[np.ndarray, " n"]
    tokens: Int[np.ndarray, " n"]
    correct: Bool[np.ndarray, " n"]
    rank: Int[np.ndarray, " n"]
    foil_margin: Float[np.ndarray, " n"]
    token_logits: Float[np.ndarray, " k"]
    token_owner: Int[np.ndarray, " k"]
    kl: Float[np.ndarray, " n"]


@dataclass(frozen=True)
class Encoded:
    """One example as tokens: prompt, answer, and the pair (offset, foil token) of the first difference, if any."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    foil: tuple[int, int] | None


@dataclass(frozen=True)
class Microbatch:
    """Examples that run together.

    indices: which examples these are. inputs: prompt plus all answer tokens but the last. last: (batch, 1) position of
    the prompt's last token. rows, columns: where answer tokens are predicted; targets: what they are.
    """

    indices: tuple[int, ...]
    examples: tuple[Example, ...]
    encoded: tuple[Encoded, ...]
    inputs: Inputs
    last: Int[Tensor, "batch 1"]
    rows: Int[Tensor, " k"]
    columns: Int[Tensor, " k"]
    targets: Int[Tensor, " k"]


MakeVariants = Callable[[Microbatch], Sequence[Variant]]


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


def microbatches(subject: Subject, examples: Sequence[Example], max_tokens: int = 2048) -> list[Microbatch]:
    """Sort by length and cut into batches of at most `max_tokens` tokens (at least one example each)."""
    subject.require("next_token")
    encoded = [_encoded(subject, e) for e in examples]
    lengths = [len(e.prompt) + len(e.answer) - 1 for e in encoded]
    order = sorted(range(len(examples)), key=lambda i: lengths[i])
    groups: list[list[int]] = []
    for i in order:
        if not groups or lengths[i] * (len(groups[-1]) + 1) > max_tokens:
            groups.append([])
        groups[-1].append(i)
    return [_microbatch(subject, g, [examples[i] for i in g], [encoded[i] for i in g]) for g in groups]


def _encoded(subject: Subject, example: Example) -> Encoded:
    prompt, answer = encode(subject, example.prompt, example.answer)
    if example.foil is None:
        return Encoded(prompt, answer, None)
    other = encode(subject, example.prompt, example.foil)[1]
    pairs = zip(answer, other, strict=False)
    return Encoded(prompt, answer, next(((i, b) for i, (a, b) in enumerate(pairs) if a != b), None))


def _microbatch(subject: Subject, indices: list[int], examples: list[Example], encoded: list[Encoded]) -> Microbatch:
    inputs = subject.inputs([[*e.prompt, *e.answer[:-1]] for e in encoded])
    places = [(r, len(e.prompt) - 1 + j) for r, e in enumerate(encoded) for j in range(len(e.answer))]
    device = subject.device
    return Microbatch(
        tuple(indices),
        tuple(examples),
        tuple(encoded),
        inputs,
        torch.tensor([[len(e.prompt) - 1] for e in encoded], device=device),
        torch.tensor([r for r, _ in places], device=device),
        torch.tensor([c for _, c in places], device=device),
        torch.tensor([t for e in encoded for t in e.answer], device=device),
    )


def batch_of(subject: Subject, examples: Sequence[Example]) -> Microbatch:
    """All the examples as one microbatch, in the order given."""
    encoded = [_encoded(subject, e) for e in examples]
    return _microbatch(subject, list(range(len(examples))), list(examples), encoded)


def choice_tokens(subject: Subject, example: Example, choices: Sequence[str]) -> tuple[int, ...] | None:
    """First tokens of the choices after this prompt; None where two choices share one, so that they cannot decide."""
    firsts = tuple(encode(subject, example.prompt, c)[1][0] for c in choices)
    return firsts if firsts and len(set(firsts)) == len(firsts) else None


def closed_tokens(
    subject: Subject, examples: Sequence[Example], choices: Sequence[str]
) -> Int[Tensor, "n choices"] | None:
    """First tokens of the choices after each prompt, since what a choice begins with may depend on what it follows.

    None where one example's choices cannot decide: then accuracy means the same in all of them.
    """
    rows = [choice_tokens(subject, e, choices) for e in examples] if choices else []
    if not rows or None in rows:
        return None
    return torch.tensor(rows, dtype=torch.long, device=subject.device)


def score(
    subject: Subject,
    examples: Sequence[Example],
    make_variants: MakeVariants,
    *,
    choices: Sequence[str] = (),
    max_tokens: int = 2048,
    kl: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[list[Scores], SweepCost]:
    """Score every variant on every example.

    make_variants: called once for each microbatch, so that edits can carry per-example values; it must return the same
    number of variants each time. Returns one Scores for each variant, examples in the order given.
    """
    total = SweepCost()
    collected: list[list[tuple[Microbatch, dict[str, np.ndarray]]]] = []
    closed = closed_tokens(subject, examples, choices)
    with subject.evaluating():
        for batch in microbatches(subject, examples, max_tokens):
            variants = make_variants(batch)
            states, cost = subject.sweep(
                batch.inputs,
                variants,
                lambda h, _, b=batch: h[b.rows, b.columns],
                max_tokens=max_tokens,
                on_progress=on_progress,
            )
            total.calls += cost.calls
            total.edges += cost.edges
            total.naive_edges += cost.naive_edges
            total.peak_live_states = max(total.peak_live_states, cost.peak_live_states)
            own = None if closed is None else closed[list(batch.indices)]
            tables = _read_out(subject, batch, states, own, rows=min(UNEMBED_ROWS, max_tokens), kl=kl)
            collected = collected or [[] for _ in variants]
            for variant, table in enumerate(tables):
                collected[variant].append((batch, table))
    return [_assemble(parts, len(examples)) for parts in collected], total


def _read_out(
    subject: Subject,
    batch: Microbatch,
    states: Sequence[Tensor],
    closed: Int[Tensor, "batch choices"] | None,
    *,
    rows: int,
    kl: bool,
) -> list[dict[str, np.ndarray]]:
    """Per variant: columns over the batch's answer tokens.

    closed: the choices' first tokens after each prompt. rows: how many states are turned into logits at once.
    """
    k, device = len(batch.targets), subject.device
    foils = torch.full((k,), -1, dtype=torch.long, device=device)
    start = 0
    for e in batch.encoded:
        if e.foil is not None:
            foils[start + e.foil[0]] = e.foil[1]
        start += len(e.answer)
    first = torch.ones(k, dtype=torch.bool, device=device)
    first[1:] = batch.rows[1:] != batch.rows[:-1]
    stacked = torch.cat(list(states))
    targets, foils, first = (t.repeat(len(states)) for t in (batch.targets, foils, first))
    choices = None if closed is None else closed[batch.rows].repeat(len(states), 1)
    columns: dict[str, list[Tensor]] = {"nll": [], "rank": [], "top": [], "logit": [], "margin": [], "kl": []}
    first_variant = subject.unembed(stacked[:k]).float().log_softmax(-1) if kl else None
    for at in range(0, len(stacked), rows):
        part = slice(at, at + rows)
        logits = subject.unembed(stacked[part]).float()
        own = logits.gather(1, targets[part, None])
        rank = (logits > own).sum(-1) + 1
        columns["nll"].append(logits.logsumexp(-1) - own[:, 0])
        columns["rank"].append(rank)
        if choices is not None:  # the first token decides; the rest of the answer follows from it
            columns["top"].append((logits.gather(1, choices[part]).amax(-1) == own[:, 0]) | ~first[part])
        else:
            columns["top"].append(logits.argmax(-1) == targets[part])
        columns["logit"].append(own[:, 0])
        other = logits.gather(1, foils[part, None].clamp(min=0))[:, 0]
        if first_variant is None:
            columns["kl"].append(torch.full_like(own[:, 0], torch.nan))
        else:
            base = first_variant[torch.arange(at, at + len(logits), device=device) % k]
            columns["kl"].append((base.exp() * (base - logits.log_softmax(-1))).sum(-1))
        columns["margin"].append(torch.where(foils[part] >= 0, own[:, 0] - other, torch.nan))
    joined = {name: torch.cat(parts).cpu().numpy() for name, parts in columns.items()}
    return [{n: c[v * k : (v + 1) * k] for n, c in joined.items()} for v in range(len(states))]


def _assemble(parts: Sequence[tuple[Microbatch, dict[str, np.ndarray]]], n: int) -> Scores:
    nll, kl, tokens = np.zeros(n), np.zeros(n), np.zeros(n, dtype=np.int64)
    correct, rank, margin = np.ones(n, dtype=bool), np.zeros(n, dtype=np.int64), np.full(n, np.nan)
    logits: list[tuple[int, int, float]] = []
    for batch, table in parts:
        at = 0
        for index, encoded in zip(batch.indices, batch.encoded, strict=True):
            span = slice(at, at + len(encoded.answer))
            at = span.stop
            nll[index] = float(table["nll"][span].astype(np.float64).sum())
            kl[index] = float(table["kl"][span].astype(np.float64).sum())
            tokens[index] = len(encoded.answer)
            correct[index] = bool(table["top"][span].all())
            rank[index] = int(table["rank"][span.start])
            found = table["margin"][span]
            margin[index] = float(found[~np.isnan(found)][0]) if (~np.isnan(found)).any() else np.nan
            logits += [(index, j, float(x)) for j, x in enumerate(table["logit"][span])]
    logits.sort()
    return Scores(
        nll, tokens, correct, rank, margin,
        np.array([x for _, _, x in logits]), np.array([i for i, _, _ in logits], dtype=np.int64), kl,
    )  # fmt: skip
