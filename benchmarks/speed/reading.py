"""Reading states: the logit lens at the last position, and tuned lenses fitted until they are as near as the package's own."""

import contextlib
import io
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.speed.jobs import LAYERS, Bench
from benchmarks.speed.timing import HOOKS, LENS, OURS, Job, clocked
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.tool import Context
from tools.methods.translators import States, corpus, fitted, kl, logprobs, split_rows, states, translate
from tools.subjects import load_subject

ROUNDS = 3
TASKS, EXAMPLES = ("addition", "agreement", "indirect_object"), 512
STEPS, BUDGETS = 250, (16, 64, 128)  # of the package: steps, and texts a step
HERE = tuple((texts, steps) for texts in (200, 500) for steps in (0, 20, 30, 40, 60, 80, 120, 250, 500))


def lenses(bench: Bench) -> Iterator[Job]:
    """The last position of one prompt read at every depth, its states given."""
    h = torch.randn(LAYERS + 1, 1, bench.subject.spec().width)
    final, head, own = bench.model.transformer.ln_f, bench.model.lm_head, bench.subject.model.lm_head

    def here() -> Tensor:
        with bench.subject.evaluating():
            return bench.subject.unembed(h)

    def least() -> float:
        with bench.subject.evaluating():
            return min(clocked(lambda: own(h[:, 0])) for _ in range(3))

    ways: dict[str, Callable[[], Tensor]] = {
        OURS: here,
        HOOKS: lambda: torch.stack([head(final(x)) for x in h]),
    }
    if (bridge := bench.bridge) is not None:
        ways[LENS] = lambda: torch.stack([bridge.unembed(bridge.ln_final(x)) for x in h])
    yield Job(
        "logit lens at the last position, all depths",
        LAYERS + 1,
        ways,
        least,
        {LENS: 7, HOOKS: 7},
    )


@dataclass(frozen=True)
class Fit:
    """A way of fitting tuned lenses: processor seconds, and the mean KL over depths on texts held out, nats a token."""

    name: str
    seconds: float
    kl: float


def tuned(modules: dict[str, Any], seed: int = 0) -> list[Fit]:
    """On the demo: no translation; the package's recipe at several budgets; ours for ever more steps, on all texts and on some.

    The package fits for 250 steps on batches of texts drawn from all, with Adam and with its SGD; the model runs at every step.
    """
    subject = load_subject("demo")
    ctx = Context(subject, OfflineTasks([]), Nothing(), seed=seed, fresh=True)
    train, held_out = split_rows(corpus(ctx, TASKS, "explore", EXAMPLES), seed)
    mixed = torch.randperm(len(train.rows), generator=torch.Generator().manual_seed(seed)).tolist()
    with torch.no_grad():
        read = states(subject, held_out.rows, 2048)
        truth = logprobs(subject, read.h[-1])
    zero = torch.zeros(read.h.shape[0] - 1, read.h.shape[2] + 1, read.h.shape[2])
    fits = [Fit("no translation (the logit lens)", 0.0, _off(subject, read, truth, zero))]
    if "tuned-lens" in modules:
        fits += [
            _package(modules["tuned-lens"], subject, train.rows, read, truth, how, texts, seed)
            for texts in BUDGETS
            for how in ("Adam", "SGD")
        ]
    fitted(ctx, train.rows[:100], 1)  # the first call of everything
    for texts, steps in HERE:
        rows, made, seconds = [train.rows[i] for i in mixed[:texts]], list[Tensor](), list[float]()
        for again in range(ROUNDS):
            told = replace(ctx, seed=seed + again)  # what was fitted is kept for the next that asks for the same
            seconds.append(clocked(lambda c=told, r=rows, n=steps, made=made: made.append(fitted(c, r, n))))
        off = statistics.median(_off(subject, read, truth, lens) for lens in made)
        fits.append(Fit(f"here, {steps} steps, {len(rows)} texts", statistics.median(seconds), off))
    return fits


def _off(subject: Any, read: States, truth: Tensor, lens: Tensor) -> float:
    with torch.no_grad():
        found = [
            kl(truth, logprobs(subject, translate(read.h[d : d + 1], lens[d : d + 1])[0])).mean()
            for d in range(len(lens))
        ]
    return float(torch.stack(found).mean())


def _package(
    package: Any,
    subject: Any,
    rows: Sequence[Sequence[int]],
    read: States,
    truth: Tensor,
    how: str,
    texts: int,
    seed: int,
) -> Fit:
    """The training loop of tuned-lens' own script, on texts of one length each: KL, linear decay, gradients clipped."""
    with contextlib.redirect_stdout(io.StringIO()):
        lens = package.TunedLens.from_model(subject.model)
    wanted = [p for p in lens.parameters() if p.requires_grad]
    optimizer = (
        torch.optim.Adam(wanted, lr=1e-3, amsgrad=True, betas=(0.9, 0.999), weight_decay=1e-3)
        if how == "Adam"
        else torch.optim.SGD(wanted, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3)
    )
    first = optimizer.param_groups[0]["lr"]
    order = torch.Generator().manual_seed(seed)

    def fit() -> None:
        for step in range(STEPS):
            optimizer.param_groups[0]["lr"] = first * (1 - step / STEPS)
            batch = [rows[i] for i in torch.randint(0, len(rows), (texts,), generator=order).tolist()]
            inputs = subject.inputs(batch)
            kept = torch.zeros_like(inputs.fields["input_ids"], dtype=torch.bool)
            for i, n in enumerate(inputs.lengths):
                kept[i, :n] = True
            with torch.no_grad():
                out = subject.model(**inputs.fields, output_hidden_states=True, use_cache=False)
            labels = out.logits[kept].log_softmax(-1)
            for depth, h in enumerate(out.hidden_states[:-1]):
                guess = lens(h[kept], idx=depth).log_softmax(-1)
                (labels.exp() * (labels - guess)).sum(-1).mean().backward()
            torch.nn.utils.clip_grad_norm_(wanted, 1.0)
            optimizer.step()
            optimizer.zero_grad()

    with torch.enable_grad():
        seconds = clocked(fit)
    with torch.no_grad():
        off = [kl(truth, lens(h, idx=d).log_softmax(-1)).mean() for d, h in enumerate(read.h[:-1])]
    return Fit(f"tuned-lens, {STEPS} steps of {texts} texts, {how}", seconds, float(torch.stack(off).mean()))


def tuned_table(fits: Sequence[Fit]) -> list[str]:
    """Rows; beside each of the package's, how much sooner the quickest of ours is at least as near: on some texts, on all."""
    lines = [
        "| tuned lens | seconds | KL held out, nats a token | here at least as near, sooner by |",
        "|---|---|---|---|",
    ]
    ours = [f for f in fits if f.name.startswith("here")]
    for f in fits:
        told: list[str] = []
        for texts in dict.fromkeys(o.name.split(", ")[-1] for o in ours):
            near = [o for o in ours if o.name.endswith(texts) and o.kl <= f.kl]
            best = min(near, key=lambda o: o.seconds, default=None)
            told.append(f"{f.seconds / best.seconds:.1f} ({best.name[6:]})" if best else f"never ({texts})")
        lines.append(
            f"| {f.name} | {f.seconds:.2f} | {f.kl:.4f} | {'; '.join(told) if 'tuned-lens' in f.name else ''} |"
        )
    return lines
