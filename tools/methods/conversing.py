"""A conversation with a model: what it says next, what probes read of who speaks, and what it says with an attribute pinned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from experiments_db.places import Component
from tools.engine.sites import Edit
from tools.methods.attributes import Believed, Probe, attributes_of, believed
from tools.methods.effects import sites_of
from tools.methods.features import collect, labels_of
from tools.methods.layout import chosen_components, one_component
from tools.methods.measuring import fit_and_score
from tools.methods.telling import ends
from tools.methods.tool import Context, ToolInputError
from tools.subjects import Subject, SubjectError
from tools.tasks import Example

NEARLY = 0.02  # of accuracy: a place that reads as well as the best one but for this is as good
EXAMPLES = 256


@dataclass(frozen=True)
class Dashboard:
    """Probes of attributes at one place, with how far each is believed."""

    place: Component
    probes: Mapping[str, Probe]
    believed: Mapping[str, Believed]

    @classmethod
    def fit(cls, ctx: Context, task: str, at: str = "", examples: int = EXAMPLES) -> "Dashboard":
        """Fitted on half of a task's explore examples, believed by the other half. at: the place; empty: of all depths the first
        that reads about as well as the best, over all attributes. ToolInputError says what would be valid.
        """
        _, fitted, tried = fit_and_score(ctx, task, examples)
        both, n = [*fitted, *tried], len(fitted)
        places = [_place(ctx.subject, at)] if at else chosen_components(ctx.subject, ["resid_post@-1"], both)
        x = collect(ctx.subject, both, places, ctx.max_tokens)
        labels = attributes_of(both)
        y, truth = ({a: [str(v) for v in labels_of(e, a)] for a in labels} for e in (fitted, tried))
        probes = {p: {a: Probe.fit(a, p, x[p][:n], y[a]) for a in labels} for p in places}
        right = {p: {a: _right(probes[p][a].read(x[p][n:]), truth[a]) for a in labels} for p in places}
        means = {p: float(np.mean([r.mean() for r in right[p].values()])) for p in places}
        best = next(p for p in places if means[p] >= max(means.values()) - NEARLY)
        return cls(best, probes[best], {a: believed(a, fitted, tried, right[best][a]) for a in labels})

    def pins(self, subject: Subject, pinned: Mapping[str, str], strength: float, at: torch.Tensor) -> tuple[Edit, ...]:
        """Edits that put each pinned attribute where its value lies, at positions (rows, 1) and at every token made after."""
        (site,) = sites_of(subject, self.place)
        found: list[Edit] = []
        for label, value in pinned.items():
            if label not in self.probes:
                raise ToolInputError(f"pins: the attributes are {', '.join(self.probes)}, not {label!r}")
            unit, target = self.probes[label].pin(value, strength)
            vector = torch.tensor(unit, dtype=subject.dtype, device=subject.device)
            found += [
                Edit(site, "project_out", vector, at, onward=True),
                Edit(site, "add", target * vector, at, onward=True),
            ]
        return tuple(found)


def _place(subject: Subject, at: str) -> Component:
    found = one_component(subject, [at], "at")
    return found if found.anchor else found.but(anchor="-1")


def _right(read: Sequence[str], truth: Sequence[str]) -> np.ndarray:
    return (np.array(read) == np.array(truth)).astype(float)


@dataclass(frozen=True)
class Turn:
    """What was said to the model and what it says; plain: what it says with nothing pinned; chances: of each attribute's values."""

    prompt: str
    reply: str
    plain: str
    chances: Mapping[str, Mapping[str, float]]


def parsed_pins(texts: Sequence[str]) -> dict[str, str]:
    """`user age=child` by attribute. ToolInputError for anything else."""
    found: dict[str, str] = {}
    for text in texts:
        label, equals, value = (p.strip() for p in text.partition("="))
        if not (label and equals and value):
            raise ToolInputError(f"pins: write attribute=value, such as user age=child, not {text!r}")
        found[label] = value
    return found


def prompt_of(so_far: str, says: str, turn: str) -> str:
    """The conversation so far and what is said now, as the model reads it. ToolInputError for a turn without its place."""
    if turn.count("{}") != 1:
        raise ToolInputError(f"turn: one {{}} stands where the words go, as in 'user : {{}} host :', not {turn!r}")
    return " ".join(filter(None, (so_far.strip(), turn.replace("{}", says.strip()).strip())))


def say(ctx: Context, board: Dashboard, prompt: str, pinned: Mapping[str, str], strength: float, new: int) -> Turn:
    """What the model says next, with attributes pinned and without; what is read of who speaks, before anything is pinned."""
    subject = ctx.subject
    subject.require("next_token")
    try:
        tokens = subject.tokens(prompt)
        said = Example.of_text(prompt, " .", group="said")
        x = collect(subject, [said], [board.place], ctx.max_tokens)[board.place]
        edits = board.pins(subject, pinned, strength, ends(subject, [tokens]))
        with subject.evaluating():
            plain, reply = (
                _sentence(subject.completion(tokens, subject.generate([tokens], new, edits=e)[0])) for e in ((), edits)
            )
    except SubjectError as error:
        raise ToolInputError(f"says: {error}") from None
    chances = {
        label: dict(zip(probe.classes, map(float, probe.chances(x)[0]), strict=True))
        for label, probe in board.probes.items()
    }
    return Turn(prompt, reply, plain, chances)


def _sentence(text: str) -> str:
    """Up to the end of the first sentence or line."""
    line = text.strip().split("\n", 1)[0]
    head, stop, _ = line.partition(".")
    return (head + stop).strip()
