"""The first screen of a report: the questions, what was found, how sure that is, and what stays open."""

from collections.abc import Mapping, Sequence

from agent.loop.record import RunRecord
from agent.report.conclusion import Concluded, Sureness
from agent.report.marked import folded, linked, links
from agent.report.null_twins import nulls_words
from agent.report.text import code, markdown
from experiments_db.records import Run, TaskData
from tools.statistics.multiplicity import ALPHA
from tools.tasks import families
from tools.tasks.conditions import class_words

UNTESTED = "interpretation, not tested"
LEGEND = (
    "Brackets hold 95% intervals and the number n of unseen examples. At the answer: {answered}. Resampled: "
    "with another example's activation in its place; zeroed: with none. The twin of an example differs from it in what decides "
    "the answer."
)
ANSWERED = "where its tokens are predicted, from the last token of the prompt on"  # in runs that do not say
MANY = 10  # handles in a row before the rest is counted
SHORT = 500  # characters of it that the first screen shows


def opening(run: Run, record: RunRecord, c: Concluded, picture: Sequence[str] = ()) -> list[str]:
    """The lines of the first screen. picture: the lines that stand after the answer in brief."""
    lines = [f"# {markdown(run.goal)}", ""]
    said = [(s, f"{linked(s.text, record)} ({links(s.findings, MANY)})") for s in c.headline]
    brief, also = [x for s, x in said if s.leads], [x for s, x in said if not s.leads]
    lines += [f"**{c.verdict}.** {' '.join([*brief, *tested_how(c)])}".rstrip()]
    lines += ["", *picture] if picture else []
    if also:
        lines += ["", "Also confirmed:", "", *(f"- {x}" for x in also)]
    if said:
        lines += ["", f"*{legend(run)}*"]
    if classes := classes_said(record, c):
        lines += ["", f"*{markdown(classes)}*"]
    if instead := without_headline(run, record, c):
        lines += ["", markdown(instead)]
    lines += [
        x
        for a, b, why in c.contradictions
        for x in ("", f"**{links([a, b])} contradict each other:** {markdown(why)}.")
    ]
    lines += _questions(c, record)
    known = f"{sure(c.sureness)} {markdown(nulls_words(c.nulls))}".rstrip()
    lines += ["", f"**How sure.** {known}", "", f"**What stays open.** {markdown(stays_open(c))}"]
    if whole := next((i for i in c.interpretations if not i.finding), None):
        words, beside = linked(whole.words, record), f" *{markdown(whole.beside)}*" if whole.beside else ""
        short = [f"> *The planner's {UNTESTED}:* {words}{beside}"]
        lines += [
            "",
            *(short if len(whole.words) <= SHORT else folded(f"The planner's {UNTESTED}", [f"{words}{beside}"])),
        ]
    lines += [
        "",
        f"Subject {code(run.subject)}, planner {code(run.planner)}, run {code(run.name)}, begun {markdown(run.created)}.",
    ]
    return lines


def legend(run: Run, *, plain: bool = False) -> str:
    """What brackets and words in the answer mean; at the answer is where the model's port says. plain: without Markdown."""
    answered = str(run.settings.get("answered") or ANSWERED)
    return LEGEND.format(answered=answered if plain else markdown(answered))


def classes_said(record: RunRecord, c: Concluded) -> str:
    """What the classes of examples that findings are about are, in words; '' where they are about none."""
    about = [t.finding.statement for t in c.findings]
    named = dict.fromkeys(
        x for s in about for x in ((s.task, s.among), (s.other_task or s.task, s.other_among)) if x[1]
    )
    own = {t.name: t for t in record.store.task_data(record.run)} if named else {}
    said: dict[str, None] = {}
    for task, among in named:
        if words := class_words(among, _labels(task, own.get(task))):
            said[f"{among} on {task}: {words}"] = None
    more = f"; and {len(said) - MANY} more" if len(said) > MANY else ""
    return f"Classes of the examples: {'; '.join(list(said)[:MANY])}{more}." if said else ""


def _labels(task: str, own: TaskData | None) -> Mapping[str, str]:
    """What a task's labels say, in words; of a task that is no part of the program, what they are called."""
    if own is not None:
        names = (name for e in own.examples for name in (*e.get("labels", {}), *e.get("metadata", {})))
        return {name: f"the label “{name}”" for name in names}
    family = families().get(task.partition(":")[0])
    return family.labels if family else {}


def tested_how(c: Concluded) -> list[str]:
    """How sure the answer in brief is, in a sentence; none where there is no answer."""
    led = [h for s in c.headline if s.leads for h in s.findings]
    sealed = [t.finding for t in c.findings if t.finding.handle in led]
    if not sealed:
        return []
    settled = sum(n for fate, n in c.sureness.fates.items() if fate != "void")
    came_true = c.sureness.fates.get("confirmed", 0)
    many = f"all {settled}" if came_true == settled else f"{came_true} of {settled}"
    said = f"{many} predictions were confirmed" if settled > 1 else "it was confirmed"
    seen = " (some of them had been used before, by an earlier round or run)" if any(f.reused for f in sealed) else ""
    return [f"This was predicted first and then tested on unseen examples{seen}: {said}."]


def without_headline(run: Run, record: RunRecord, c: Concluded) -> str:
    """What to say where no finding stands."""
    if c.headline:
        return ""
    if run.status == "stopped":
        return f"The run ended before its end: {run.reason}"
    if run.status == "running":
        return "Nothing is confirmed yet."
    if record.store.conclusion(run.name) is None and record.notes():
        return "Recorded by version 0.1, which did not test findings: what it claimed stands among the notes."
    return "No finding was confirmed on unseen examples."


def _questions(c: Concluded, record: RunRecord) -> list[str]:
    """The goal's questions as the program understood them, each with its answer or why there is none."""
    if not c.questions:
        return []
    lines = ["", "The goal as it was understood:", ""]
    for a in c.questions:
        q = a.question
        came = f"{a.how} {links(a.by, MANY)}" if a.by else f"**unanswered**: {linked(a.why, record)}"
        lines.append(f'- <a id="{q.handle.lower()}"></a>{q.handle} ({q.asks}) {linked(q.text, record)}: {came}')
    return lines


def sure(s: Sureness) -> str:
    """How findings fared, the score of the probabilities that were said before, and what the rounds cost."""
    if not s.settled:
        return "No finding has been put to unseen examples."
    fates = ", ".join(f"{n} {fate}" for fate, n in s.fates.items())
    text = f"{s.settled} finding{'s were' if s.settled > 1 else ' was'} put to unseen examples: {fates}"
    text += f"; {s.retracted} taken back later" if s.retracted else ""
    rounds = f"{s.rounds} round{'s' if s.rounds > 1 else ''}"
    text += f". {rounds} may have spent {s.spent:.3g} of the error rate of {ALPHA:g}."
    if s.brier is not None:
        left_out = ", void ones left out" if "void" in s.fates else ""
        text += (
            f" Brier score of the probabilities written down before: {score_text(s.brier)} over {s.scored}{left_out} (0 is "
            "best, 0.25 is a coin)."
        )
    return text


def score_text(brier: float) -> str:
    """A Brier score: three digits behind the point."""
    return f"{brier:.3f}" if brier >= 0.001 or brier == 0 else "below 0.001"


def stays_open(c: Concluded) -> str:
    """Unanswered questions, findings that unseen examples could not decide, and those never put to them."""
    parts: list[str] = []
    if c.unanswered:
        parts.append(f"no answer to {_handles([a.question.handle for a in c.unanswered])}")
    undecided = [t.finding.handle for t in c.findings if t.finding.fate in ("inconclusive", "void")]
    if undecided:
        parts.append(f"{_handles(undecided)} could not be decided")
    if waiting := [t.finding.handle for t in c.findings if t.finding.fate is None]:
        parts.append(f"{_handles(waiting)} {'was' if len(waiting) == 1 else 'were'} predicted and never settled")
    said = "; ".join(parts)
    return f"{said[0].upper()}{said[1:]}." if said else "Nothing that was asked."


def _handles(handles: list[str], most: int = MANY) -> str:
    more = f" and {len(handles) - most} more" if len(handles) > most else ""
    return ", ".join(handles[:most]) + more
