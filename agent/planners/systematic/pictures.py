"""What in images decides their class: regions ranked by attribution, for each class of images that has roles of its own, and where
a region is both ranked first and needed, as findings.
"""

from agent.planners.base import Answer
from agent.planners.systematic.candidates import Candidate, Desk
from agent.planners.systematic.plan import Part, ask
from agent.planners.systematic.reading import reference
from experiments_db.records import Measurement

IMAGES = 32
SHARE = 0.25  # of images that a role decides: enough to examine it
BY = "regions by integrated gradients"


def regions(desk: Desk, task: str) -> Part[None]:
    """Attribute, class by class; then examine the roles that decide."""
    known = desk.known(task)
    classes: list[str] = []
    for conditions in known.classes.values():
        roles = [known.roles_among.get(c, ()) for c in conditions]
        if len(set(roles)) > 1:
            classes += [c for c, r in zip(conditions, roles, strict=True) if r]
    classes = classes or [""]
    if not any(e.candidate.kind in ("capability", "cannot") and e.candidate.task == task for e in desk.promised):
        yield from desk.examine(
            "Neither that it can nor that it cannot will show on all of them: which classes of images can it do?",
            [Candidate(kind, task, among=c) for c in classes if c for kind in ("capability", "cannot")],
            must=True,
        )
    answers = yield from ask(
        "What in the images carries the answer, and is it needed? For each class of them that has parts of its own.",
        [
            (
                "attribute_regions",
                {"task": task, "examples": IMAGES, "sanity": c == classes[0], **({"among": c} if c else {})},
            )
            for c in classes
        ],
        desk.reserve + 2,
    )
    found: list[Candidate] = []
    for condition, answer in zip(classes, answers, strict=False):
        shares = decided(answer)
        wanted = known.roles_among.get(condition, known.roles)
        found += [
            Candidate("decides", task, among=condition, label=role)
            for role, m in shares.items() if role in wanted and m.value >= SHARE
        ]  # fmt: skip
    yield from desk.examine("Where the region ranked first lies on it and is needed, as findings.", found, must=True)
    for condition, answer in zip(classes, answers, strict=False):
        yield from _noted(task, condition, answer)


def decided(answer: Answer) -> dict[str, Measurement]:
    """Of each role the share of images that it decides."""
    return {m.label: m for m in answer.measurements if m.name == "decides" and m.variant == BY and m.label}


def _noted(task: str, condition: str, answer: Answer) -> Part[None]:
    """How often each role is hit, by the maps that know the model and by edges, in a note."""
    if answer.handle is None:
        return
    told = [
        f"{m.label} {reference(answer, m)} by {m.variant.removeprefix('regions by ')}"
        for m in answer.measurements
        if m.name == "hit" and m.variant in (BY, "regions by edges") and m.label
    ]
    areas = [m for m in answer.measurements if m.name == "sic.area" and m.variant == BY]
    if told:
        among = f" among {condition}" if condition else ""
        text = f"On {task}{among} the region ranked first lies on: {'; '.join(told)}."
        text += "".join(f" Information curve of the regions: {reference(answer, m)}." for m in areas)
        yield from ask("Write down what the ranking hits.", [("note", {"text": text, "experiments": [answer.handle]})])
