"""A head attends by what stands there: on sequences of random tokens said twice, it looks at the earlier occurrence of the
query's token, at the token after it (induction, Olsson et al. 2022), or at the previous token.

The sequences are made from the tokenizer's vocabulary by the seed, so that this needs no task that the model can do. For the
first two the control is the weight on the same position in a sequence of the same length in which nothing is said twice: a
head that goes by distance gives the same there. For `previous`, which is a distance, it is attention spread evenly. The
number of tokens between the two occurrences differs from sequence to sequence.
"""

import random
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from experiments_db.findings import Statement
from tools.findings.contrast import Contrast, Quantity
from tools.findings.kind import Bench, Kind, Nulls, tenth_of_examples
from tools.findings.phrases import capital, heads
from tools.methods.readings import patterns
from tools.methods.tool import ToolInputError
from tools.ports import port_of
from tools.subjects import Subject

LABELS = {
    "same token": "earlier occurrences of the token that it reads",
    "after same token": "what came after an earlier occurrence of the token that it reads (induction)",
    "previous": "the previous token",
}
LONGEST = 16  # tokens that are said twice
Made = tuple[list[int], list[int], list[int], list[int]]


def _check(s: Statement) -> None:
    if s.label not in LABELS:
        raise ToolInputError(f"label: a head matches by {', '.join(LABELS)}, not {s.label!r}")
    for c in s.members:
        if c.part != "attn.pattern" or not c.units or c.key or c.anchor:
            raise ToolInputError(
                f"matches is about heads wherever they stand, as in {c.stack}.3.attn.pattern[2], not {c}"
            )


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    ctx = bench.ctx
    subject = ctx.subject
    spec = subject.spec(s.members[0].stack)
    for c in s.members:
        if c.stack != spec.name or c.block is None or c.block >= len(spec.blocks) or c.units[0] >= spec.n_heads:
            raise ToolInputError(f"{c}: {spec.name} has {len(spec.blocks)} blocks of {spec.n_heads} heads")
    made = sequences(subject, s.examples, f"{ctx.split}/{ctx.draw}/{ctx.seed}")
    blocks = sorted({c.block for c in s.members if c.block is not None})
    own = np.zeros((len(made), len(blocks), spec.n_heads))
    control = np.zeros_like(own)
    with subject.evaluating():
        for some in _batches(made, ctx.max_tokens):
            rows = [ids for i in some for ids in made[i][:2]]
            seen = patterns(subject, subject.inputs(rows), spec.name, blocks)
            _, _, queries, source = made[some[0]]
            keys = {
                "same token": source,
                "after same token": [k + 1 for k in source],
                "previous": [q - 1 for q in queries],
            }
            q, k = torch.tensor(queries), torch.tensor(keys[s.label])
            given = seen[..., q.to(seen.device), k.to(seen.device)].mean(-1).cpu().numpy()  # (blocks, rows, heads)
            own[some] = given[:, ::2].swapaxes(0, 1)
            evenly = float((1 / (q + 1)).mean())
            control[some] = evenly if s.label == "previous" else given[:, 1::2].swapaxes(0, 1)
    groups = tuple(f"sequence {i}" for i in range(len(made)))
    kind = "attention spread evenly" if s.label == "previous" else "the same position where nothing is said twice"
    out: list[Contrast] = []
    for c in s.members:
        here = own[:, blocks.index(c.block or 0), c.units[0]]
        apart = here - control[:, blocks.index(c.block or 0), c.units[0]]
        attention, difference = (
            Quantity("attention", "share of attention", x.clip(least, 1), (least, 1.0))
            for x, least in ((here, 0.0), (apart, -1.0))
        )
        out.append(bench.effect(attention, bench.smallest, groups, component=str(c)))
        out.append(bench.beyond((difference,), kind, bench.smallest, groups, component=str(c)))
    return out


def sequences(subject: Subject, n: int, seed: str) -> list[Made]:
    """Sequences of random tokens, all different, some of which come again after a gap: (tokens, the same where nothing comes
    again, queries, where each query's token stood before). ToolInputError where the vocabulary or the context is too small.
    """
    if len(subject.stacks) > 1 or not hasattr(subject.model.config, "vocab_size"):
        raise ToolInputError(
            f"matches has a model of one stack read random tokens; {subject.name} has {', '.join(subject.stacks)} and reads "
            f"{', '.join(port_of(subject).reads)}"
        )
    special = set(subject.tokenizer.all_special_ids) if subject.tokenizer is not None else set()
    vocabulary = [t for t in range(int(subject.model.config.vocab_size)) if t not in special]
    room = min(subject.max_positions or 4 * LONGEST, len(vocabulary))
    length = min(LONGEST, (room - 1) // 3)
    if length < 3:
        raise ToolInputError("matches needs at least 10 tokens of vocabulary and of context")
    start = subject.tokens("")[:1] if subject.tokenizer is not None else []
    out: list[Made] = []
    for i in range(n):
        rng = random.Random(f"matches/{seed}/{i}")
        gap = rng.randint(0, max(0, min(length, room - len(start) - 2 * length)))
        drawn = rng.sample(vocabulary, min(len(vocabulary), 2 * length + gap))
        said, between = drawn[:length], drawn[length : length + gap]
        again = drawn[length + gap :] + [rng.choice(vocabulary) for _ in range(2 * length + gap - len(drawn))]
        ids, fresh = [*start, *said, *between, *said], [*start, *said, *between, *again]
        # The last token of what is said twice is followed, the first time, by something else.
        queries = [len(start) + length + gap + j for j in range(1, length - 1)]
        out.append((ids, fresh, queries, [q - length - gap for q in queries]))
    return out


def _batches(made: Sequence[Made], max_tokens: int) -> list[list[int]]:
    """Which sequences run together: those of one length, in which the queries stand at the same positions."""
    out: dict[tuple[int, int], list[int]] = {}
    count: dict[int, int] = {}
    for i, (ids, *_) in enumerate(made):
        at = count[len(ids)] = count.get(len(ids), -1) + 1
        out.setdefault((len(ids), at // max(1, max_tokens // (2 * len(ids)))), []).append(i)
    return list(out.values())


def _sentence(s: Statement, _: Mapping[str, str] | None) -> str:
    one = len(s.members) == 1
    return (
        f"{capital(heads(s.members))} {'attends' if one else 'each attend, by itself,'} to {LABELS[s.label]}: {{effect}} of "
        f"{'its' if one else 'the'} attention, on random tokens said twice{{control}}."
    )


KIND = Kind(
    "matches", "a head attends by identity (label: same token, after same token, previous) on random tokens said twice",
    _measure, _sentence, needs=("components", "label"), each=True, own=True, check=_check, capable=False, least=tenth_of_examples,
    unit="share of attention",
    nulls=Nulls(
        {"shuffled_answers": "it says where a head looks, whatever the answer"},
        apart="tokens and positions alone can make a head look somewhere, without training",
    ),
)  # fmt: skip
