"""From a design to the weights of a model of transformers: GPT-2, Llama (rotary, RMSNorm, gated MLP) or GPT-NeoX.

The residual stream. Every word of every variable has a direction of its own; these directions are the columns of a
seeded random orthonormal basis, so that nothing is aligned with the model's own channels. What a norm does is known
by construction. For LayerNorm all directions are orthogonal to the vector of ones, so that the mean is zero. The scale is
the same at each position in one of two ways, by seed: `epsilon` makes the norm's epsilon so large (2^26) that it is the
identity to 1e-8; `anchor` adds to each embedding one direction 64 times as long as a word's, so that all else moves the
norm by about 1%, at the usual epsilon. Both commute with the rotation, as the norm's gain is the same in all channels.

Attention is a difference of scores of at least 20, so that what is selected has 1 - 1e-6 of the weight. By offset: GPT-2 has
position embeddings, the others sum three rotary frequencies that peak there; by equality and class: one-hot queries and
keys, in dimensions that hardly turn (Llama) or not at all (NeoX). A lookup has one neuron an entry of its table, far on
or far off.

Heads, MLPs and neurons that have no part: zero, noise (random queries, keys, values, neurons) or a shadow (what a
true head or MLP does, once more). They write, at comparable norms, into directions that only they read, or into the answer's
too where the design is not able to do its task.
"""

import math
import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.planted.compiler.architectures import (
    ANCHOR,
    empty,
    fill_norms,
    frequencies,
    rotary_amplitude,
    rotary_dims,
    store_head,
    store_mlp,
)  # fmt: skip
from benchmarks.planted.compiler.language import START, AnyStep, Design, Head, Lookup
from benchmarks.planted.compiler.plan import POSITIONS, SLOW, Plan, columns, copied, shared_words

SCORE, SHARP, LOGIT = 40.0, 40.0, 20.0  # scores of heads, slope of lookups, logit of a word in `out`


class Assembler:
    """Writes one model's weights."""

    def __init__(self, design: Design, vocabulary: Sequence[str], shape: Plan, seed: int) -> None:
        self.design, self.plan, self.vocabulary = design, shape, vocabulary
        self.columns = columns(design, shape.family)
        self.n = len(self.columns)
        self.generator = torch.Generator().manual_seed(seed)
        self.rng = random.Random(f"weights {seed}")
        free = shape.width - (0 if shape.family == "llama" else 1)
        raw = self.normal(shape.width, free)
        if shape.family != "llama":
            raw = raw - raw.mean(0)  # orthogonal to ones
        self.basis = torch.linalg.qr(raw).Q  # (width, free): named directions, then those that nothing reads
        self.unread = free - self.n
        self.targets = list(range(self.n, free))
        if not design.able:
            self.targets += [i for (v, _), i in self.columns.items() if v == "out"]

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, in double precision."""
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def row(self, words: dict[tuple[str, str], float]) -> Tensor:
        """A functional of the named directions, (free,)."""
        out = torch.zeros(self.basis.shape[1], dtype=torch.float64)
        for name, weight in words.items():
            out[self.columns[name]] += weight
        return out

    def build(self) -> Any:
        """The model, float32, in evaluation mode."""
        p = self.plan
        with torch.random.fork_rng(devices=[]):  # the class draws weights that are all replaced
            model = empty(p, len(self.vocabulary))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
            fill_norms(model, p)
            embedding = torch.stack([self._embedding(w) for w in self.vocabulary]) @ self.basis.T
            outs = set(self.design.variables["out"])
            unembedding = torch.stack([self.row({("out", w): LOGIT} if w in outs else {}) for w in self.vocabulary])
            model.get_input_embeddings().weight.copy_(embedding)
            model.get_output_embeddings().weight.copy_(unembedding @ self.basis.T)
            if p.family == "gpt2":
                positions = torch.stack([self.row({("pos", str(i)): 1.0}) for i in range(POSITIONS)])
                model.transformer.wpe.weight.copy_(positions @ self.basis.T)
            by_place = {place: name for name, place in p.places.items()}
            steps = {s.name: s for s in self.design.steps}
            for b in range(p.blocks):
                for h in range(p.heads):
                    q, k, v, o = self._head(steps.get(by_place.get((b, h), "")), p.idle.get((b, h)))
                    store_head(model, p, b, h, q @ self.basis.T, k @ self.basis.T, v @ self.basis.T, self.basis @ o)
                gate, up, down = self._mlp(steps.get(by_place.get((b, None), "")), p.idle.get((b, None)))
                store_mlp(model, p, b, gate @ self.basis.T, up @ self.basis.T, self.basis @ down)
        return model.eval()

    def _embedding(self, word: str) -> Tensor:
        words = {("", "one"): 1.0, ("", "anchor"): ANCHOR if self.plan.norm == "anchor" else 0.0}
        return self.row({**words, ("tok", word): 1.0} if ("tok", word) in self.columns else words)

    # -- heads ------------------------------------------------------------------------------------------------------

    def _head(self, step: AnyStep | None, idle: str | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries, keys, values (head_dim, free) and output (free, head_dim)."""
        p, free = self.plan, self.basis.shape[1]
        true = [s for s in self.design.steps if isinstance(s, Head)]
        if step is None and idle == "zero":
            z = torch.zeros(p.head_dim, free, dtype=torch.float64)
            return z, z, z, z.T
        if step is None and idle == "shadow" and true:
            model = self.rng.choice(true)
            q, k = self._scores(model)
            reads = copied(self.design, model)[0]
            v, o = self._values([self.row({r: 1.0}) for r in reads], [self._aside() for _ in reads])
        elif step is None:
            q, k = self._readers(p.head_dim, 0.7), self._readers(p.head_dim, 0.7)
            v = self._readers(p.head_dim, 0.5 / math.sqrt(p.head_dim))
            o = torch.stack([self._aside() for _ in range(p.head_dim)], 1) * self._loudness() * 0.5
        else:
            assert isinstance(step, Head)
            q, k = self._scores(step)
            reads, writes = copied(self.design, step)
            v, o = self._values([self.row({r: 1.0}) for r in reads], [self.row({w: step.gain}) for w in writes])
        turn = torch.linalg.qr(self.normal(p.head_dim, p.head_dim)).Q
        return q, k, turn @ v, o @ turn.T

    def _values(self, reads: list[Tensor], writes: list[Tensor]) -> tuple[Tensor, Tensor]:
        v = torch.zeros(self.plan.head_dim, self.basis.shape[1], dtype=torch.float64)
        for i, r in enumerate(reads):
            v[i] = r
        o = torch.zeros_like(v.T)
        for i, w in enumerate(writes):
            o[:, i] = w
        return v, o

    def _scores(self, head: Head) -> tuple[Tensor, Tensor]:
        """Queries and keys whose product, divided by the root of head_dim, is the score."""
        p = self.plan
        one = self.row({("", "one"): 1.0})
        start = self.row({("tok", START): 1.0})
        peak, terms = SCORE, list[tuple[Tensor, Tensor]]()
        q, k = (torch.zeros(p.head_dim, self.basis.shape[1], dtype=torch.float64) for _ in "qk")
        if head.offset is not None and p.family != "gpt2":
            amplitudes = rotary_amplitude(head.offset)
            peak = 3 * amplitudes
            half = rotary_dims(p) // 2
            for i in range(3):
                angle = frequencies()[i] * head.offset
                size = math.sqrt(amplitudes * math.sqrt(p.head_dim))
                # The query is turned back by the offset: the product peaks where the key lies that far behind.
                q[i], q[i + half] = one * size * math.cos(angle), -one * size * math.sin(angle)
                k[i] = one * size
        elif head.offset is not None:
            for i in range(POSITIONS - head.offset):
                terms.append((self.row({("pos", str(i + head.offset)): SCORE}), self.row({("pos", str(i)): 1.0})))
        elif head.equal is not None:
            a, b = head.equal
            terms += [(self.row({(a, w): SCORE}), self.row({(b, w): 1.0})) for w in shared_words(self.design, head)]
        else:
            terms.append((one * SCORE, self.row({("tok", w): 1.0 for w in head.keys})))
        elsewhere = one * (0.5 * SCORE if head.offset is None else 0.0)
        if head.when:
            elsewhere = elsewhere + 2 * peak * (one - self.row({("tok", w): 1.0 for w in head.when}))
        if bool(elsewhere.any()):
            terms.append((elsewhere, start))
        free = self._still()
        assert len(terms) <= len(free), f"{head.name} needs {len(terms)} dimensions of {len(free)}"
        root = math.sqrt(p.head_dim)
        for i, (a, b) in zip(free, terms, strict=False):
            size = math.sqrt(max(float(a.abs().max()), 1.0) * root)
            q[i], k[i] = a * root / size, b * size
        if p.family == "gpt2":
            turn = torch.linalg.qr(self.normal(p.head_dim, p.head_dim)).Q
            q, k = turn @ q, turn @ k
        return q, k

    def _still(self) -> list[int]:
        """Dimensions of queries and keys that rotation leaves (almost) alone."""
        p = self.plan
        half = p.head_dim // 2
        if p.family == "llama":
            return [*range(SLOW, half), *range(half + SLOW, p.head_dim)]
        return list(range(rotary_dims(p), p.head_dim))

    # -- MLPs ---------------------------------------------------------------------------------------------------------

    def _mlp(self, step: AnyStep | None, idle: str | None) -> tuple[Tensor, Tensor, Tensor]:
        """Gate, up (hidden, free) and down (free, hidden); without a gated MLP, gate alone is what goes in."""
        p, free = self.plan, self.basis.shape[1]
        gate, up = (torch.zeros(p.hidden, free, dtype=torch.float64) for _ in "gu")
        down = torch.zeros(free, p.hidden, dtype=torch.float64)
        true = [s for s in self.design.steps if isinstance(s, Lookup)]
        if step is None and idle == "zero":
            return gate, up, down
        shown = self.rng.choice(true) if step is None and idle == "shadow" and true else step
        order = self.rng.sample(range(p.hidden), p.hidden)
        used = 0
        if shown is not None:
            assert isinstance(shown, Lookup)
            for i, (key, word) in zip(order, shown.table.items(), strict=False):
                gate[i] = self.row(dict.fromkeys(zip(shown.reads, key, strict=True), SHARP))
                gate[i] -= self.row({("", "one"): SHARP * (len(key) - 0.5)})
                up[i] = self.row({("", "one"): 1.0})
                target = self._aside() if step is None else self.row({(shown.writes, word): shown.gain})
                down[:, i] = target * 2 / SHARP
            used = len(shown.table)
        loud = self._loudness() / 30
        for i in order[used:]:
            gate[i], up[i] = self._readers(1, 2.0)[0], self.row({("", "one"): 1.0})
            down[:, i] = self._aside() * loud
        return gate, up, down

    # -- noise --------------------------------------------------------------------------------------------------------

    def _aside(self) -> Tensor:
        """A random unit vector of the directions that only noise reads."""
        out = torch.zeros(self.basis.shape[1], dtype=torch.float64)
        out[self.targets] = torch.nn.functional.normalize(self.normal(len(self.targets)), dim=0)
        return out

    def _readers(self, n: int, size: float) -> Tensor:
        """Random functionals of everything but the anchor, (n, free)."""
        out = self.normal(n, self.basis.shape[1]) * size
        out[:, self.columns["", "anchor"]] = 0
        return out

    def _loudness(self) -> float:
        return 2.0 ** self.rng.uniform(-1, 1)
