"""Find the heads that tell right answers from wrong ones, and shift them while the model answers: does it say more of what it
knows?

Each question is said with its answer and with its foil, and every head is probed at the last token. The best heads by
validation accuracy are shifted by alpha standard deviations along their directions, at the end of the prompt and at every token
that is made. Completions of other questions are judged: true (the right answer, or the words of the label `declines`),
informative (not declined), both. Beside every dose stand random directions at the same heads, random heads, all heads, and what
the shift costs on text; besides, worked examples before the question, and training on as many. `transfer` fits on all values of
a label but one and tries that one. Source: Li et al. 2023.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from experiments_db.records import Array, Measurement, Outcome
from tools.engine.sites import Edit
from tools.methods.arguments import AMONG
from tools.methods.features import labels_of
from tools.methods.measuring import averages, control_of, fit_and_score, groups_of, measured, over_draws, where_of
from tools.methods.saying import examples_of
from tools.methods.scoring import encoded_all
from tools.methods.tables import as_array, text_table
from tools.methods.telling import (
    MEASURES,
    Logs,
    completions,
    costs,
    ends,
    expected,
    fine_tuned,
    fitting_shots,
    judged,
    neutral,
    worked,
)
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.methods.truth import Heads, Way, edits, ranked
from tools.statistics import Groups
from tools.subjects import Subject
from tools.tasks import Example

KIND: Literal["experiment"] = "experiment"
NEEDS = "foils"
EXAMPLE = {"task": "agreement", "heads": [4], "alphas": [4], "max_new_tokens": 2, "examples": 64}
DRAWS = 3
SHOTS = (1, 3)  # worked examples, beside as many as fit
LEAST, MOST_KINDS = 6, 12  # questions of a kind, and kinds
COSTS = {"kl": "nats per token of the prompts", "nll_cost": "nats per token of the prompts"}
RANDOM = f"{DRAWS} random directions at the same heads"
Rows = NDArray[np.float64]
Values = dict[str, Rows]  # by quantity, one value an example
Shift = Callable[[Tensor | None], Sequence[Edit]]


class Args(ToolArgs):
    """Arguments of inference_time_intervention."""

    task: str = Field(description="questions with a right answer and a foil; see list_tasks")
    among: str = AMONG
    direction: Way = Field(
        default="mass_mean",
        description="along the difference of means, the weights of a ridge probe, or contrast-consistent search",
    )
    heads: list[int] = Field(
        default=[4, 8, 16], min_length=1, max_length=8, description="how many of the best heads are shifted"
    )
    alphas: list[float] = Field(
        default=[1.0, 2.0, 3.0, 4.0, 5.0], min_length=1, max_length=12, description="how far, in standard deviations"
    )
    transfer: str = Field(
        default="",
        description="a label: also fit on all of its values but one, and try that one; empty: the first that parts the questions",
    )
    baselines: bool = Field(default=True, description="also worked examples, and training on as many")
    max_new_tokens: int = Field(
        default=0, ge=0, le=128, description="length of an answer; 0: one more than the longest right one"
    )
    examples: int = Field(default=256, ge=32, le=2048, description="how many questions, half of them to fit on")


@dataclass
class _Asked:
    """The questions that are asked, and how they are answered under edits."""

    args: Args
    ctx: Context
    tried: list[Example]

    @cached_property
    def new(self) -> int:
        """How many tokens are made."""
        answers = encoded_all(self.ctx.subject, self.tried)
        return self.args.max_new_tokens or 1 + max(len(e.targets) for e in answers)

    @cached_property
    def plain(self) -> list[Logs]:
        """What the intact model expects of the text of the prompts."""
        return expected(self.ctx, self.tried)

    def under(self, shift: Shift = lambda _: (), *, cost: bool = True) -> Values:
        """Every quantity, one value an example. shift: from the positions to edit to edits; cost: also what it costs on text."""
        found = self.answered(self.ctx.subject, [e.prompt for e in self.tried], shift)
        return found | (costs(self.ctx, self.tried, shift(None), self.plain) if cost else {})

    def answered(self, subject: Subject, prompts: Sequence[str], shift: Shift = lambda _: ()) -> Values:
        """What is said, judged."""
        at = ends(subject, [subject.tokens(p) for p in prompts])
        return judged(self.tried, completions(subject, prompts, self.new, shift(at)))


def run(args: Args, ctx: Context) -> Outcome:
    """Rank the heads, shift the best of them at every dose, and try the controls and the baselines."""
    ctx.subject.require("next_token")
    task, fitted, tried = fit_and_score(ctx, args.task, args.examples, among=args.among)
    heads, held = (Heads.read(ctx.subject, e, ctx.max_tokens) for e in (fitted, tried))
    _check(args, len(heads.places))
    where = {**where_of(ctx, task, args.among)}
    groups, order = groups_of(tried), ranked(heads.accuracy())
    asked = _Asked(args, ctx, tried)
    steps = heads.directions(args.direction, ctx.seed)
    noise = [heads.random(ctx.seed + i) for i in range(DRAWS)]
    rng = np.random.default_rng(ctx.seed)

    def shifted(chosen: Sequence[int], along: Rows, alpha: float, *, cost: bool = True) -> Values:
        ctx.check()
        return asked.under(lambda at: edits(ctx.subject, heads, chosen, along, alpha, at), cost=cost)

    intact = asked.under()
    out = _probed(heads, held, order, groups, where)
    curves: dict[str, list[Values]] = {}
    sizes = [(f"{k} heads", order[:k]) for k in dict.fromkeys(args.heads)] + [("all heads", order)]
    for name, chosen in sizes:
        ctx.progress(name)
        out += _told(intact, groups, where, name, 0.0)
        curves[name] = [intact]
        for alpha in args.alphas:
            mine = shifted(chosen, steps, alpha)
            out += _told(mine, groups, where, name, alpha, [shifted(chosen, n, alpha, cost=False) for n in noise])
            curves[name].append(mine)
    for k in dict.fromkeys(k for k in args.heads if 2 * k <= len(order)):
        sets = [rng.choice(order[k:], k, replace=False).tolist() for _ in range(DRAWS)]
        for alpha in args.alphas:
            drawn = [shifted(s, steps, alpha) for s in sets]
            out += _told(
                {q: np.stack([d[q] for d in drawn]) for q in drawn[0]}, groups, where, f"{k} random heads", alpha
            )
    if label := args.transfer or _kind_of_question(fitted, tried):
        out += _transfer(label, asked, fitted, heads, groups, where)
    if args.baselines:
        out += _baselines(asked, fitted, groups, where)
    text = (
        f"{args.direction} of {len(heads.places)} heads for right against wrong answers, {examples_of(task, args.among)} "
        f"({ctx.split}), fitted on {len(fitted)} questions, tried on {len(tried)}; best heads by validation: "
        f"{', '.join(str(heads.places[i]) for i in order[:8])}\n"
    )
    return Outcome(text=text + _table(out), measurements=tuple(out), arrays=tuple(_curves(curves, args)))


def _check(args: Args, there: int) -> None:
    if not all(1 <= k <= there for k in args.heads):
        raise ToolInputError(f"heads: this model has {there} heads; give numbers from 1 to {there}")


def _probed(
    heads: Heads, held: Heads, order: Sequence[int], groups: Groups, where: Mapping[str, Any]
) -> list[Measurement]:
    """How well each head's probe tells right statements from wrong ones on questions that it was not fitted on."""
    rng = np.random.default_rng(0)
    swap = rng.random(heads.right.shape[1]) < 0.5
    mixed = Heads(
        heads.places, np.where(swap[:, None], heads.wrong, heads.right), np.where(swap[:, None], heads.right, heads.wrong),
        heads.groups,
    )  # fmt: skip
    own, other = (_hits(h, held) for h in (heads, mixed))
    mine, base = averages(own, groups, (0.0, 1.0)), averages(other, groups, (0.0, 1.0))
    return [
        measured(
            "probe_accuracy", "share of statements", mine[i], component=str(heads.places[i].but(anchor="-1")),
            control=control_of("shuffled labels", base[i]), **where,
        )
        for i in order
    ]  # fmt: skip


def _hits(fitted: Heads, held: Heads) -> Rows:
    """Of each question how many of its two statements each head's probe tells right, as a share, (heads, questions)."""
    w, middle = fitted.probe()
    said = (np.einsum("hnd,hd->hn", x - middle[:, None], w) for x in (held.right, held.wrong))
    right, wrong = said
    return ((right > 0).astype(float) + (wrong < 0)) / 2


def _told(
    values: Values, groups: Groups, where: Mapping[str, Any], name: str, alpha: float | None = None,
    noise: Sequence[Values] = (),
) -> list[Measurement]:  # fmt: skip
    """Every quantity of one condition, beside random directions; of several draws their mean."""
    out: list[Measurement] = []
    for q, rows in values.items():
        bounds = (0.0, 1.0) if q in MEASURES else None
        estimate = over_draws(rows, groups, bounds) if rows.ndim > 1 else averages(rows, groups, bounds)[0]
        control = None
        if noise and q in noise[0]:
            drawn = np.stack([n[q] for n in noise])
            reach = None if bounds is None else (-1.0, 1.0)
            control = control_of(RANDOM, over_draws(drawn, groups, bounds), over_draws(rows - drawn, groups, reach))
        unit = {**MEASURES, **COSTS}[q]
        out.append(measured(q, unit.partition(":")[0], estimate, control=control, variant=name, dose=alpha, **where))
    return out


def _kind_of_question(fitted: Sequence[Example], tried: Sequence[Example]) -> str:
    """The first label of a few values that all have enough questions to try them on; '' where there is none."""
    for name in dict.fromkeys(n for e in (*fitted, *tried) for n in e.values):
        if all(name in e.values for e in (*fitted, *tried)):
            counts = [Counter(str(e.values[name]) for e in part) for part in (fitted, tried)]
            if all(2 <= len(c) <= MOST_KINDS and min(c.values()) >= LEAST for c in counts):
                return name
    return ""


def _transfer(
    label: str, asked: _Asked, fitted: list[Example], heads: Heads, groups: Groups, where: Mapping[str, Any]
) -> list[Measurement]:
    """Heads and directions from every value of a label but one, tried on that one; all values together."""
    ctx, args = asked.ctx, asked.args
    kinds, own = ([str(v) for v in labels_of(e, label)] for e in (fitted, asked.tried))
    if len(set(kinds)) < 2:
        raise ToolInputError(f"transfer: {label} has one value only, {kinds[0]!r}: there is no other to fit on")
    out: list[Measurement] = []
    for k, alpha in product(dict.fromkeys(args.heads), args.alphas):
        values: Values = {}
        for kind in sorted(set(own)):
            rest = heads.only([i for i, v in enumerate(kinds) if v != kind])
            chosen, steps = ranked(rest.accuracy())[:k], rest.directions(args.direction, ctx.seed)
            rows = [i for i, v in enumerate(own) if v == kind]
            part = _Asked(args, ctx, [asked.tried[i] for i in rows])
            found = part.under(
                lambda at, c=chosen, s=steps, a=alpha: edits(ctx.subject, heads, c, s, a, at), cost=False
            )
            for q, x in found.items():
                values.setdefault(q, np.zeros(len(own)))[rows] = x
        out += _told(values, groups, where, f"{k} heads, unseen {label}", alpha)
    return out


def _baselines(asked: _Asked, fitted: list[Example], groups: Groups, where: Mapping[str, Any]) -> list[Measurement]:
    """Worked examples in front, as many as there is room for, and a copy trained on the questions that were fitted on."""
    ctx, out = asked.ctx, list[Measurement]()
    most = fitting_shots(ctx.subject, fitted, asked.tried, asked.new)
    for n in sorted({min(most, k) for k in SHOTS} | {most}):
        shown = worked(fitted[:n])
        said = asked.answered(ctx.subject, [shown + e.prompt for e in asked.tried])
        out += _told(said, groups, where, f"{n} worked examples")
    trained = fine_tuned(ctx.subject, neutral(fitted), ctx.seed)
    said = asked.answered(trained, [e.prompt for e in asked.tried])
    return [*out, *_told(said, groups, where, f"trained on {len(fitted)}")]


def _table(found: Sequence[Measurement]) -> str:
    """Conditions by quantity."""
    rows = list(dict.fromkeys((m.variant, m.dose) for m in found if m.variant))
    columns = [*MEASURES, *COSTS]
    of = {(m.variant, m.dose, m.name): m.value for m in found}
    table = np.array([[of.get((*row, q), np.nan) for q in columns] for row in rows])
    names = [f"{v}{'' if a is None else f', alpha {a:g}'}" for v, a in rows]
    return text_table(names, columns, table, digits=3)


def _curves(curves: Mapping[str, Sequence[Values]], args: Args) -> list[Array]:
    """What the trade-off curve is drawn from: truth and informativeness by how many heads and how far."""
    axes = [("heads", list(curves)), ("alpha", [0.0, *args.alphas])]
    return [
        as_array(q, np.array([[v[q].mean() for v in row] for row in curves.values()]), axes, u.partition(":")[0])
        for q, u in {**MEASURES, **COSTS}.items()
    ]
