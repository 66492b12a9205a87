"""Nulls: where a finding cannot be true, so that a test that confirms it there shows how much the test is worth.

A twin of random weights does nothing that training taught; shuffled answers leave nothing to find but what inputs and
answers have in common anyway. What each keeps and loses is said by `tools.findings.null_report.KINDS`. Sources: Adebayo et
al. 2018, Sanity Checks for Saliency Maps (random weights, random labels); Hewitt and Liang 2019 (control tasks).
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from tools.methods.features import drawn_anew
from tools.subjects import Subject
from tools.tasks import Example


def null_twin(subject: Subject, kind: str = "random_init", seed: int = 0) -> Subject:
    """The same architecture and tokenizer with weights drawn anew by the model's own initialisation.

    Keeps configuration, device, dtype, refused parts and deadline; the global random state is as before. ValueError for a
    kind of twin that there is none of.
    """
    if kind != "random_init":
        raise ValueError(f"{kind!r} is no null twin: there is random_init")
    twin = Subject(
        drawn_anew(subject, seed),
        subject.tokenizer,
        subject.family,
        name=f"random twin of {subject.name}",
        fingerprint=f"random-{seed}-{subject.fingerprint}",
        processor=subject.processor,
    )
    return twin.like(subject)


def shuffled_answers(examples: Sequence[Example], seed: int = 0) -> list[Example]:
    """The examples with other problems' answers; an answer keeps its own foil and candidates.

    Answers move between groups (independent problems) along one random cycle, so that none keeps its own and two formats
    of one problem get the same one. ValueError with fewer than two groups.
    """
    groups: dict[str, list[Example]] = {}
    for example in examples:
        groups.setdefault(group_of(example), []).append(example)
    if len(groups) < 2:
        raise ValueError(f"answers are shuffled between problems: at least two, not {len(groups)}")
    order = sorted(groups)
    random.Random(f"shuffled answers/{seed}").shuffle(order)
    donors = {group: groups[order[(i + 1) % len(order)]] for i, group in enumerate(order)}
    taken = dict.fromkeys(groups, 0)
    shuffled: list[Example] = []
    for example in examples:
        group = group_of(example)
        donor = donors[group][taken[group] % len(donors[group])]
        taken[group] += 1
        answers = {n: getattr(donor, n) for n in ("target", "foil", "candidates", "accepted")}
        shuffled.append(replace(example, **answers, counterfactuals=()))
    return shuffled


def group_of(example: Example) -> str:
    """Which independent problem an example is of; input and answer where it does not say."""
    return str(getattr(example, "group", "") or repr((example.prompt, example.answer)))
