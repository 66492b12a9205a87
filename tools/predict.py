"""Write down a prediction BEFORE the experiment it is about: metric, comparison, threshold and how sure you are.

The first later experiment that measures the metric scores it; nothing else can. An experiment on the confirm split is
answered only if it scores an open prediction; it confirms or refutes a hypothesis once, and can't be repeated. A
metric that this run has measured already can't be predicted.
"""

from typing import Literal

from pydantic import Field

from experiments_db.records import Outcome, Prediction, parse_metric
from tools.findings.discipline import check_confirm_once
from tools.findings.wording import measured_already
from tools.methods.tool import Context, ToolArgs, ToolInputError

KIND: Literal["notebook"] = "notebook"
EXAMPLE = {
    "hypothesis": "H1",
    "metric": "accuracy[task=addition, split=confirm, site=0.attn, layer=0, position=last, variant=resample]",
    "comparison": "<=",
    "threshold": 0.4,
    "probability": 0.9,
}


class Args(ToolArgs):
    """Arguments of predict."""

    hypothesis: str = Field(description="the hypothesis it follows from, for example H1")
    metric: str = Field(
        description="key of a measurement to come, as recall prints it, with split=confirm for the unseen half; "
        "coordinates may be left out where one measurement of the experiment remains"
    )
    comparison: Literal["<", "<=", ">", ">="] = Field(description="how the measured value compares with the threshold")
    threshold: float = Field(description="the value to compare with")
    probability: float = Field(ge=0, le=1, description="how sure you are that it will hold, 0 to 1")


def run(args: Args, ctx: Context) -> Outcome:
    """Keep the prediction."""
    known = [h.handle for h in ctx.history.hypotheses()]
    if args.hypothesis not in known:
        raise ToolInputError(f"there is no hypothesis {args.hypothesis!r}; there are {', '.join(known) or 'none yet'}")
    try:
        _, wanted = parse_metric(args.metric)
    except ValueError as error:
        raise ToolInputError(str(error)) from None
    if "split" not in wanted:
        raise ToolInputError("metric: say which split it is about, split=explore or split=confirm")
    check_confirm_once(ctx, args.hypothesis, args.metric)
    where = measured_already(ctx, args.metric)
    if where:
        raise ToolInputError(f"{args.metric} was measured in {where}: predict something that is not known yet")
    handle = f"P{len(ctx.history.predictions()) + 1}"
    entry = Prediction(handle=handle, **args.model_dump())
    text = f"{handle}: {args.metric} {args.comparison} {args.threshold:g} with probability {args.probability:g}"
    return Outcome(text=text, entries=(entry,))
