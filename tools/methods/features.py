"""Activations as rows of features, with a label for each example: what probes, steering and detectors are fitted on."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments_db.places import Component
from tools.engine.sites import HEADED, channels_of
from tools.methods.anchors import positions
from tools.methods.effects import sites_of
from tools.methods.scoring import microbatches
from tools.methods.tool import ToolInputError
from tools.subjects import Subject
from tools.tasks import Example, label_families

Label = int | float | str | bool
DERIVED = ("answer", "answer_first_char", "prompt_length")


def collect(
    subject: Subject, examples: Sequence[Example], components: Sequence[Component], max_tokens: int
) -> dict[Component, np.ndarray]:
    """Activations of components at their anchors, averaged over several positions, (examples, channels) in float32 each.

    ToolInputError for one that is no single activation.
    """
    out: dict[Component, np.ndarray] = {}
    where = {c: sites_of(subject, c) for c in components}
    bad = next((c for c, sites in where.items() if len(sites) > 1), None)
    if bad:
        raise ToolInputError(f"components: {bad} is no activation of its own; name what its parts write, or resid_post")
    with subject.evaluating():
        for batch in microbatches(subject, examples, max_tokens):
            captured = subject.run(batch.inputs, capture=list(dict.fromkeys(s for (s,) in where.values()))).captured
            for c, (site,) in where.items():
                at = positions(subject, batch, c.anchor or "all", stack=c.stack)
                found = _mean(captured[site], at, batch.inputs.of(site.stack))
                heads = subject.spec(c.stack).n_heads if site.kind in HEADED else found.shape[-1]
                found = found[:, channels_of(c.units or None, found.shape[-1] // heads)].cpu().numpy()
                table = out.setdefault(c, np.zeros((len(examples), found.shape[-1]), np.float32))
                table[list(batch.indices)] = found
    return {c: out[c] for c in components}


def _mean(h: Tensor, at: Tensor | None, lengths: Sequence[int]) -> Tensor:
    """Mean over each row's positions, (batch, channels), in float32; a position that stands twice counts once."""
    mask = torch.zeros(h.shape[:2], device=h.device)
    if at is None:
        for row, n in enumerate(lengths):
            mask[row, :n] = 1
    else:
        mask = mask.scatter(1, at, 1.0)
    return (h.float() * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def labels_named(examples: Sequence[Example], name: str) -> list[str]:
    """The labels that a name stands for: those of a family (`side.*`) that every example has, or the one label.

    ToolInputError lists the families there are.
    """
    if not name.endswith(".*"):
        return [name]
    known = [e.values for e in examples]
    shared = [n for n in known[0] if all(n in values for values in known)] if known else []
    families = {f: members for f, members in label_families(shared).items() if f.endswith(".*")}
    if name not in families:
        raise ToolInputError(
            f"label: no family of labels is called {name!r}; there are {', '.join(families) or 'none'}"
        )
    return families[name]


def labels_of(examples: Sequence[Example], name: str) -> list[Label]:
    """One label for each example; ToolInputError lists the labels there are.

    `name` is a label, a key of the metadata, a span (its text in the input) or one of `answer`, `answer_first_char`,
    `prompt_length`; with ` % k` after it,
    a whole number's remainder (parity is `% 2`).
    """
    base, _, modulus = (part.strip() for part in name.partition("%"))
    known = bool(examples) and all(base in e.labels or base in e.metadata for e in examples)
    if not known and base not in DERIVED and base not in (spans := _spans_of_all(examples)):
        named = sorted(set.intersection(*(set(e.values) for e in examples))) if examples else []
        others = [*label_families(named), *sorted(spans - set(named)), *DERIVED]
        raise ToolInputError(f"label: this task has no {base!r}; its examples have {', '.join(others)}")
    values: list[Label] = []
    for e in examples:
        value: Label
        match base:
            case "answer":
                value = e.answer.strip()
            case "answer_first_char":
                value = e.answer.strip()[:1]
            case "prompt_length":
                value = len(e.shown)
            case _ if known:
                value = e.labels[base] if base in e.labels else e.metadata[base]
            case _:
                start, end = e.spans[base]
                value = str(next(iter(e.inputs.values())))[start:end].strip()
        values.append(value)
    if not modulus:
        return values
    try:
        k = int(modulus)
        return [int(v) % k for v in values]
    except (ValueError, ZeroDivisionError):
        raise ToolInputError(f"label: {name!r} needs whole numbers and a whole number above 0 after %") from None


def _spans_of_all(examples: Sequence[Example]) -> set[str]:
    """Spans of texts that every example has: a stretch of a signal has no name."""
    texts = bool(examples) and all(isinstance(next(iter(e.inputs.values())), str) for e in examples)
    return set.intersection(*(set(e.spans) for e in examples)) if texts else set[str]()


def two_classes(
    subject: Subject, examples: Sequence[Example], place: Component, label: str, value: str, max_tokens: int
) -> tuple[np.ndarray, np.ndarray]:
    """Activations of a place, (examples, channels), and which examples' label has the value, (examples).

    At the last position before the answer where the place names no position. ToolInputError unless four examples have it and
    four do not.
    """
    found = labels_of(examples, label)
    chosen = np.array([str(v) == value for v in found])
    if chosen.sum() < 4 or (~chosen).sum() < 4:
        seen = sorted({str(v) for v in found})
        raise ToolInputError(
            f"value: {int(chosen.sum())} of {len(chosen)} examples have {label}={value!r}, and "
            f"at least 4 must and 4 must not; "
            f"values are {', '.join(seen[:20])}"
        )
    at = place if place.anchor else place.but(anchor="-1")
    return collect(subject, examples, [at], max_tokens)[at], chosen


def number_labels(values: Sequence[Label]) -> np.ndarray | None:
    """The labels as numbers, or None where one is no number."""
    try:
        return np.array([float(v) for v in values])
    except ValueError:
        return None


def class_labels(values: Sequence[Label], *, at_least: int = 5) -> tuple[np.ndarray, list[str]]:
    """The labels as classes 0 ... k-1 with their names; ToolInputError unless two classes have enough examples."""
    names = sorted({str(v) for v in values})
    index: Mapping[str, int] = {n: i for i, n in enumerate(names)}
    found = np.array([index[str(v)] for v in values])
    counts = np.bincount(found, minlength=len(names))
    if len(names) < 2:
        raise ToolInputError(f"label: every example has the same value, {names[0]!r}; a probe needs at least 2 classes")
    if (counts >= at_least).sum() < 2:
        raise ToolInputError(
            f"label: {len(names)} classes among {len(values)} examples, at most one with {at_least} or more: use more examples, "
            "a coarser label (for example with % 2), or target number"
        )
    return found, names


def drawn_anew(subject: Subject, seed: int) -> Any:
    """The subject's model with other weights, drawn by its own initialisation, on its device and in its dtype.

    What it is told beside its inputs, such as the tokens of languages, is the same. The global random state is as before.
    """
    with torch.random.fork_rng(devices=[subject.device] if subject.device.type == "cuda" else []):
        torch.manual_seed(seed)
        model = type(subject.model)(copy.deepcopy(subject.model.config))
    if (settings := getattr(subject.model, "generation_config", None)) is not None:
        model.generation_config = copy.deepcopy(settings)
    return model.to(device=subject.device, dtype=subject.dtype)


def random_twin(subject: Subject, seed: int) -> Subject:
    """The same architecture with weights drawn anew: what a probe reads here, training did not put there."""
    twin = copy.copy(subject)
    twin.__init__(
        drawn_anew(subject, seed).eval(), subject.tokenizer, subject.family, name=f"random twin of {subject.name}",
        fingerprint="random", processor=subject.processor,
    )  # fmt: skip
    twin.engine = subject.engine
    return twin
