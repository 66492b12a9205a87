"""Tuned lenses: an affine translator for every depth that turns a state into what the last block would have made of it.

Source: Belrose et al. 2023, Eliciting Latent Predictions from Transformers with the Tuned Lens; they train by SGD from zero for
250 steps of 2^18 tokens. Fitted lenses are kept on disk under the content of what they depend on. How they are fitted
is in `lens_fitting`, and at the end of this file how it was done before, for the replay of results of that time.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from experiments_db.records import canonical_json
from tools.engine.sites import Edit, Site
from tools.methods.lens_fitting import fit
from tools.methods.measuring import load_examples
from tools.methods.tool import Context, ToolInputError
from tools.statistics import Groups
from tools.subjects import Subject
from tools.tasks import Example, Split

TRAIN_SHARE = 0.8
SINCE = 3  # the first version of the engine whose lenses are fitted as in `lens_fitting`
RATE = 0.2
RIDGE = 1e-3
FLOOR = 0.1  # of the mean variance of a state's directions: no direction is stretched as if it had less
BATCH_ROWS = 256
JUDGED_ROWS = 2048
VERSION = 2
Start = Literal["ridge", "zero"]
_loaded: dict[str, Tensor] = {}


@dataclass(frozen=True)
class Corpus:
    """Texts as tokens with the independent problem of each, and the task specs that they come from."""

    name: str
    rows: tuple[tuple[int, ...], ...]
    labels: tuple[str, ...]

    @property
    def groups(self) -> Groups:
        """The problems behind the texts."""
        return Groups.of(self.labels)


@dataclass(frozen=True)
class States:
    """States at every depth of every token but padding, with the sequence each belongs to.

    h: (depths, tokens, width), depth d after d blocks, the last one the model's own; owner: (tokens).
    """

    h: Float[Tensor, "depths tokens width"]
    owner: np.ndarray


def corpus(ctx: Context, specs: Sequence[str], split: Split, n: int) -> Corpus:
    """Prompt and answer of tasks' examples as texts."""
    found = [e for spec in dict.fromkeys(specs) for e in load_examples(ctx, spec, n, split=split)[1]]
    if len(found) < 16:
        raise ToolInputError(f"corpus: {len(found)} texts are too few: use more examples, at least 16 texts")
    rows = tuple(tuple(ctx.subject.tokens(e.prompt + e.answer)) for e in found)
    return Corpus("+".join(specs), rows, tuple(e.group for e in found))


def prompts(ctx: Context, examples: Sequence[Example]) -> Corpus:
    """Prompts alone."""
    rows = tuple(tuple(ctx.subject.tokens(e.prompt)) for e in examples)
    return Corpus("prompts", rows, tuple(e.group for e in examples))


def _groups(rows: Sequence[Sequence[int]], max_tokens: int) -> list[list[int]]:
    """Indices of rows that run together: by length, so that little is padding."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    groups: list[list[int]] = []
    for i in order:
        if not groups or len(rows[i]) * (len(groups[-1]) + 1) > max_tokens:
            groups.append([])
        groups[-1].append(i)
    return groups


def last_states_with(
    subject: Subject, rows: Sequence[Sequence[int]], site: Site, values: Tensor, max_tokens: int
) -> Float[Tensor, "rows width"]:
    """The last block's state of every row's last token when `values` (rows, width) stand at the site there."""
    out = torch.empty_like(values)
    for group in _groups(rows, max_tokens):
        last = torch.tensor([[len(rows[i]) - 1] for i in group], device=values.device)
        edit = Edit(site, "set", values[group][:, None].to(subject.dtype), last)
        final = subject.run(subject.inputs([rows[i] for i in group]), edits=[edit]).final
        out[group] = final[torch.arange(len(group), device=final.device), last[:, 0]].float()
    return out


def states(subject: Subject, rows: Sequence[Sequence[int]], max_tokens: int, *, last: bool = False) -> States:
    """States of the rows; with `last` only each row's last token."""
    spec = subject.spec()
    sites = [Site(spec.name, b, "resid_pre") for b in range(len(spec.blocks))]
    sites.append(Site(spec.name, len(spec.blocks) - 1, "resid_post"))
    taken = [1 if last else len(row) for row in rows]
    starts = np.cumsum([0, *taken])
    h = torch.empty(len(sites), int(starts[-1]), spec.width, device=subject.device)
    with subject.evaluating():
        for group in _groups(rows, max_tokens):
            longest = len(rows[group[-1]])
            to = torch.cat([torch.arange(starts[i], starts[i + 1]) for i in group]).to(h.device)
            ends = [(j * longest + len(rows[i]), taken[i]) for j, i in enumerate(group)]
            at = torch.cat([torch.arange(end - n, end) for end, n in ends]).to(h.device)
            captured = subject.activations(subject.inputs([rows[i] for i in group]), sites)
            for depth, site in enumerate(sites):
                h[depth, to] = captured[site].flatten(0, 1)[at].float()
    return States(h, np.repeat(np.arange(len(rows)), taken))


def split_rows(c: Corpus, seed: int) -> tuple[Corpus, Corpus]:
    """(texts to fit on, texts held out), by problem: two wordings of one fall on the same side."""
    names = list(dict.fromkeys(c.labels))
    order = np.random.default_rng(seed).permutation(len(names))
    fit = {names[i] for i in order[: int(TRAIN_SHARE * len(order))]}

    def part(side: bool) -> Corpus:
        kept = [i for i, name in enumerate(c.labels) if (name in fit) == side]
        return Corpus(c.name, tuple(c.rows[i] for i in kept), tuple(c.labels[i] for i in kept))

    return part(True), part(False)


def translate(h: Tensor, lens: Tensor) -> Tensor:
    """H + W h + b for each depth: (depths, tokens, width) by (depths, width + 1, width)."""
    return h + torch.baddbmm(lens[:, -1:], h, lens[:, :-1])


def logprobs(subject: Subject, h: Tensor) -> Tensor:
    """Log probabilities that the head reads from states (float32)."""
    return subject.unembed(h.to(subject.dtype)).float().log_softmax(-1)


def fitted(
    ctx: Context, rows: Sequence[tuple[int, ...]], steps: int, start: Start = "ridge"
) -> Float[Tensor, "depths width1 width"]:
    """Translators for all depths but the last, from disk if they were fitted before on the same model and texts.

    With `ctx.fresh`, as in a replay, they are fitted by this process.
    """
    subject = ctx.subject
    now = subject.engine >= SINCE
    identity = {
        "subject": subject.fingerprint, "rows": [list(r) for r in rows], "steps": steps, "start": start,
        "rate": RATE, "seed": ctx.seed,
        "dtype": str(subject.dtype), "device": subject.device.type, "version": SINCE if now else VERSION,
    }  # fmt: skip
    key = hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:32]
    keep = not subject.fingerprint.startswith("random") and not ctx.fresh
    path = _folder() / f"{key}.safetensors"
    key += " fitted here" if ctx.fresh else ""
    if key in _loaded:
        return _loaded[key]
    if keep and path.exists():
        lens = load_file(path)["lens"].to(subject.device)
    else:
        h = states(subject, rows, ctx.max_tokens).h
        lens = fit(subject, h, steps, ctx.seed, zero=start == "zero") if now else _fit(ctx, h, steps, start)
        if keep:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(f".{os.getpid()}.tmp")
            save_file({"lens": lens.contiguous().cpu()}, partial)
            partial.replace(path)
    _loaded.clear()  # one at a time: they are as large as a block
    _loaded[key] = lens
    return lens


def _folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "locus" / "lenses"


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) in nats of log probabilities, over the last axis."""
    return (p.exp() * (p - q)).sum(-1)


# -- before version 3 of the engine -------------------------------------------------------------------------------------


def _fit(ctx: Context, made: Tensor, steps: int, start: Start) -> Tensor:
    h, target = made[:-1], made[-1]
    width = h.shape[-1]
    first = torch.zeros(h.shape[0], width + 1, width, device=h.device) if start == "zero" else _ridge(h, target)
    if steps == 0:
        return first
    with torch.no_grad():
        truth = logprobs(ctx.subject, target)
    with torch.enable_grad():
        lens = _descend(ctx, h, truth, first, steps)
    # A translator that KL steps made worse than none at all is not one: keep the better by depth, on the fitting texts.
    with torch.no_grad():
        candidates = [torch.zeros_like(first), first, lens]
        some = torch.linspace(0, h.shape[1] - 1, min(h.shape[1], JUDGED_ROWS), device=h.device).long()
        losses = torch.stack([_loss(ctx, h[:, some], truth[some], c) for c in candidates])
        best = losses.argmin(0)
        return torch.stack([candidates[int(i)][d] for d, i in enumerate(best)])


def _ridge(h: Tensor, target: Tensor) -> Tensor:
    """Translators by weighted ridge regression onto the last state."""
    # Errors count by what the final norm makes of them: states of small variance are scaled up by it.
    weight = (target.var(-1, unbiased=False) + 1e-5).reciprocal()
    x = torch.cat([h, torch.ones_like(h[..., :1])], -1).double()
    xw = x * weight[None, :, None]
    a, c = xw.transpose(1, 2) @ x, xw.transpose(1, 2) @ (target[None] - h).double()
    a.diagonal(dim1=1, dim2=2).add_(a.diagonal(dim1=1, dim2=2).mean(1, keepdim=True) * RIDGE)
    return torch.linalg.solve(a, c).float()


def _descend(ctx: Context, h: Tensor, truth: Tensor, start: Tensor, steps: int) -> Tensor:
    stretch, back = _whitening(h)
    lens = (back @ start).requires_grad_()
    optimizer = torch.optim.Adam([lens], lr=RATE, betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(ctx.seed)
    n = h.shape[1]
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / steps)
        rows = torch.randint(0, n, (min(n, BATCH_ROWS),), generator=generator).to(h.device)
        here = h[:, rows]
        out = logprobs(ctx.subject, here + torch.baddbmm(stretch[:, -1:], here, stretch[:, :-1]) @ lens)
        loss = -(truth[rows].exp() * out).sum(-1).mean(1).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return stretch @ lens.detach()


def _whitening(h: Tensor) -> tuple[Tensor, Tensor]:
    """For each depth the map under which a state and a one beside it have unit second moments, and its inverse."""
    x = torch.cat([h, torch.ones_like(h[..., :1])], -1).double()
    values, vectors = torch.linalg.eigh(x.transpose(1, 2) @ x / x.shape[1])
    root = (values.clamp(min=0) + FLOOR * values.mean(-1, keepdim=True)).sqrt()
    return (vectors / root[:, None]).to(h.dtype), (vectors * root[:, None]).transpose(1, 2).to(h.dtype)


def _loss(ctx: Context, h: Tensor, truth: Tensor, lens: Tensor) -> Tensor:
    """Mean KL by depth, (depths)."""
    return torch.stack(
        [
            kl(truth, logprobs(ctx.subject, translate(h[d : d + 1], lens[d : d + 1])[0])).mean()
            for d in range(h.shape[0])
        ]
    )
