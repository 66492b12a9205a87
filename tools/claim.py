"""Put a conclusion into the report: its kind, the sites it names, the experiments it rests on, and how sure you are.

Numbers are written as references such as {{E3.accuracy[task=addition, program=skip 2]}}. A localisation needs a role,
a prediction that came true on the confirm split with an effect outside its control's interval (Holm-adjusted over the
run's confirmatory tests), and a task that the intact model can do; without these, claim an effect or a behaviour.
"""

from typing import Literal

from pydantic import Field

from experiments_db.records import Claim, Outcome, Role
from tools.findings.discipline import caveats, check_localisation
from tools.findings.wording import check_handles, check_references
from tools.methods.tool import Context, ToolArgs, ToolInputError

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
    role: Role | None = Field(
        default=None,
        description="for a localisation, what it says of its sites. necessary: each by itself is needed; jointly_necessary: "
        "needed as a set, whatever each does alone; sufficient: enough; carries: the information is there",
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
        check_localisation(ctx, args.role, args.sites, args.experiments)
    elif args.role is not None:
        raise ToolInputError(f"role is for localisations, not for kind {args.kind}: leave it out")
    entry = Claim(
        kind=args.kind,
        role=args.role,
        text=args.text,
        sites=tuple(args.sites),
        experiments=tuple(args.experiments),
        confidence=args.confidence,
    )
    rests = caveats(ctx.history, args.experiments)
    said = (
        f"\nthe report adds: rests on {', '.join(rests)}" if rests and args.kind in ("localisation", "effect") else ""
    )
    return Outcome(text=f"claimed: {args.text}{said}", entries=(entry,))
