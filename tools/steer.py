"""Push the residual stream (or another site) along a direction, at several doses, and see what happens to answers or to
text: does the direction do what it is thought to mean?

The direction is the difference of means between examples with a label's value and the others, the weights of a linear
probe for it, or random; it is fitted on examples other than those it is tried on, and given the length of the
difference of means, so that dose 1 is one such step. `add` adds dose x direction, `set` first takes out what lies
along it, `project_out` only takes out. `toward` is a text whose probability (scoring) or presence in the completion
(generating) is followed. The control is random directions of the same length at the same dose. Source: Li et al. 2023
(inference-time intervention); Turner et al. 2023.
"""

from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from experiments_db.records import Control, Measurement, Outcome
from tools.engine.executor import Variant
from tools.engine.sites import Edit, Site
from tools.methods.arguments import SPLIT, SplitName, check_blocks
from tools.methods.features import collect, labels_of, site_list
from tools.methods.measuring import load_examples, measured
from tools.methods.scoring import Microbatch, Scores, score
from tools.methods.tables import as_array, text_table
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.statistics import intervals as statistics
from tools.tasks import Example, Task

KIND: Literal["experiment"] = "experiment"
EXAMPLE = {
    "task": "agreement",
    "label": "subject_number",
    "value": "plural",
    "layer": 2,
    "toward": " are",
    "doses": [0, 1, 2],
}
RANDOM_DIRECTIONS = 3


class Args(ToolArgs):
    """Arguments of steer."""

    task: str = Field(description="a task spec whose prompts are steered; see list_tasks")
    label: str = Field(description="a metadata key of the task's examples, or answer: what the direction is about")
    value: str = Field(description="the label's value towards which the direction points")
    layer: int = Field(description="the block, counted from 0")
    site: str = Field(default="resid_post", description="kind of site, such as resid_post, attn.out, mlp.out")
    direction: Literal["mean_difference", "probe", "random"] = Field(
        default="mean_difference", description="how it is found"
    )
    operation: Literal["add", "set", "project_out"] = Field(default="add", description="what is done along it")
    doses: list[float] = Field(
        default=[0.0, 1.0, 2.0, 4.0],
        min_length=1,
        max_length=16,
        description="in steps of the difference of means; one is enough for project_out",
    )
    position: Literal["last", "all"] = Field(default="all", description="the prompt's last token, or every token")
    mode: Literal["score", "generate"] = Field(
        default="score", description="score the next tokens, or generate greedily"
    )
    toward: str | None = Field(
        default=None,
        min_length=1,
        description="a text to follow, with its leading space; null follows the task's own answer",
    )
    max_new_tokens: int = Field(default=8, ge=1, le=128, description="for generate")
    split: SplitName = SPLIT
    examples: int = Field(default=128, ge=16, le=2048, description="how many examples to use")


def run(args: Args, ctx: Context) -> Outcome:
    """Fit the direction, then try every dose beside random directions."""
    check_blocks(ctx, [args.layer], "layer")
    (site,) = site_list(ctx, args.site, [args.layer])
    task, fitted, tried = _examples(args, ctx)
    found = direction(args, ctx, site, fitted)
    generator = torch.Generator().manual_seed(ctx.seed)
    randoms = [_like(found, generator) for _ in range(RANDOM_DIRECTIONS)]
    vectors = [found, *randoms]
    plans = [(dose, v) for dose in args.doses for v in range(len(vectors))]
    if args.mode == "score":
        followed = tried if args.toward is None else [_aimed(e, args.toward) for e in tried]

        def variants(batch: Microbatch) -> list[Variant]:
            blocks = tuple(range(len(ctx.subject.spec().blocks)))
            positions = batch.last if args.position == "last" else None
            edits = [_edits(args.operation, site, vectors[v], dose, positions) for dose, v in plans]
            return [Variant(blocks), *(Variant(blocks, e) for e in edits)]

        scores, _ = score(
            ctx.subject,
            followed,
            variants,
            choices=() if args.toward else task.choices,
            max_tokens=ctx.max_tokens,
            kl=True,
        )
        series = _scored(scores[0], scores[1:], ctx.seed)
    else:
        series = _generated(args, ctx, tried, plans, vectors, site)
    where: dict[str, Any] = {
        "task": task.name,
        "split": args.split,
        "site": str(site),
        "layer": args.layer,
        "position": args.position,
    }
    width = 1 + RANDOM_DIRECTIONS
    measurements: list[Measurement] = []
    for name, unit, values in series:
        for i, dose in enumerate(args.doses):
            own, *others = values[i * width : (i + 1) * width]
            c = statistics.mean(np.mean(others, 0), ctx.seed)
            control = Control(
                kind=f"{RANDOM_DIRECTIONS} random directions of the same length",
                value=c.value,
                low=c.low,
                high=c.high,
                n=c.n,
            )
            estimate = statistics.mean(own, ctx.seed)
            measurements.append(
                measured(
                    name,
                    unit,
                    estimate,
                    control=control,
                    variant=f"{args.direction} {args.operation}",
                    program=f"dose {dose:g}",
                    **where,
                )
            )
    names = list(dict.fromkeys(m.name for m in measurements))
    columns = [c for n in names for c in (n, "random")]
    table = np.array([[x for n in names for x in _pair(measurements, n, dose)] for dose in args.doses])
    about = f"{args.toward!r}" if args.toward else "the task's answer"
    text = (
        f"steering {site} by {args.operation} of {args.direction} for {args.label}={args.value} (length "
        f"{found.norm():.2f}), following {about}, "
        f"{task.name} ({args.split}, n={len(tried)}), by dose\n"
    )
    return Outcome(
        text=text + text_table([f"{d:g}" for d in args.doses], columns, table, digits=3),
        measurements=tuple(measurements),
        arrays=(as_array("dose_curve", table, [("dose", args.doses), ("quantity", columns)]),),
    )


def _pair(measurements: list[Measurement], name: str, dose: float) -> tuple[float, float]:
    m = next(m for m in measurements if m.name == name and m.program == f"dose {dose:g}")
    assert m.control is not None
    return m.value, m.control.value


def _examples(args: Args, ctx: Context) -> tuple[Task, list[Example], list[Example]]:
    """(task, examples to fit the direction on, examples to try it on)."""
    task, explore = load_examples(ctx, args.task, "explore", args.examples)
    if args.split == "confirm":
        return task, explore, load_examples(ctx, args.task, "confirm", args.examples)[1]
    half = len(explore) // 2
    return task, explore[:half], explore[half:]


def direction(args: Args, ctx: Context, site: Site, examples: list[Example]) -> Tensor:
    """The direction, (channels), as long as the difference of means."""
    labels = np.array([str(v) == args.value for v in labels_of(examples, args.label)])
    if labels.sum() < 4 or (~labels).sum() < 4:
        seen = sorted({str(v) for v in labels_of(examples, args.label)})
        raise ToolInputError(
            f"value: {int(labels.sum())} of {len(labels)} examples have {args.label}={args.value!r}, and "
            f"at least 4 must and 4 must not; "
            f"values are {', '.join(seen[:20])}"
        )
    x = collect(ctx.subject, examples, [site], ["last"], ctx.max_tokens)[site, "last"]
    difference = x[labels].mean(0) - x[~labels].mean(0)
    length = float(np.linalg.norm(difference))
    if args.direction == "probe":
        fitted: Any = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300)).fit(x, labels)
        weights = fitted[-1].coef_[0] / np.maximum(fitted[0].scale_, 1e-6)
        difference = weights / max(float(np.linalg.norm(weights)), 1e-12) * length
    vector = torch.tensor(difference, dtype=torch.float32)
    return _like(vector, torch.Generator().manual_seed(ctx.seed + 1)) if args.direction == "random" else vector


def _like(vector: Tensor, generator: torch.Generator) -> Tensor:
    """A random direction of the same length."""
    noise = torch.randn(vector.shape, generator=generator)
    return noise / noise.norm() * vector.norm()


def _edits(operation: str, site: Site, vector: Tensor, dose: float, positions: Tensor | None) -> tuple[Edit, ...]:
    add, out = Edit(site, "add", dose * vector, positions), Edit(site, "project_out", vector, positions)
    return {"add": (add,), "set": (out, add), "project_out": (out,)}[operation]


def _aimed(example: Example, toward: str) -> Example:
    """The example with the followed text as its answer and the task's answer as its foil."""
    return Example(example.prompt, toward, example.answer if example.answer != toward else example.foil)


def _scored(intact: Scores, scores: list[Scores], seed: int) -> list[tuple[str, str, list[np.ndarray]]]:
    del seed
    out = [
        ("probability", "of the followed text", [np.exp(-s.nll) for s in scores]),
        ("accuracy", "share of examples: the followed text is on top", [s.correct.astype(float) for s in scores]),
        ("kl", "nats from the intact model", [s.kl for s in scores]),
    ]
    known = ~np.isnan(intact.foil_margin)
    if known.any():
        out.append(("logit_margin", "logits, followed text minus its foil", [s.foil_margin[known] for s in scores]))
    return out


def _generated(
    args: Args, ctx: Context, examples: list[Example], plans: list[tuple[float, int]], vectors: list[Tensor], site: Site
) -> list[tuple[str, str, list[np.ndarray]]]:
    """Share of completions that contain the followed text, and that differ from the intact ones."""
    subject = ctx.subject
    prompts = [subject.tokens(e.prompt) for e in examples]
    with subject.evaluating():
        intact = [
            subject.completion(p, t)
            for p, t in zip(prompts, subject.generate(prompts, args.max_new_tokens), strict=True)
        ]
        found: list[np.ndarray] = []
        differs: list[np.ndarray] = []
        for dose, v in plans:
            last = (
                torch.tensor([[len(p) - 1] for p in prompts], device=subject.device)
                if args.position == "last"
                else None
            )
            edits = _edits(args.operation, site, vectors[v], dose, last)
            made = subject.generate(prompts, args.max_new_tokens, edits=edits)
            texts = [subject.completion(p, t) for p, t in zip(prompts, made, strict=True)]
            wanted = [args.toward or e.answer for e in examples]
            found.append(np.array([float(w.strip() in t) for w, t in zip(wanted, texts, strict=True)]))
            differs.append(np.array([float(a != b) for a, b in zip(texts, intact, strict=True)]))
    return [
        ("contains", "share of completions with the followed text", found),
        ("changed", "share of completions that differ from the intact model's", differs),
    ]
