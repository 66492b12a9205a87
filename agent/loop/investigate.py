"""The investigation: propose, run, record, until the planner finishes or a budget is spent.

Everything the loop knows is in the store. A turn is recorded before its calls run, and each call with all that it wrote
is one transaction; so a run that is killed at any instant continues from where it was.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from typing import Protocol, runtime_checkable

from agent.loop.budget import Limits, Spent
from agent.loop.delegating import TOOL, begin_child, child_limits, children, limits_of, parent_of, rounds_used
from agent.loop.ending import Ending, finished, held, held_back, refused_with, stop, verdict
from agent.loop.executor import Executed, ToolRunner, tool_arguments
from agent.loop.goal import questions
from agent.loop.history import experiments_made, history, inherited_turns, reserved, spending
from agent.loop.known import known as known_of
from agent.loop.literature import given
from agent.loop.notebook import child_text, earlier_text, fate_line, notebook_text, with_numbers
from agent.loop.offering import offered, usable
from agent.loop.record import RunRecord, RunTasks, branched_at
from agent.planners.base import Answer, Exchange, Known, Planner, PlannerError, ToolCall, Turn, View
from agent.report.tested import tested
from experiments_db.findings import Claim, Finding
from experiments_db.records import Hypothesis, Measurement, Note, Run
from tools.findings.consequences import contradictions, settle_hypotheses
from tools.findings.settling import settle
from tools.methods.showing import own_examples
from tools.methods.tool import Cancelled, DeadlineReached, Tool, ToolArgs, ToolInputError, discover
from tools.ports import port_of
from tools.statistics import share

MOST_AT_ONCE = 0.5  # of the time left: whoever can weigh it is asked before a call that would take more


@runtime_checkable
class Viewer(Protocol):
    """Somebody who watches a run."""

    def turn(self, turn: Turn) -> None:
        """The planner has proposed something."""
        ...

    def working(self, call: ToolCall, message: str) -> None:
        """A call is under way."""
        ...

    def answered(self, call: ToolCall, answer: Answer, seconds: float) -> None:
        """A call has been answered."""
        ...


async def investigate(
    planner: Planner,
    run: Run,
    record: RunRecord,
    runner: ToolRunner,
    tools: dict[str, Tool],
    limits: Limits,
    viewer: Viewer,
) -> Ending:
    """Drive one run to its end; the ending is on record when this returns."""
    port = port_of(runner.subject)
    judged = port.objectives[port.first]
    by_hand = bool(getattr(planner, "patient", False))
    tools = usable(tools, runner.subject, runner.tasks, goal=run.goal, by_hand=by_hand, code=runner.sandbox is not None)
    if not getattr(planner, "delegates", False) or limits.experiments is None or parent_of(run):
        tools.pop(TOOL, None)
    infos = [offered(t, runner.subject) for t in tools.values()]
    exchanges, pending = history(record)
    inherited = inherited_turns(record, run)
    spent = spending(record, run)
    before = run.settings.get("continue_from")
    earlier = earlier_text(RunRecord(record.store, before)) if before else ""
    shown = own_examples(runner.subject, runner.tasks, runner.seed)
    known = _known_by(runner)
    ending: Ending | None = None
    while ending is None:
        if pending is None:
            ending = stop(record, exchanges, spent, limits, patient=bool(getattr(planner, "patient", False)))
            if ending:
                break
            made = tuple(t.name for t in runner.tasks.made())
            view = View(
                goal=run.goal,
                subject=run.subject,
                tools=infos,
                exchanges=exchanges,
                inherited=inherited,
                tasks=list(made),
                shown=shown,
                questions="; ".join(f"{q.handle} ({q.asks}) {q.text}" for q in record.questions()),
                notebook=notebook_text(record),
                earlier=earlier,
                literature=given(run.settings.get("notes")),
                budget=spent.text(limits),
                left=spent.left(limits),
                findings=record.findings(),
                known=lambda spec, made=made: known(spec, made),
                reads=port.reads,
                objective=judged.name,
                better=judged.sign,
                stacks={name: len(s.blocks) for name, s in runner.subject.stacks.items()},
                readout=runner.subject.readout,
            )
            try:
                left = None if limits.minutes is None else max(1.0, 60 * (limits.minutes - spent.minutes))
                turn = await asyncio.wait_for(planner.propose(view), left)
            except PlannerError as error:
                ending = Ending("stopped", f"the planner cannot go on: {error}")
                break
            except TimeoutError:
                ending = Ending("stopped", f"the budget of {limits.minutes:g} minutes is spent")
                break
            spent.tokens += turn.usage.prompt_tokens + turn.usage.completion_tokens
            spent.cost += turn.usage.cost
            record.store.put_event(run.name, "turn", {**asdict(turn), "minutes": round(spent.minutes, 4)})
            viewer.turn(turn)
            pending = (turn, [])
        turn, answers = pending
        _hand_out(turn.calls[len(answers) :], runner, tools, spent.left(limits))
        for call in turn.calls[len(answers) :]:
            if finished(turn.calls, answers):
                answers.append(Answer(call.id, "not run: the investigation is over", "rejected"))
                _put_answer(record, run, answers[-1])
                continue
            refused = refused_with(turn.calls, answers)
            asked = call, run, record, runner, tools, spent, limits, viewer, turn.text, planner
            answers.append(await _answer(*asked, refused))
        if finished(turn.calls, answers):
            ending = Ending("finished", verdict(record))
        exchanges.append(Exchange(turn, tuple(answers)))
        pending = None
    if ending.status == "stopped" and exchanges and (call := held_back(exchanges[-1])):
        with suppress(ToolInputError), record.store.transaction():
            for entry in runner.run(
                tools[call.name], tools[call.name].parse(tool_arguments(call.arguments))
            ).outcome.entries:
                record.store.put_entry(run.name, record.store.last_seq(run.name), entry)
            ending = Ending("finished", verdict(record))
    with record.store.transaction():
        record.store.put_event(run.name, "end", {"status": ending.status, "reason": ending.reason})
        record.store.update_run(run.name, ending.status, ending.reason)
    return ending


def _known_by(runner: ToolRunner) -> Callable[[str, tuple[str, ...]], Known]:
    """What a task's examples show, looked at once for the tasks that there are."""

    @cache
    def known(spec: str, made: tuple[str, ...]) -> Known:
        del made
        return known_of(runner.tasks, spec, runner.seed)

    return known


def _hand_out(calls: Sequence[ToolCall], runner: ToolRunner, tools: dict[str, Tool], left: int | None) -> None:
    """Have the experiments of a turn computed elsewhere, all at once; what comes of each is read in its turn."""
    asked = [c for c in calls if c.name in tools and tools[c.name].kind == "experiment"]
    for call in asked[:left] if runner.elsewhere else ():
        with suppress(ToolInputError):  # which is the answer to that call
            runner.ahead(tools[call.name], tools[call.name].parse(tool_arguments(call.arguments)))


async def _answer(
    call: ToolCall,
    run: Run,
    record: RunRecord,
    runner: ToolRunner,
    tools: dict[str, Tool],
    spent: Spent,
    limits: Limits,
    viewer: Viewer,
    why: str,
    planner: Planner,
    refused: str,
) -> Answer:
    """Answer one call, exactly once, and record what it wrote in one transaction.

    refused: what was refused earlier in the turn and could have changed the conclusion, which then cannot end the run unread.
    """
    clock = asyncio.get_running_loop().time
    started = clock()
    tool = tools.get(call.name)
    over = None if call.name == "finish" else spent.stopped(limits)
    if tool is not None and tool.kind in ("experiment", "delegating"):
        over = over or spent.used_up(limits)
    if over:
        answer = Answer(call.id, f"not run: {over}", "budget")
        _put_answer(record, run, answer)
    else:
        try:
            if tool is None:
                raise ToolInputError(f"there is no tool {call.name!r}; tools are {', '.join(tools)}")
            args = tool.parse(tool_arguments(call.arguments))
            left = None if limits.minutes is None else 60 * (limits.minutes - spent.minutes)
            told = await asyncio.to_thread(runner.forecast, tool, args)
            viewer.working(call, told.text if told else "")
            if told is not None and left is not None:
                runner.warn(tool, args, told, left, MOST_AT_ONCE if getattr(planner, "delegates", False) else 1.0)
            done = await runner.apart(runner.run, tool, args, lambda m: viewer.working(call, m), left)
            if done.outcome.finished and refused:
                raise ToolInputError(held(refused))
            if tool.kind == "delegating":
                answer = await _delegate(call, args, run, record, runner, spent, limits, viewer, planner)
            elif tool.kind == "settling":
                named = [f for f in done.outcome.entries if isinstance(f, Finding)]
                answer = await _settle(call, named, run, record, runner, why, viewer, left)
            elif (over := spent.used_up(limits)) and any(_is_open(e) for e in done.outcome.entries):
                answer = Answer(call.id, f"not sealed, for nothing is left to settle it with: {over}", "budget")
                _put_answer(record, run, answer)
            else:
                answer = _keep(call, done, run, record, why)
            spent.experiments, spent.reserved = experiments_made(record, run), reserved(record)
        except ToolInputError as error:
            answer = Answer(call.id, str(error), "rejected")
            _put_answer(record, run, answer)
        except Cancelled as error:
            answer = Answer(call.id, str(error), "rejected")
            _put_answer(record, run, answer)
        except DeadlineReached:
            answer = Answer(call.id, f"stopped while it ran: {spent.over(limits) or 'its time is over'}", "budget")
            _put_answer(record, run, answer)
    viewer.answered(call, answer, clock() - started)
    return answer


def _is_open(entry: object) -> bool:
    """Whether an entry is a finding that is still to be settled."""
    return isinstance(entry, Finding) and not entry.settled


async def _settle(
    call: ToolCall,
    findings: Sequence[Finding],
    run: Run,
    record: RunRecord,
    runner: ToolRunner,
    why: str,
    viewer: Viewer,
    seconds: float | None,
) -> Answer:
    """Measure findings on unseen examples, settle them in one round, and write all of it or nothing."""
    number = 1 + rounds_used(record)
    done = await runner.apart(runner.confirm, findings, lambda m: viewer.working(call, m), seconds)
    store = record.store
    with store.transaction():
        seq = store.last_seq(run.name) + 1
        open_: list[tuple[Finding, str, Sequence[Measurement] | str]] = []
        for f, made in zip(findings, done, strict=True):
            if made.experiment is None or made.result is None:
                open_.append((f, "", made.outcome.text))
                continue
            kept = made.result_id or store.put_result(made.experiment, made.result)
            handle = store.link_experiment(
                run.name, made.experiment.id, kept, cached=made.result_id is not None, seq=seq, why=why[:500]
            )
            found = made.result.measurements if made.result.status == "ok" else made.result.text
            open_.append((f, handle, found))
        again = {f.handle for f, made in zip(findings, done, strict=True) if made.reused}
        settled = settle(open_, number, again)
        for f in settled:
            store.put_entry(run.name, seq, f)
        for h in settle_hypotheses(record.hypotheses(), record.findings()):
            store.put_entry(run.name, seq, h)
        lines = [f"round {number}, which may spend {share(number):.3g} of the error rate:"]
        lines += [fate_line(tested(record, f)) for f in settled]
        clashes = contradictions(record.findings())
        lines += [f"{a} and {b} contradict each other: {why_}" for a, b, why_ in clashes]
        answer = Answer(call.id, "\n".join(lines), "ok", settled[0].handle)
        _put_answer(record, run, answer)
    return answer


async def _delegate(
    call: ToolCall,
    args: ToolArgs,
    run: Run,
    record: RunRecord,
    runner: ToolRunner,
    spent: Spent,
    limits: Limits,
    viewer: Viewer,
    planner: Planner,
) -> Answer:
    """Have a question investigated by a child run, from where that is if it was cut off, and answer with what it found."""
    known = children(record)
    at = next((i for i, c in enumerate(known) if c.call == call.id and c.seq > branched_at(run)), len(known))
    if at < len(known):
        child = record.store.run(known[at].name)
    else:
        asked = args.model_dump()
        share_ = child_limits(limits, spent, asked["share"])
        made, reads = runner.tasks.made(), port_of(runner.subject).reads
        asks = questions(asked["question"], [t.name for t in made], reads)
        child = begin_child(record, run, call.id, asked["question"], share_, made, asks)
    store, own = record.store, RunRecord(record.store, child.name)
    if child.status == "running":
        its = ToolRunner(
            runner.subject, own, RunTasks(store, child.name), runner.seed, runner.max_tokens, sandbox=runner.sandbox,
            elsewhere=runner.elsewhere,
        )  # fmt: skip
        mind = getattr(planner, "child", lambda _: planner)(at)
        await investigate(mind, child, own, its, discover(), limits_of(child.settings), _Within(viewer, call))
        child = store.run(child.name)
    after = spending(record, run)
    spent.tokens, spent.cost = after.tokens, after.cost
    answer = Answer(call.id, child_text(own, child), "ok")
    _put_answer(record, run, answer)
    return answer


@dataclass(frozen=True)
class _Within:
    """Shows what a child does as work on its parent's call."""

    viewer: Viewer
    call: ToolCall

    def turn(self, turn: Turn) -> None:
        self.viewer.working(self.call, " ".join(turn.text.split()) or "the child thinks")

    def working(self, call: ToolCall, message: str) -> None:
        self.viewer.working(self.call, f"{call.name} {message}")

    def answered(self, call: ToolCall, answer: Answer, seconds: float) -> None:
        del seconds
        self.viewer.working(self.call, f"{call.name}: {answer.status}")


def _keep(call: ToolCall, done: Executed, run: Run, record: RunRecord, why: str) -> Answer:
    """Write an executed call: result, handle, entries and the answer, all or nothing."""
    store, text = record.store, done.outcome.text
    with store.transaction():
        for example in done.worked:
            store.put_event(run.name, "example", example)
        seq = store.last_seq(run.name) + 1
        handle: str | None = None
        measurements = ()
        if done.experiment is not None and done.result is not None:
            measurements = done.result.measurements
            before = record.handle_of(done.experiment.id)
            if before is not None:
                handle, text = before, f"{before} (asked before, the answer is the same): {text}"
            else:
                number = done.result_id or store.put_result(done.experiment, done.result)
                cached = done.result_id is not None
                handle = store.link_experiment(
                    run.name, done.experiment.id, number, cached=cached, seq=seq, why=why[:500]
                )
                text = f"{handle}{' (known from an earlier run)' if cached else ''}: {text}"
        for entry in done.outcome.entries:
            written = store.put_entry(run.name, seq, entry)
            if isinstance(entry, Claim):
                text = with_numbers(text, record)
            if isinstance(entry, Note | Hypothesis | Finding | Claim):
                text = text if written in text else f"{written}: {text}"
                handle = written
        answer = Answer(call.id, text, done.outcome.status, handle, tuple(measurements))
        _put_answer(record, run, answer, done.traceback)
    return answer


def _put_answer(record: RunRecord, run: Run, answer: Answer, traceback: str = "") -> None:
    payload = {"call_id": answer.call_id, "text": answer.text, "status": answer.status, "handle": answer.handle}
    if traceback:
        payload["traceback"] = traceback
    record.store.put_event(run.name, "answer", payload)
