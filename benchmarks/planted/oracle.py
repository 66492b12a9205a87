"""What a removal or a patch really does to a model: plain hooks on the plain model of transformers, on examples of its own.

None of the project's engine takes part, so that what it says about a finding is a second opinion, and not the same one again.
"""

import random
from collections import defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.planted.sites import Row
from experiments_db.places import Component, parse_anchor

NAMES = {  # blocks, what a head's output goes through, attention
    "GPT2LMHeadModel": ("transformer.h", "attn.c_proj", "attn"),
    "LlamaForCausalLM": ("model.layers", "self_attn.o_proj", "self_attn"),
    "GPTNeoXForCausalLM": ("gpt_neox.layers", "attention.dense", "attention"),
}
PARTS = ("attn.out", "attn.z", "mlp.out", "resid_pre")
SMALLEST = 0.1  # of what separates the intact model from chance
LEAST = 12  # examples below which nothing is said


@dataclass
class _Batch:
    """Examples of one length, intact."""

    rows: list[Row]
    ids: Tensor
    twins: Tensor
    answers: Tensor
    foils: Tensor
    span: slice


@dataclass
class Oracle:
    """A model folder and examples that no run has seen."""

    folder: Path
    rows: Sequence[Row]
    seed: int = 0
    _model: Any = field(init=False, repr=False, default=None)
    _batches: list[_Batch] = field(init=False, repr=False, default_factory=list["_Batch"])
    _intact: dict[str, float | None] = field(init=False, repr=False, default_factory=dict[str, "float | None"])

    def can(self, c: Component) -> bool:
        """Whether it can measure at a component."""
        return c.part in PARTS and not c.feature and c.passes is None

    def smallest(self, among: str) -> float:
        """The smallest drop of accuracy that counts among these examples."""
        return SMALLEST * self.gap(among)

    def gap(self, among: str) -> float:
        """What separates the intact model from chance."""
        return max(0.0, (self._accuracy(among) or 0.0) - self.chance(among))

    def drop(self, places: Sequence[Component], op: str, among: str = "") -> float | None:
        """How far accuracy falls without them, all removed at once; None with too few examples."""
        intact, left = self._accuracy(among), self._under(places, op, among)[0]
        return None if intact is None or left is None else intact - left

    def flipped(self, places: Sequence[Component], among: str = "") -> float | None:
        """In what share of examples the twin's activation there brings the twin's answer, beyond those that gave it anyway."""
        before, after = self._under([], "twin", among)[1], self._under(places, "twin", among)[1]
        return None if before is None or after is None else after - before

    @torch.inference_mode()
    def looks(self, c: Component, among: str = "") -> tuple[float, float] | None:
        """The share of a head's attention that goes from its anchor to its key, and how much more that is than evenly spread."""
        own, even = list[float](), list[float]()
        for batch in self._loaded():
            weights = (
                self._model(batch.ids, use_cache=False, output_attentions=True)
                .attentions[c.block][:, list(c.units)]
                .mean(1)
            )
            for i, r in enumerate(batch.rows):
                queries, keys = r.at(c.anchor), r.at(c.key)
                if queries and keys and _is(r, among):
                    own.append(float(weights[i][list(queries)][:, list(keys)].sum(-1).mean()))
                    even.append(sum(sum(k <= q for k in keys) / (q + 1) for q in queries) / len(queries))
        n = len(own)
        return (sum(own) / n, (sum(own) - sum(even)) / n) if n >= LEAST else None

    def read(self, blocks: int, among: str = "") -> float | None:
        """Accuracy of the model with its first blocks alone."""
        self._loaded()
        later = self._model.get_submodule(NAMES[type(self._model).__name__][0])[blocks:]
        hooks = [
            b.register_forward_hook(lambda _m, a, o: (a[0], *o[1:]) if isinstance(o, tuple) else a[0]) for b in later
        ]
        try:
            return self._under([], "zero", among)[0]
        finally:
            for h in hooks:
                h.remove()

    def chance(self, among: str) -> float:
        """The accuracy of the best guess that knows the format alone."""
        rows = [r for r in self.rows if _is(r, among)]
        counts: dict[tuple[str, ...], int] = defaultdict(int)
        for r in rows:
            counts[r.answer] += 1
        guess = sum(1 / r.candidates if r.candidates else 0.0 for r in rows) / max(1, len(rows))
        return max([guess, *(c / len(rows) for c in counts.values())], default=0.0)

    def _loaded(self) -> list[_Batch]:
        if self._model is None:
            self._load()
        return self._batches

    def _accuracy(self, among: str) -> float | None:
        if among not in self._intact:
            self._intact[among] = self._under([], "zero", among)[0]
        return self._intact[among]

    def _load(self) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._model = AutoModelForCausalLM.from_pretrained(
            self.folder, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        tokenizer = AutoTokenizer.from_pretrained(self.folder)
        groups: dict[tuple[int, int], list[Row]] = defaultdict(list)
        for r in self.rows:
            if len(r.twin) == len(r.prompt) and len(r.foil) == len(r.answer):
                groups[len(r.prompt), len(r.answer)].append(r)

        def ids(rows: list[Row], *parts: str) -> Tensor:
            words = [[w for p in parts for w in getattr(r, p)] for r in rows]
            return torch.tensor([tokenizer.convert_tokens_to_ids(w) for w in words])

        for (n, k), rows in sorted(groups.items()):
            whole = ids(rows, "prompt", "answer")[:, :-1]
            twins = ids(rows, "twin", "answer")[:, :-1]
            self._batches.append(
                _Batch(rows, whole, twins, ids(rows, "answer"), ids(rows, "foil"), slice(n - 1, n - 1 + k))
            )

    @torch.inference_mode()
    def _under(self, places: Sequence[Component], op: str, among: str) -> tuple[float | None, float | None]:
        """Share of examples with the right answer, and with the foil, while places are zeroed or taken from elsewhere."""
        right = foils = total = 0
        for batch in self._loaded():
            chosen = [i for i, r in enumerate(batch.rows) if _is(r, among)]
            roles = {parse_anchor(c.anchor).name for c in places if c.anchor} - {"", "answer", "all"}
            donors = self._donors(batch, among, roles) if op == "resample" else list(range(len(batch.rows)))
            chosen = [i for i in chosen if donors[i] >= 0]
            if not chosen:
                continue
            source = batch.twins if op == "twin" else batch.ids
            other = self._recorded(places, source[[max(0, d) for d in donors]])
            hooks = [self._hook(batch, c, op, donors, other) for c in places]
            try:
                logits = self._model(batch.ids, use_cache=False).logits[:, batch.span]
            finally:
                for h in hooks:
                    h.remove()
            said = logits.argmax(-1)[chosen]
            right += int((said == batch.answers[chosen]).all(-1).sum())
            foils += int((said == batch.foils[chosen]).all(-1).sum())
            total += len(chosen)
        return (right / total, foils / total) if total >= LEAST else (None, None)

    def _donors(self, batch: _Batch, among: str, roles: Set[str]) -> list[int]:
        """For each example another one of another group, with as many tokens of these roles; -1 where there is none."""
        rng, out = random.Random(self.seed), list[int]()
        sizes = [[(r.spans[k][1] - r.spans[k][0]) if k in r.spans else 0 for k in sorted(roles)] for r in batch.rows]
        for i, r in enumerate(batch.rows):
            fit = [j for j, d in enumerate(batch.rows) if d.group != r.group and _is(d, among) and sizes[i] == sizes[j]]
            out.append(rng.choice(fit) if fit else -1)
        return out

    def _block(self, c: Component) -> Any:
        return self._model.get_submodule(NAMES[type(self._model).__name__][0])[c.block]

    def _module(self, c: Component) -> tuple[Any, bool]:
        """The module at which a component is read and set, and whether that is its input."""
        block, (_, out, attention) = self._block(c), NAMES[type(self._model).__name__]
        match c.part:
            case "attn.z":
                return block.get_submodule(out), True
            case "attn.out":
                return block.get_submodule(attention), False
            case "mlp.out":
                return block.mlp, False
            case _:
                return block, True

    def _recorded(self, places: Sequence[Component], ids: Tensor) -> dict[Component, Tensor]:
        found: dict[Component, Tensor] = {}
        hooks = []
        for c in places:
            module, entry = self._module(c)
            if entry:
                hooks.append(module.register_forward_pre_hook(lambda _m, a, c=c: found.update({c: a[0].clone()})))
            else:
                hooks.append(module.register_forward_hook(lambda _m, _a, o, c=c: found.update({c: _first(o).clone()})))
        try:
            if places:
                self._model(ids, use_cache=False)
        finally:
            for h in hooks:
                h.remove()
        return found

    def _hook(self, batch: _Batch, c: Component, op: str, donors: list[int], other: dict[Component, Tensor]) -> Any:
        mask, source = (
            torch.zeros(batch.ids.shape, dtype=torch.bool),
            torch.arange(batch.ids.shape[1]).repeat(len(batch.rows), 1),
        )
        for i, r in enumerate(batch.rows):
            mine = r.at(c.anchor)
            theirs = r.at(c.anchor, twin=True) if op == "twin" else batch.rows[donors[i]].at(c.anchor)
            for k, p in enumerate(mine):
                mask[i, p] = True
                source[i, p] = theirs[min(k, len(theirs) - 1)] if theirs else p
        rows = torch.arange(len(batch.rows))[:, None]
        heads = self._model.config.num_attention_heads

        def change(x: Tensor) -> Tensor:
            new = torch.zeros_like(x) if op == "zero" else other[c][rows, source]
            where = mask[..., None].expand_as(x).clone()
            if c.part == "attn.z" and c.units:
                keep = torch.zeros(heads, dtype=torch.bool)
                keep[list(c.units)] = True
                where &= keep.repeat_interleave(x.shape[-1] // heads)
            return torch.where(where, new, x)

        module, entry = self._module(c)
        if entry:
            return module.register_forward_pre_hook(lambda _m, a: (change(a[0]), *a[1:]))
        return module.register_forward_hook(
            lambda _m, _a, o: (change(o[0]), *o[1:]) if isinstance(o, tuple) else change(o)
        )


def _first(out: Any) -> Tensor:
    return out[0] if isinstance(out, tuple) else out


def _is(row: Row, among: str) -> bool:
    return row.meets(among)
