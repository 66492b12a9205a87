"""Predict that what was examined holds on unseen examples too: seals it as a finding, word for word, before anybody looks.

Name the experiment that examined it. The probability is yours or, left out, the one that the evidence calls for. Its
confirmation is reserved in the budget; confirm then settles all open findings at once.
"""

from typing import Literal

from pydantic import Field

from experiments_db.records import Outcome
from tools.findings.sealing import EXAMINE, seal, statement_of
from tools.findings.wording import check_handles
from tools.methods.tool import Context, ToolArgs, ToolInputError

KIND: Literal["notebook"] = "notebook"
EXAMPLE = {"experiment": "E12", "probability": 0.9}


class Args(ToolArgs):
    """Arguments of predict."""

    experiment: str = Field(description="the examine experiment whose statement is predicted, for example E12")
    probability: float | None = Field(
        default=None, ge=0, le=1, description="how sure you are that it will be confirmed; null: as the evidence says"
    )
    hypothesis: str | None = Field(default=None, description="the hypothesis it follows from, for example H1")


def run(args: Args, ctx: Context) -> Outcome:
    """Seal the finding."""
    check_handles(ctx, [args.experiment], "E")
    if args.hypothesis is not None:
        check_handles(ctx, [args.hypothesis], "H")
    asked = ctx.history.experiment(args.experiment)
    if asked.tool != EXAMINE or asked.args.get("split") == "confirm":
        raise ToolInputError(
            f"{args.experiment} is {asked.tool}: a finding is predicted from an examine experiment on explore examples, which "
            "measures exactly what it says"
        )
    entry = seal(ctx, args.experiment, statement_of(ctx, asked.args), args.probability, args.hypothesis)
    s = entry.statement
    what = s.components or s.path or s.program or s.label
    how = " and ".join(str(i) for i in s.interventions)
    other = s.other_task or (s.task if s.other_among else "")
    against = f" against {other}{f' among {s.other_among}' if s.other_among else ''}" if other else ""
    text = (
        f"{entry.handle}: {s.kind}{f' of {what}' if what else ''}{f' under {how}' if how else ''} for {s.task}"
        f"{f' among {s.among}' if s.among else ''}{against}, smallest effect {entry.smallest:.3g}, probability "
        f"{entry.probability:.2f}, power {entry.power:.2f} (probability: how sure you are, or the calibrated evidence is, that it "
        "will be confirmed; power: the chance that unseen examples show it if the effects are as large as they look)"
    )
    if entry.power < 0.5:
        text += ": unseen examples will probably leave it open; more examples, or a clearer effect, would help"
    return Outcome(text=text, entries=(entry,))
