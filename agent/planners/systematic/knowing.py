"""Whether a model knows more than it says: its heads probed for what is right, shifted while it answers, and examined."""

import re
from collections.abc import Sequence

from agent.planners.base import Answer
from agent.planners.systematic.candidates import Candidate, Desk
from agent.planners.systematic.plan import Part, ask
from agent.planners.systematic.reading import Ability, component, reference
from experiments_db.records import Measurement
from tools.tasks import families

TOLD, MOST = "true_and_informative", 3


def knowing(desk: Desk, task: str) -> Part[None]:
    """What it says and what it says when asked otherwise; then the heads, the shift that makes it tell most, and its cost."""
    asked = [task, *desk.known(task).easier]
    answers = yield from ask(
        f"What does it say to {task} as it is" + (", and when it is asked in other ways?" if len(asked) > 1 else "?"),
        [("loss", {"tasks": [t], "examples": desk.test}) for t in asked],
    )
    able = {t: a for t, x in zip(asked, answers, strict=True) if (a := Ability.read(x, judged=desk.judged)) and a.able}
    yield from desk.examine(
        "What it can say, as findings.",
        [Candidate("capability", t) for t in able if t == task or able[t].half]
        if able
        else [Candidate("cannot", task)],
        must=True,
    )
    (shifted,) = yield from ask(
        "Which heads tell right answers from wrong ones, and what does it say when they are shifted?",
        [("inference_time_intervention", {"task": task, "examples": 2 * desk.test})],
    )
    heads = [m.component or "" for m in shifted.measurements if m.name == "probe_accuracy"]
    best = strongest(shifted)
    claims = f"{task.partition(':')[0]}_claims"
    if heads and claims in families():
        read = [
            Candidate("decodable", claims, (str(component(h).but(anchor="claim.last")),), label="truth")
            for h in heads[:MOST]
        ]
        yield from desk.examine("That the best of them hold whether an answer is right, as findings.", read, must=True)
    if best is not None:
        count, alpha = size_of(best), best.dose or 0.0
        members = tuple(str(component(h).but(anchor="answer")) for h in heads[:count])
        yield from desk.examine(
            "That shifting them makes it answer right, as a finding.",
            [Candidate("elicits", task, members, (f"add(truth, {alpha:g})",))],
            must=True,
        )
    yield from _noted(task, shifted, best)


def size_of(m: Measurement) -> int:
    """How many heads a measurement is about."""
    return int((m.variant or "").split()[0])


def strongest(shifted: Answer) -> Measurement | None:
    """The dose and the number of heads with which most is told, of those that tell clearly more than random directions do."""
    clear = [m for m in shifted.measurements if m.name == TOLD and m.dose and _counted(m) and _beyond(m) > 0]
    return max(clear, key=lambda m: (m.value, -size_of(m), -(m.dose or 0.0)), default=None)


def _counted(m: Measurement) -> bool:
    return re.fullmatch(r"\d+ heads", m.variant or "") is not None


def _beyond(m: Measurement) -> float:
    """The lower end of what sets a measurement apart from its control."""
    return -1.0 if m.control is None or m.control.difference_low is None else m.control.difference_low


def _noted(task: str, shifted: Answer, best: Measurement | None) -> Part[None]:
    """What the best dose costs, what it does for kinds of question it was not fitted on, and what else does as well."""
    if not shifted.handle or shifted.status != "ok":
        return
    if best is None:
        text = f"No number of heads and no dose makes it tell more of {task} than random directions do."
    else:
        said = [f"{words} {reference(shifted, m)}" for words, m in _beside(shifted.measurements, best)]
        text = f"At the number of heads and the dose that tell most of {task}: {'; '.join(said)}."
    yield from ask(
        "Write down what it costs, and what else would do it.",
        [("note", {"text": text, "experiments": [shifted.handle]})],
    )


def _beside(found: Sequence[Measurement], best: Measurement) -> list[tuple[str, Measurement]]:
    """What stands beside the best dose."""
    at = {(m.name, m.variant, m.dose): m for m in found}
    size, dose = best.variant, best.dose
    wanted = [
        ("right answers", best),
        ("answers that do not decline", at.get(("informative", size, dose))),
        ("loss added on the text of the questions", at.get(("nll_cost", size, dose))),
        ("right answers with as many other heads", at.get((TOLD, f"{size_of(best)} random heads", dose))),
        ("right answers with all heads", at.get((TOLD, "all heads", dose))),
    ]
    for m in found:
        name = m.variant or ""
        if m.name == TOLD and name.startswith(f"{size}, unseen") and m.dose == dose:
            wanted.append(("right answers to kinds of question that nothing was fitted on", m))
        elif m.name == TOLD and m.dose is None:
            how = "with worked examples in front" if "worked" in name else "trained on as many questions"
            wanted.append((f"right answers {how}", m))
    return [(words, m) for words, m in wanted if m is not None]
