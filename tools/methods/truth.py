"""Where a model holds whether an answer is right: heads probed at the last token of question and answer, and directions there.

Every question is said twice, with its answer and with its foil. Source: Li et al. 2023, Inference-Time Intervention; Marks and
Tegmark 2023 for the difference of means (mass-mean); Burns et al. 2022 for contrast-consistent search.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from experiments_db.places import Component, ComponentSet
from tools.engine.sites import Edit, Site
from tools.methods.features import collect
from tools.methods.tool import ToolInputError
from tools.subjects import Subject
from tools.tasks import Example
from tools.tasks.task import unit_hash

FOLDS = 5
RIDGE = 1.0  # of standardised activations, times the number of statements
CCS_STEPS, CCS_RATE = 300, 0.02
Way = Literal["mass_mean", "probe", "contrast_consistent"]
Rows = NDArray[np.float64]


@dataclass(frozen=True)
class Heads:
    """What heads put out at the last token of statements.

    places: the heads. right, wrong: (heads, questions, channels), with the answer and with the foil. groups: of each question.
    """

    places: tuple[Component, ...]
    right: Rows
    wrong: Rows
    groups: tuple[str, ...]

    @classmethod
    def read(cls, subject: Subject, examples: Sequence[Example], max_tokens: int, stack: str = "") -> "Heads":
        """Every head of the stack that answers, on examples that have a foil. ToolInputError where one has none."""
        said = statements(examples)
        spec = subject.spec(stack or subject.readout)
        parts = [Component(stack=spec.name, block=b, part="attn.z", anchor="-1") for b in range(len(spec.blocks))]
        found = collect(subject, said, parts, max_tokens)
        n, heads = len(examples), spec.n_heads
        x = np.concatenate([found[p].reshape(2 * n, heads, -1).swapaxes(0, 1) for p in parts]).astype(np.float64)
        places = tuple(p.but(units=(h,), anchor="") for p in parts for h in range(heads))
        return cls(places, x[:, :n], x[:, n:], tuple(e.group for e in examples))

    def only(self, chosen: Sequence[int]) -> "Heads":
        """Some of the questions."""
        rows = list(chosen)
        return replace(
            self, right=self.right[:, rows], wrong=self.wrong[:, rows], groups=tuple(self.groups[i] for i in rows)
        )

    def accuracy(self) -> Rows:
        """How often each head's ridge probe says which statements are right, (heads,), on questions it was not fitted on."""
        fold = np.array([int(unit_hash("fold", g) * FOLDS) for g in self.groups])
        hits = np.zeros((len(self.places), len(fold)))
        for k in range(FOLDS):
            held, fitted = np.flatnonzero(fold == k), np.flatnonzero(fold != k)
            if len(held) and len(fitted):
                w, middle = self.only(fitted.tolist()).probe()
                for x, sign in ((self.right, 1.0), (self.wrong, -1.0)):
                    said = np.einsum("hnd,hd->hn", x[:, held] - middle[:, None], w)
                    hits[:, held] += 0.5 * (sign * said > 0)
        return hits.mean(1)

    def probe(self) -> tuple[Rows, Rows]:
        """Weights of a ridge classifier by head, and the point half-way between the classes, (heads, channels) each."""
        both = np.concatenate([self.right, self.wrong], 1)
        middle, scale = both.mean(1), np.maximum(both.std(1), 1e-6)
        z = (both - middle[:, None]) / scale[:, None]
        sign = np.repeat([1.0, -1.0], self.right.shape[1])
        gram = np.einsum("hnd,hne->hde", z, z) / len(sign) + RIDGE * 0.1 * np.eye(z.shape[-1])
        weights = np.linalg.solve(gram, np.einsum("hnd,n->hd", z, sign)[..., None] / len(sign))[..., 0]
        return weights / scale, middle

    def directions(self, way: Way, seed: int = 0) -> Rows:
        """Steps of one standard deviation towards what is right, (heads, channels): along a unit vector, times the deviation of
        all statements along it.
        """
        match way:
            case "mass_mean":
                found = self.right.mean(1) - self.wrong.mean(1)
            case "probe":
                found = self.probe()[0]
            case "contrast_consistent":
                found = self._consistent(seed)
        return self.steps(found)

    def steps(self, vectors: Rows) -> Rows:
        """The same directions as long as the standard deviation of all statements along them."""
        units = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
        along = np.einsum("hnd,hd->hn", np.concatenate([self.right, self.wrong], 1), units)
        return units * along.std(1)[:, None]

    def random(self, seed: int) -> Rows:
        """Random directions, a standard deviation long."""
        return self.steps(np.random.default_rng([seed, 7]).standard_normal(self.right[:, 0].shape))

    def _consistent(self, seed: int) -> Rows:
        """Contrast-consistent search for all heads at once: probabilities of two statements of a question that sum to 1 and are
        not even. Which of the two is right changes from question to question, at random, and is not told; which end means right is
        taken from the labels afterwards.
        """
        swap = np.random.default_rng(seed).random(self.right.shape[1]) < 0.5
        first, second = (np.where(swap[:, None], x, y) for x, y in ((self.wrong, self.right), (self.right, self.wrong)))
        scale = np.maximum(np.concatenate([first, second], 1).std(1), 1e-6)
        a, b = (torch.tensor((x - x.mean(1, keepdims=True)) / scale[:, None]) for x in (first, second))
        generator = torch.Generator().manual_seed(seed)
        w = torch.randn(a.shape[0], a.shape[2], generator=generator, dtype=a.dtype) * a.shape[2] ** -0.5
        bias = torch.zeros(a.shape[0], 1, dtype=a.dtype)
        with torch.enable_grad():
            w.requires_grad_()
            bias.requires_grad_()
            adam = torch.optim.Adam([w, bias], lr=CCS_RATE, weight_decay=0.01)
            for _ in range(CCS_STEPS):
                p, q = (torch.sigmoid(torch.einsum("hnd,hd->hn", x, w) + bias) for x in (a, b))
                loss = ((p + q - 1) ** 2 + torch.minimum(p, q) ** 2).mean(1).sum()
                adam.zero_grad()
                loss.backward()
                adam.step()
        found = w.detach().numpy() / scale
        apart = np.einsum("hnd,hd->hn", self.right - self.wrong, found).mean(1)
        return found * np.where(apart < 0, -1.0, 1.0)[:, None]


def statements(examples: Sequence[Example]) -> list[Example]:
    """Each question with its answer, then each with its foil, as prompts: nothing but their last token is looked at."""
    alone = next((e for e in examples if e.foil is None or set(e.inputs) != {"text"}), None)
    if alone is not None:
        raise ToolInputError(f"task: a statement is a prompt with its answer or its foil, and {alone.shown!r} has none")
    return [
        Example.of_text(e.prompt + text, text, group=e.group) for of in ("target", "foil") for e in examples
        if (text := str(getattr(e, of)))
    ]  # fmt: skip


def ranked(accuracy: Rows) -> list[int]:
    """Heads by validation accuracy, the best first."""
    return sorted(range(len(accuracy)), key=lambda i: (-accuracy[i], i))


def edits(
    subject: Subject, heads: Heads, chosen: Sequence[int], steps: Rows, alpha: float, at: torch.Tensor | None
) -> tuple[Edit, ...]:
    """Heads shifted by alpha steps: everywhere, or at positions (rows, n) and at every token that is made after them."""
    return tuple(
        Edit(
            Site(c.stack, c.block or 0, "attn.z"), "add",
            torch.tensor(alpha * steps[i], dtype=subject.dtype, device=subject.device), at, c.units, onward=at is not None,
        )
        for i in chosen for c in (heads.places[i],)
    )  # fmt: skip


def named(heads: Heads, chosen: Sequence[int], anchor: str = "") -> ComponentSet:
    """Some of the heads as a set."""
    return ComponentSet.of(*(heads.places[i].but(anchor=anchor) for i in chosen))
