"""What a goal asks for, and the plan for each form: where, whether, a comparison, a kind of head, and what cannot be done."""

import re
from collections.abc import Mapping, Sequence

from agent.loop.goal import BELIEVES, DECIDES, HOLDS, KNOWS, MATCH, TREES, unit_named_in
from agent.planners.base import Answer
from agent.planners.systematic.believing import believing
from agent.planners.systematic.candidates import Candidate, Desk
from agent.planners.systematic.concluding import conclude
from agent.planners.systematic.depth import depth
from agent.planners.systematic.exploring import Seen
from agent.planners.systematic.holding import holding
from agent.planners.systematic.knowing import knowing
from agent.planners.systematic.locating import locate
from agent.planners.systematic.meaning import meaning
from agent.planners.systematic.pictures import regions
from agent.planners.systematic.plan import Part, Plan, ask
from agent.planners.systematic.reading import Ability, component, reference
from agent.planners.systematic.trees import trees
from experiments_db.findings import Question
from experiments_db.records import Measurement

HEADS = (  # words of a goal, the score of `attention`, the label of `matches`
    (r"induction", "induction", "after same token"),
    (r"previous[- ]token", "previous", "previous"),
    (r"duplicate[- ]token", "duplicate", "same token"),
)
MOST_HEADS = 4
WORDS = {
    "right": "the right answer", "right_form": "something of the right form", "from_prompt": "something out of the prompt",
    "from_line": "the answer of a worked line", "off_by_one": "a number next to it", "commonest": "its commonest answer",
}  # fmt: skip
LEAST_SHARED = 0.15  # of nearest keys beyond shuffled labels
LEAST_SCORE = 0.25  # share of attention beyond an even spread
MOST_COMPARED = 4
NEARLY = 0.9


def investigate(
    desk: Desk,
    goal: str,
    tasks: Sequence[str],
    own: Sequence[str],
    questions: Sequence[Question],
    controls: Sequence[str],
) -> Plan:
    """What the goal asks, from the first look to the end. own: the user's own tasks among them."""
    (made,) = yield from ask("What is the model made of?", [("describe_subject", {})])
    desk.stacks = tuple(m.variant or "" for m in made.measurements if m.name == "blocks")
    if unit := unit_named_in(goal):
        yield from meaning(desk, unit, tasks)
        yield from conclude(desk, questions, otherwise="not_found")
        return
    every = MATCH.search(goal) is not None
    if every:
        yield from _mapped(desk, tasks[0])
    for words, score, label in heads_asked(
        "induction heads, previous token heads, duplicate token heads" if every else goal
    ):
        yield from _matching_heads(desk, tasks[0], words, score, label)
    if every or (heads_asked(goal) and not own):
        yield from conclude(desk, questions, otherwise="not_found")
        return
    for words, part in ((KNOWS, knowing), (BELIEVES, believing)):
        if words.search(goal):
            for task in tasks:
                yield from part(desk, task)
            yield from conclude(desk, questions, otherwise="not_found")
            return
    if TREES.search(goal):
        for task in tasks:
            if desk.known(task).trees:
                yield from trees(desk, task)
    tasks = [t for t in tasks if any(q.asks == "whether" and t in q.tasks for q in questions)] or own
    if not tasks:
        yield from conclude(desk, questions, otherwise="not_found")
        return
    abilities = yield from _capability(desk, tasks, controls)
    if HOLDS.search(goal) and any(desk.known(t).families for t in tasks):
        for task in tasks:
            if desk.known(task).families:
                yield from holding(desk, task)
        yield from conclude(desk, questions, otherwise="not_found")
        return
    if DECIDES.search(goal) and "decides" in desk.kinds and desk.looks:
        for task in tasks:
            yield from regions(desk, task)
    elif any(q.asks != "whether" for q in questions):
        for task in tasks:
            if (
                task in abilities
                and abilities[task].able
                and any(q.asks == "how" and task in q.tasks for q in questions)
            ):
                yield from depth(desk, task, abilities[task].gap)
            elif task in abilities and abilities[task].able:
                yield from locate(desk, Seen(task, abilities[task].gap))
            elif task in abilities:
                yield from _easier(desk, task)
    if any(q.asks in ("compare", "shared") for q in questions):
        yield from _compare(desk, [t for t in tasks if t in abilities and abilities[t].able])
    yield from conclude(desk, questions)


def _mapped(desk: Desk, task: str) -> Part[None]:
    """What the nearest keys of queries share with them beyond shuffled labels, in a note: of each label the clearest head."""
    (seen,) = yield from ask(
        "Which queries and keys of each head lie near each other, and what do they share?",
        [("qk_map", {"task": task, "examples": desk.screen})],
    )
    best: dict[str, Measurement] = {}
    for m in seen.measurements:
        if m.name == "shares" and m.label and m.control and (m.control.difference_low or 0.0) > 0:
            kept = best.get(m.label)
            if kept is None or _beyond(m) > _beyond(kept):
                best[m.label] = m
    if best and seen.handle:
        told = "; ".join(f"{label}: {m.component} {reference(seen, m)}" for label, m in best.items())
        text = f"Nearest keys of other sequences share most beyond shuffled labels at, by label: {told}."
        yield from ask("Write down what lies together.", [("note", {"text": text, "experiments": [seen.handle]})])
    clear = {label: m for label, m in best.items() if _beyond(m) >= LEAST_SHARED}
    yield from desk.examine(
        "The clearest of them, as findings.",
        [Candidate("aligns", task, (m.component or "",), label=label) for label, m in clear.items()],
        must=True,
    )


def _beyond(m: Measurement) -> float:
    return 0.0 if m.control is None else m.control.difference or 0.0


def heads_asked(goal: str) -> list[tuple[str, str, str]]:
    """The kinds of head that a goal asks for by name: (words, score, label)."""
    text = goal.lower()
    return [
        (words.replace("[- ]", " "), score, label)
        for words, score, label in HEADS
        if re.search(rf"{words}[ -](token )?heads?", text)
    ]


def _matching_heads(desk: Desk, task: str, words: str, score: str, label: str) -> Part[None]:
    """Heads that look so on random tokens said twice, whatever the model can do."""
    (seen,) = yield from ask(
        f"Which heads are {words} heads? On random tokens said twice, whatever tasks the model can do.",
        [("attention", {"examples": desk.screen})],
    )
    if seen.status == "rejected":  # a small vocabulary or context
        (seen,) = yield from ask(
            "The same with shorter sequences.", [("attention", {"length": 5, "examples": desk.screen})]
        )
    beyond = sorted(
        ((m.control.difference or 0.0, m) for m in seen.measurements if m.name == score and m.component and m.control),
        key=lambda pair: -pair[0],
    )
    found = [m.component or "" for share, m in beyond[:MOST_HEADS] if share >= LEAST_SCORE]
    if beyond and not found:
        text = (
            f"By their score on repeated random tokens there are no {words} heads: the strongest has "
            f"{reference(seen, beyond[0][1])}."
        )
        yield from ask("There is none: say so.", [("note", {"text": text, "experiments": [seen.handle]})])
    yield from desk.examine(
        "The strongest of them, as findings.",
        [Candidate("matches", task, (text,), label=label) for text in found],
        must=True,
    )


def _capability(desk: Desk, tasks: Sequence[str], controls: Sequence[str]) -> Part[dict[str, Ability]]:
    """Whether the intact model does the tasks at all, beside others."""
    families = {t.partition(":")[0] for t in tasks}
    others = [c for c in controls if c not in families][:3]
    # The main ones in a call each, so that a task which this subject's tokenizer cannot take stops no other.
    answers = yield from ask(
        f"Capability first: can the intact model do {' and '.join(tasks)} at all, beside other tasks as controls?",
        [
            *(("loss", {"tasks": [t], "examples": desk.test}) for t in tasks),
            *([("loss", {"tasks": others, "examples": desk.screen})] if others else []),
        ],
    )
    found = {
        t: a
        for t, answer in zip(tasks, answers, strict=False)
        if (a := Ability.read(answer, judged=desk.judged)) is not None
    }
    yield from desk.examine(
        "Examine what that says, as a finding that unseen examples can confirm.",
        [Candidate("capability" if a.able else "cannot", t) for t, a in found.items()],
        must=True,
    )
    return found


def _easier(desk: Desk, task: str) -> Part[None]:
    """The model cannot do it as asked: which easier versions can it do, and where is the nearest of them done?"""
    (said,) = yield from ask(
        f"It cannot do {task}: what does it answer instead?",
        [("mistakes", {"task": task, "examples": desk.screen})],
        desk.reserve + 1,
    )
    yield from _noted(task, said)
    able = yield from _able(desk, desk.known(task).easier)
    if not able:
        return
    near = nearest(task, {t: a.gap for t, a in able.items()})
    yield from desk.examine("The nearest of those that it does well, as a finding.", [Candidate("capability", near)])
    yield from locate(desk, Seen(near, able[near].gap))


def nearest(task: str, gaps: Mapping[str, float]) -> str:
    """Of easier versions, easiest first, the one that asks for most among those done about as well as any, and changes least."""
    asked = set(task.partition(":")[2].split(","))

    def changed(version: str) -> int:
        return len(set(version.partition(":")[2].split(",")) - asked)

    good = [t for t, gap in gaps.items() if gap >= NEARLY * max(gaps.values())]
    return min(reversed(good), key=changed)


def _able(desk: Desk, versions: Sequence[str]) -> Part[dict[str, Ability]]:
    """Those of some tasks that it can do: in one experiment, or one each where some of them do not fit the model."""
    if not versions:
        return {}
    (answer,) = yield from ask(
        "Can it do easier versions?", [("loss", {"tasks": list(versions), "examples": desk.screen})], desk.reserve + 2
    )
    answers = [answer] * len(versions)
    if answer.status == "rejected":
        answers = yield from ask(
            "Some do not fit it: can it do the others?",
            [("loss", {"tasks": [t], "examples": desk.screen}) for t in versions],
            desk.reserve + 2,
        )
    found = {t: Ability.read(a, t, desk.judged) for t, a in zip(versions, answers, strict=True)}
    return {t: a for t, a in found.items() if a is not None and a.able}


def _noted(task: str, said: Answer) -> Part[None]:
    """What it answers instead, in a note: shares as references."""
    told = [f"{WORDS[m.name]} in {reference(said, m)} of examples" for m in said.measurements if m.name in WORDS]
    if told and said.handle:
        text = f"What the model answers to {task}: {'; '.join(told)}."
        yield from ask("Write down what it does instead.", [("note", {"text": text, "experiments": [said.handle]})])


def _compare(desk: Desk, tasks: Sequence[str]) -> Part[None]:
    """What one task needs and another does not."""
    needed: dict[str, list[str]] = {t: [] for t in tasks}
    for e in desk.promised:
        if e.candidate.kind == "necessary" and not e.candidate.among and e.candidate.task in needed:
            needed[e.candidate.task].append(e.candidate.components[0])
    found = [
        Candidate("differs", a, (place,), other_task=b)
        for a in tasks for b in tasks if a != b
        for place in needed[a] if place not in needed[b] and component(place).anchor == "answer"
    ]  # fmt: skip
    yield from desk.examine("What one of them needs more than the other.", found[:MOST_COMPARED])
