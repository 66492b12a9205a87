"""Activations as rows of features, with a label for each example: what probes, steering and detectors are fitted on."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from tools.engine.sites import Kind, Site
from tools.methods.scoring import microbatches
from tools.methods.tool import Context, ToolInputError
from tools.methods.twins import place_positions
from tools.subjects import Subject
from tools.tasks import Example

Label = int | float | str | bool
DERIVED = ("answer", "answer_first_char", "prompt_length")


def collect(
    subject: Subject, examples: Sequence[Example], sites: Sequence[Site], places: Sequence[str], max_tokens: int
) -> dict[tuple[Site, str], np.ndarray]:
    """Activations at sites and places (`last`, -1, -2 ...), each (examples, channels) in float32."""
    out: dict[tuple[Site, str], np.ndarray] = {}
    with subject.evaluating():
        for batch in microbatches(subject, examples, max_tokens):
            captured = subject.run(batch.inputs, capture=sites).captured
            rows = torch.arange(len(batch.examples), device=batch.last.device)[:, None]
            for site in sites:
                for place in places:
                    positions = place_positions(batch, place)
                    found = captured[site][rows, positions][:, 0].float().cpu().numpy()
                    table = out.setdefault((site, place), np.zeros((len(examples), found.shape[-1]), np.float32))
                    table[list(batch.indices)] = found
    return out


def labels_of(examples: Sequence[Example], name: str) -> list[Label]:
    """One label for each example; ToolInputError lists the labels there are.

    `name` is a label, a key of the task's metadata or one of `answer`, `answer_first_char`, `prompt_length`; with ` % k` after it,
    a whole number's remainder (parity is `% 2`).
    """
    base, _, modulus = (part.strip() for part in name.partition("%"))
    known = sorted(set.intersection(*(set(e.values) for e in examples))) if examples else []
    if base not in known and base not in DERIVED:
        raise ToolInputError(f"label: this task has no {base!r}; its examples have {', '.join([*known, *DERIVED])}")
    values: list[Label] = []
    for e in examples:
        value: Label
        match base:
            case "answer":
                value = e.answer.strip()
            case "answer_first_char":
                value = e.answer.strip()[:1]
            case "prompt_length":
                value = len(e.prompt)
            case _:
                value = e.values[base]
        values.append(value)
    if not modulus:
        return values
    try:
        k = int(modulus)
        return [int(v) % k for v in values]
    except (ValueError, ZeroDivisionError):
        raise ToolInputError(f"label: {name!r} needs whole numbers and a whole number above 0 after %") from None


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


def site_list(ctx: Context, kind: str, layers: Sequence[int]) -> list[Site]:
    """Sites of one kind at the layers; ToolInputError lists the kinds there are."""
    spec = ctx.subject.spec()
    if kind not in spec.kinds:
        raise ToolInputError(f"site: this model has no {kind!r}; it has {', '.join(spec.kinds)}")
    chosen: Kind = kind  # type: ignore[assignment]  # membership was just checked
    return [Site(spec.name, b, chosen) for b in layers]
