"""Put a conclusion into the report: its kind, the sites it names, the experiments it rests on, and how sure you are.

Numbers are written as references such as {{E3.accuracy[task=addition, program=skip 2]}}. A localisation needs at least
one prediction that came true on the confirm split; without it, claim an effect or a behaviour.
"""

from typing import Literal

from pydantic import Field

from experiments_db.records import Claim, Outcome
from tools._base import Context, ToolArgs, ToolInputError
from tools._references import check_handles, check_references

KIND: Literal["notebook"] = "notebook"
EXAMPLE = {
    "kind": "behaviour",
    "text": "The model adds: accuracy {{E1.accuracy[task=addition]}}.",
    "experiments": ["E1"],
    "confidence": 0.95,
}


class Args(ToolArgs):
    """Arguments of claim."""

    kind: Literal["localisation", "effect", "absence", "behaviour"] = Field(
        description="localisation: it happens at these sites; effect: changing this changes that; absence: the model "
        "cannot, or nothing was found; behaviour: what the intact model does"
    )
    text: str = Field(min_length=1, max_length=2000, description="the claim, numbers as references")
    sites: list[str] = Field(default=[], description="the sites it names, for example decoder.0.attn.out")
    experiments: list[str] = Field(min_length=1, description="the experiments it rests on, such as E4")
    confidence: float = Field(ge=0, le=1, description="your probability that it is true")


def run(args: Args, ctx: Context) -> Outcome:
    """Check and keep the claim."""
    check_handles(ctx, args.experiments, "E")
    check_references(ctx, args.text, digits=True)
    if args.kind == "localisation":
        if not args.sites:
            raise ToolInputError("a localisation names its sites, for example decoder.0.attn.out")
        confirmed = [p for p in ctx.history.predictions() if p.outcome and "split=confirm" in p.metric]
        if not any(p.experiment in args.experiments for p in confirmed):
            raise ToolInputError(
                "a localisation needs a prediction that came true on the confirm split, and its experiment among "
                f"experiments; true so far: {', '.join(f'{p.handle} in {p.experiment}' for p in confirmed) or 'none'}"
            )
    entry = Claim(
        kind=args.kind,
        text=args.text,
        sites=tuple(args.sites),
        experiments=tuple(args.experiments),
        confidence=args.confidence,
    )
    return Outcome(text=f"claimed: {args.text}", entries=(entry,))
