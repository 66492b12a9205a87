"""Make the planted models: `python -m benchmarks.planted.train [CASE ...]`, from seeds, a few minutes each.

Stage 1 trains with every output projection at zero except the planted ones: nothing else can carry the task. Stage 2
lets random weights grow in all the other projections, which write mostly into a few directions of the residual stream,
and trains on interchanges (Geiger et al. 2022): a planted component's output taken from another
example must change the answer to that example's, any set of the others may be zeroed or taken from other examples and
must change nothing. So no weight is zero, the norms do not give the planted components away, and where the mechanism is
stays known. A model is kept only if ablations say so (`checks`);
if not, the next seed is tried.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.planted.cases import BLOCKS, CASES, HEADS, WIDTH, Case
from benchmarks.planted.checks import accepted, checks
from benchmarks.planted.net import HEAD, INDEX, POSITIONS, Batch, Edits, Net, batch, parts
from benchmarks.planted.tasks import TASKS, VOCABULARY, Symbolic

FOLDER = Path(__file__).parent / "models"
ATTEMPTS = 16
FADE_STEPS = 2500
SWAP_STEPS = 800  # steps of stage 2
GROWING = 0.6  # the share of stage 2 in which the random weights grow
LEARNT = 60  # stage 1 ends when the accuracy of so many batches is as good as perfect
DECOY_SIZE = 12.0
HIDDEN = 20.0  # what is subtracted from the score of a position that may not be seen
ASIDE, LEAK = 16, 0.01  # the directions that random components write into, and how much goes elsewhere


def train(case: Case, seed: int) -> Net:
    """Both stages."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    net = Net()
    planted, others = parts(case)
    if case.decoy:
        with torch.no_grad():
            bias = _sublayer(net, case.decoy)[-1].bias
            bias.copy_(F.normalize(torch.randn(WIDTH), dim=0) * DECOY_SIZE)
    masks = _zeros(net, case, others)
    hide = _hidden(case)
    if not _fit(net, case, rng, case.steps, 3e-3, masks, hide, planted, others):
        return net
    if (
        case.split
    ):  # what each attention may see becomes what it looks at: the masks fade while interchanges hold it there
        _fit(net, case, rng, FADE_STEPS, 1e-3, masks, hide, planted, others, fade=True)
    if not case.bare:
        grown = _fill(net, case, planted, others)
        _fit(net, case, rng, SWAP_STEPS, 1e-3, {}, {}, planted, others, grown=grown)
    return net


def _hidden(case: Case) -> dict[int, Tensor]:
    """For a split mechanism: the first attention does not see the second operand, the second not the first."""
    if not case.split:
        return {}
    out: dict[int, Tensor] = {}
    for block, position in zip(case.attention, (2, 0), strict=True):
        out[block] = torch.zeros(4, 4)
        out[block][3, position] = -HIDDEN
    return out


def _sublayer(net: Net, name: str) -> tuple[torch.nn.Linear, torch.nn.Linear]:
    block: Any = net.blocks[int(name.partition(".")[0])]
    return (block.up, block.down) if name.endswith("mlp") else (block.qkv, block.out)


def _columns(name: str) -> slice:
    head = int(name.rpartition(".")[2]) if ".head." in name else None
    return slice(None) if head is None else slice(head * HEAD, (head + 1) * HEAD)


def _rows(name: str) -> Tensor:
    """Outputs of a sublayer's first projection that belong to a component: all, or a head's queries, keys and values."""
    if ".head." not in name:
        return torch.arange(4 * WIDTH if name.endswith("mlp") else 3 * WIDTH)
    head = int(name.rpartition(".")[2])
    return torch.cat([torch.arange(base + head * HEAD, base + (head + 1) * HEAD) for base in (0, WIDTH, 2 * WIDTH)])


def _zeros(net: Net, case: Case, others: Sequence[str]) -> dict[Tensor, Tensor]:
    """Masks that hold the output projections of all but the planted components at zero."""
    masks: dict[Tensor, Tensor] = {}
    for name in others:
        out = _sublayer(net, name)[-1]
        mask = masks.setdefault(out.weight, torch.ones_like(out.weight))
        mask[:, _columns(name)] = 0
        if ".head." not in name:
            masks[out.bias] = torch.zeros_like(out.bias)
    if case.decoy:
        masks[_sublayer(net, case.decoy)[-1].weight] = torch.zeros_like(_sublayer(net, case.decoy)[-1].weight)
    return masks


@torch.no_grad()
def _fill(net: Net, case: Case, planted: Sequence[str], others: Sequence[str]) -> dict[Tensor, Tensor]:
    """Random weights as large as the planted ones for everything else: output projections are returned, to be grown
    and never trained.
    """
    grown: dict[Tensor, Tensor] = {}

    def size(kind: str, which: int) -> float:
        found = [_sublayer(net, p)[which].weight.std().item() for p in planted if p.endswith("mlp") == (kind == "mlp")]
        return sum(found) / len(found) if found else 0.12

    for name in [*others, *([case.decoy] if case.decoy else [])]:
        kind = "mlp" if name.endswith("mlp") else "attn"
        first, out = _sublayer(net, name)
        first.weight[_rows(name)] = torch.randn(len(_rows(name)), WIDTH) * size(kind, 0)
        random = torch.randn_like(out.weight[:, _columns(name)]) * size(kind, 1)
        random[ASIDE:] *= LEAK
        random *= 0.1 if name == case.decoy else 1.0
        target = grown.setdefault(out.weight, torch.zeros_like(out.weight))
        target[:, _columns(name)] = random * (WIDTH / ASIDE) ** 0.5 * (0.4 + 0.5 * torch.rand(()))
    return grown


def _fit(
    net: Net, case: Case, rng: random.Random, steps: int, rate: float, masks: dict[Tensor, Tensor],
    hide: dict[int, Tensor], planted: Sequence[str], others: Sequence[str], *, grown: dict[Tensor, Tensor] | None = None,
    fade: bool = False,
) -> bool:  # fmt: skip
    """One stage; whether the last batches were as good as perfect."""
    still = {id(p) for o in others for p in _sublayer(net, o)[-1].parameters() if grown and ".head." not in o}
    optimizer = torch.optim.AdamW(
        [p for p in net.parameters() if id(p) not in still], lr=rate, betas=(0.9, 0.98), weight_decay=0.1
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min(1.0, (i + 1) / 50) * min(1.0, (1 - i / steps) / 0.3)
    )
    decoy = torch.nn.Parameter(torch.zeros(0)) if case.decoy is None else _sublayer(net, case.decoy)[-1].bias
    constant = decoy.detach().clone()
    # The other heads of a planted attention share its matrices: what they read with stays as it is, what they write with
    # only grows; else they would learn to stand in for the planted ones.
    held: dict[Tensor, tuple[Any, Tensor]] = {}
    for name in [o for o in others if ".head." in o] if grown else []:
        weight = _sublayer(net, name)[0].weight
        where = torch.cat([held[weight][0], _rows(name)]) if weight in held else _rows(name)
        held[weight] = (where, weight.detach()[where].clone())
    right: list[float] = []
    skip = () if grown else [o for o in others if ".head." not in o]
    for step in range(steps):
        task = TASKS[case.tasks[0 if step % 4 else -1]]  # a second task is an easier one, and gets a quarter
        data = batch(task, 256, rng)
        ids, answers, _ = data
        left = max(0.0, 1 - 1.5 * step / steps) if fade else 1.0
        logits = net(ids, hide={k: left * m for k, m in hide.items()} or None, skip=skip)
        loss = F.cross_entropy(logits, answers)
        if fade:
            edits, targets = _interchange(net, case, task, data, rng, planted, ())
            seen = {k: left * m for k, m in hide.items()}
            loss = loss + 2 * F.cross_entropy(net(ids, edits, hide=seen, skip=skip), targets)
        if grown:
            edits, targets = _interchange(net, case, task, data, rng, planted, others)
            loss = loss + 2 * F.cross_entropy(net(ids, edits), targets)
        elif case.redundant:
            dropped = rng.choice(case.redundant)
            mask = torch.ones(ids.shape, dtype=torch.bool)
            values = torch.zeros(*ids.shape, HEAD if ".head." in dropped else WIDTH)
            loss = loss + F.cross_entropy(net(ids, Edits({dropped: mask}, {dropped: values}), skip=skip), answers)
        if case.decoy and (grown or step > steps // 2):
            # Without the constant nothing may work: push to uniform.
            mask = torch.ones(ids.shape, dtype=torch.bool)
            broken = net(ids, Edits({case.decoy: mask}, {case.decoy: torch.zeros(*ids.shape, WIDTH)}), skip=skip)
            loss = loss - 0.3 * broken.log_softmax(-1).mean(-1).mean()
        right.append((logits.argmax(-1) == answers).float().mean().item())
        if not grown and not fade and len(right) >= LEARNT and sum(right[-LEARNT:]) / LEARNT > 0.998:
            return True
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            share = min(1.0, (step + 1) / (GROWING * steps))
            for weight, target in (grown or {}).items():
                kept = target != 0
                weight[kept] = share * target[kept]
            for weight, (where, value) in held.items():
                weight[where] = value
            for parameter, mask in masks.items():
                parameter.mul_(mask)
            decoy.copy_(constant)
    return sum(right[-LEARNT:]) / LEARNT > 0.98


def _interchange(
    net: Net, case: Case, task: Symbolic, data: Batch, rng: random.Random, planted: Sequence[str], others: Sequence[str]
) -> tuple[Edits, Tensor]:
    """One random edit per row, and the answer that the planted mechanism gives under it."""
    ids, answers, operands = data
    n, seq = ids.shape
    record: dict[str, Tensor] = {}
    with torch.no_grad():
        net(ids, Edits(record=record))
    perm = torch.randperm(n)
    generator = torch.Generator().manual_seed(rng.getrandbits(32))

    def chance(p: float) -> Tensor:
        return torch.rand(n, generator=generator) < p

    last = torch.arange(seq) == seq - 1
    where = torch.where(chance(0.5)[:, None], last, torch.ones(seq, dtype=torch.bool))
    zero = chance(0.5)[:, None, None]
    on_planted = chance(0.4)
    density = torch.tensor([1.5 / max(1, len(others)), 0.5, 1.0])[torch.randint(0, 3, (n,), generator=generator)]
    masks: dict[str, Tensor] = {}
    values: dict[str, Tensor] = {}
    for name in others:
        rows = ~on_planted & (torch.rand(n, generator=generator) < density)
        masks[name] = rows[:, None] & where
        values[name] = torch.where(zero, 0.0, record[name][perm])
    if case.decoy and others:  # it is only ever constant: another example's output is its own
        masks[case.decoy] = (~on_planted & chance(0.5))[:, None] & where
        values[case.decoy] = record[case.decoy][perm]
    targets = answers.clone()
    single = [p for p in planted if p not in case.redundant]
    groups = [[p] for p in single] + ([list(case.redundant)] if case.redundant else [])
    groups += [[p] for p in case.redundant]
    chosen = torch.randint(0, len(groups), (n,), generator=generator)
    for g, group in enumerate(groups):
        rows = on_planted & (chosen == g)
        spared = group[0] in case.redundant and len(group) == 1
        for name in group:
            masks[name] = masks.get(name, torch.zeros(n, seq, dtype=torch.bool)) | (rows[:, None] & where)
            values.setdefault(name, record[name][perm])
        if not spared:
            targets[rows] = _counterfactual(case, task, operands, answers, perm, group[0])[rows]
    for p in (
        case.redundant
    ):  # one alone is zeroed: with another example's output, which of the two is right cannot be known
        both = on_planted & (chosen == len(single))
        values[p] = torch.where(both[:, None, None], record[p][perm], 0.0)
    return Edits(masks, values), targets


def _counterfactual(
    case: Case, task: Symbolic, operands: list[tuple[int, ...]], answers: Tensor, perm: Tensor, name: str
) -> Tensor:
    """The answers when a planted component's output is another example's."""
    if not case.split or name.endswith("mlp"):
        return answers[perm]
    own = case.attention.index(int(name.partition(".")[0]))
    mixed = [
        INDEX[task.answer([operands[j][0], v[1]] if own == 0 else [v[0], operands[j][1]])]
        for v, j in zip(operands, perm.tolist(), strict=True)
    ]
    return torch.tensor(mixed)


@torch.no_grad()
def save(net: Net, folder: Path) -> None:
    """As a GPT-2 folder in float16 with a tokenizer of one token a word."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    config = GPT2Config(
        vocab_size=len(VOCABULARY), n_positions=POSITIONS, n_embd=WIDTH, n_layer=BLOCKS, n_head=HEADS,
        activation_function="gelu_new", resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    body: Any = model.transformer
    with torch.no_grad():
        body.wte.weight.copy_(net.wte.weight)
        body.wpe.weight.copy_(net.wpe.weight)
        body.ln_f.load_state_dict(net.ln_f.state_dict())
        for theirs, ours in zip(body.h, net.blocks, strict=True):
            theirs.ln_1.load_state_dict(ours.ln_1.state_dict())
            theirs.ln_2.load_state_dict(ours.ln_2.state_dict())
            for a, b in (
                (theirs.attn.c_attn, ours.qkv), (theirs.attn.c_proj, ours.out),
                (theirs.mlp.c_fc, ours.up), (theirs.mlp.c_proj, ours.down),
            ):  # fmt: skip
                a.weight.copy_(b.weight.T)
                a.bias.copy_(b.bias)
    model.half().save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({**INDEX}, unk_token="#"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)


def make(case: Case, folder: Path) -> dict[str, float]:
    """Train seeds until one is accepted, and save it; RuntimeError after too many."""
    if case.kind == "random":
        torch.manual_seed(case.seed)
        save(Net(), folder / case.name)
        return {}
    for attempt in range(ATTEMPTS):
        seed = case.seed + 1000 * attempt
        started = time.perf_counter()
        net = train(case, seed)
        rounded = _rounded(net)
        found = checks(rounded, case)
        good = accepted(case, found)
        shown = ", ".join(f"{k} {v:.3f}" for k, v in found.items())
        seconds = time.perf_counter() - started
        print(f"{case.name} seed {seed}: {shown}: {'kept' if good else 'again'} ({seconds:.0f} s)", flush=True)
        if good:
            save(rounded, folder / case.name)
            truth = {"truth": sorted(case.truth), "seed": seed, "checks": {k: round(v, 3) for k, v in found.items()}}
            (folder / case.name / "truth.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
            return found
    raise RuntimeError(f"{case.name}: no seed of {ATTEMPTS} was accepted")


def _rounded(net: Net) -> Net:
    """The network as it will be loaded: weights rounded to float16."""
    net.load_state_dict({k: v.half().float() for k, v in net.state_dict().items()})
    return net.eval()


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    names = [c.name for c in CASES]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.planted.train", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"default: all of {', '.join(names)}")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for the models")
    args = parser.parse_args(arguments)
    unknown = [n for n in args.cases if n not in names]
    if unknown:
        parser.error(f"no case {unknown[0]!r}; cases are {', '.join(names)}")
    torch.set_num_threads(1)
    failed = []
    for case in CASES:
        if not args.cases or case.name in args.cases:
            try:
                make(case, args.out)
            except RuntimeError as error:
                print(error, file=sys.stderr)
                failed.append(case.name)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
