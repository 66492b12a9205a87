"""Measure one finding again, with torch and transformers alone: python THIS_FILE [FOLDER_OF_THE_MODEL]

The examples, positions and numbers on record are data in this file, images and sounds as the model is given them in the
safetensors file beside it; everything else is computed here, one example at a time, with plain forward hooks. Controls are not
repeated. It prints each effect beside the one on record and ends with 1 if one is elsewhere.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers

DATA: Any = json.loads(r"""{}""")  # filled in by `python -m agent.report RUN --script F1`

Place = dict[str, Any]
INNER = ("attn.q", "attn.k", "attn.v", "cross.q", "cross.k", "cross.v")
Tokens = Any  # of one row, or each of the model's inputs by name: tokens, an array, or its name in the file beside this
Change = tuple[Place, list[int], torch.Tensor]  # where, at which positions, what is put there: (positions, channels)


class Model:
    """A model that can be read and changed on its way."""

    def __init__(self, folder: str) -> None:
        load: Any = getattr(transformers, DATA["loader"]).from_pretrained
        self.net = load(folder, dtype=getattr(torch, DATA["dtype"]), attn_implementation="eager").eval()
        self.stacks: dict[str, Any] = DATA["stacks"]
        self.readout = list(self.stacks)[-1]
        self.where: dict[str, tuple[str, bool]] = {  # part -> module inside a block, whether it is that module's input
            "resid_pre": ("", True), "resid_post": ("", False), "mlp.act": ("mlp_out", True), "mlp.out": ("mlp_out", False),
            "attn.z": ("attention_out", True), "attn.out": ("attention_out", False),
            "cross.z": ("cross_out", True), "cross.out": ("cross_out", False),
        }  # fmt: skip
        self.arrays: dict[str, torch.Tensor] = {}
        if DATA.get("arrays"):
            from safetensors.torch import load_file

            self.arrays = load_file(Path(__file__).with_name(DATA["arrays"]))

    def blocks(self, stack: str = "") -> Any:
        """Of a stack, or of the one that is read out."""
        return self.net.get_submodule(self.stacks[stack or self.readout]["blocks"])

    def channels(self, place: Place, width: int) -> list[int]:
        """The channels of a place: those of its heads in attn.z, else its own."""
        if not place["units"]:
            return list(range(width))
        heads = place["part"] in ("attn.z", "cross.z", *INNER)
        size = width // self.stacks[place.get("stack", self.readout)]["heads"] if heads else 1
        return [u * size + i for u in place["units"] for i in range(size)]

    @torch.no_grad()
    def run(
        self, ids: Tokens, changes: list[Change] | None = None, read: list[Place] | None = None, **more: bool
    ) -> Any:
        """Logits (positions, vocabulary), or of classes (1, classes), what was read, and the model's own output, for one input."""
        named = ids if isinstance(ids, dict) else {"input_ids": ids}
        given = {k: self.arrays[v] if isinstance(v, str) else torch.as_tensor(v) for k, v in named.items()}
        given = {k: v[None] for k, v in given.items()}
        if "pixel_values" not in given:
            more["use_cache"] = False
        found: dict[int, torch.Tensor] = {}
        places = [c[0] for c in changes or []] + (read or [])
        # What lies inside attention is handed on from the outside in: the first that is changed comes first.
        order = [p for p in places if p["part"] not in INNER] + [p for p in reversed(places) if p["part"] in INNER]
        with ExitStack() as hooks:
            for place in order:
                names, block = self._block(place)
                touch = self._touch(place, changes or [], found)
                if place["part"] in INNER:
                    hooks.enter_context(inside(block, place["part"], names.get("cross_out"), touch))
                    continue
                if place["part"] == "resid_mid":
                    hooks.enter_context(middle(block, [names["attention_out"], names.get("cross_out")], touch))
                    continue
                module, before = self.where[place["part"]]
                target = block.get_submodule(names[module]) if module else block
                if before:
                    handle = target.register_forward_pre_hook(lambda _m, a, t=touch: (t(a[0]), *a[1:]))
                else:
                    handle = target.register_forward_hook(
                        lambda _m, _a, out, t=touch: (t(out[0]), *out[1:]) if isinstance(out, tuple) else t(out)
                    )
                hooks.callback(handle.remove)
            out = self.net(**given, **more)
        logits = out.logits[0].float()
        return logits if logits.ndim > 1 else logits[None], [found[id(p)] for p in read or []], out

    def _block(self, place: Place) -> tuple[Any, Any]:
        """What a stack's modules are called, and the block."""
        names = self.stacks[place.get("stack", self.readout)]
        return names, self.net.get_submodule(f"{names['blocks']}.{place['block']}")

    def _touch(self, place: Place, changes: list[Change], found: dict[int, torch.Tensor]) -> Callable[[Any], Any]:
        def touch(h: torch.Tensor) -> torch.Tensor:
            rows = h.reshape(-1, h.shape[-1]).clone()
            for where, at, value in changes:
                if where is place:
                    for i, position in enumerate(at):
                        rows[position, self.channels(place, h.shape[-1])] = value[i].to(rows.dtype)
            found[id(place)] = rows.clone()
            return rows.reshape(h.shape)

        return touch

    def program(self, ids: Tokens, order: list[int], stack: str = "") -> torch.Tensor:
        """Logits with a stack's blocks run in this order, each with the arguments that the model itself gave it."""
        blocks, given = list(self.blocks(stack)), dict[int, Any]()
        with ExitStack() as hooks:
            for i, block in enumerate(blocks):
                hook = block.register_forward_hook(
                    lambda _m, a, k, out, i=i: given.update({i: (a[1:], k, isinstance(out, tuple))}), with_kwargs=True
                )
                hooks.callback(hook.remove)
            self.run(ids)
        own = [block.forward for block in blocks]

        def instead(number: int) -> Callable[..., Any]:
            def forward(state: torch.Tensor, *_: Any, **__: Any) -> Any:
                for i in order if number == 0 else []:  # all of them in the place of the first
                    out = own[i](state, *given[i][0], **given[i][1])
                    state = out[0] if given[i][2] else out
                return (state,) if given[number][2] else state

            return forward

        try:
            for i, block in enumerate(blocks):
                block.forward = instead(i)
            return self.run(ids)[0]
        finally:
            for block in blocks:
                del block.forward


@contextmanager
def inside(block: Any, part: str, cross: str | None, touch: Callable[[Any], Any]) -> Generator[None]:
    """Queries or keys (as they are compared) or values of a block's heads, one for each query head, pass through `touch`.

    cross: what cross-attention's output goes through, in a block that has it.
    """
    file: Any = sys.modules[type(block).__module__]
    own, mine = file.eager_attention_forward, {id(m) for m in block.modules()}
    across = {id(m) for m in block.get_submodule(cross.rpartition(".")[0]).modules()} if cross else set[int]()
    kind, which = part.split(".")
    mine = across if kind == "cross" else mine - across

    def attend(
        module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *more: Any, **named: Any
    ) -> Any:
        if id(module) not in mine:
            return own(module, query, key, value, *more, **named)
        heads, shared = query.shape[1], getattr(module, "num_key_value_groups", None)
        given = {"q": query, **{k: v.repeat_interleave(heads // v.shape[1], 1) for k, v in (("k", key), ("v", value))}}
        given[which] = touch(given[which].transpose(1, 2).flatten(2)).unflatten(2, (heads, -1)).transpose(1, 2)
        try:
            if shared is not None:  # each head has its own by now
                module.num_key_value_groups = 1
            return own(module, *given.values(), *more, **named)
        finally:
            if shared is not None:
                module.num_key_value_groups = shared

    file.eager_attention_forward = attend
    try:
        yield
    finally:
        file.eager_attention_forward = own


@contextmanager
def middle(block: Any, names: list[str | None], touch: Callable[[Any], Any]) -> Generator[None]:
    """What entered a block, with what its attentions have added, passes through `touch` where the last of them writes.

    names: their last modules; None for one that it lacks.
    """
    known: list[torch.Tensor] = []
    *first, last = [block.get_submodule(n) for n in names if n]

    def enter(_m: Any, a: Any) -> None:
        known[:] = [a[0]]

    def add(_m: Any, _a: Any, out: torch.Tensor) -> None:
        known[:] = [known[0] + out]

    def end(_m: Any, _a: Any, out: torch.Tensor) -> torch.Tensor:
        return touch(known[0] + out) - known[0]

    with ExitStack() as hooks:
        for hook in (
            block.register_forward_pre_hook(enter),
            *(m.register_forward_hook(add) for m in first),
            last.register_forward_hook(end),
        ):
            hooks.callback(hook.remove)
        yield


def correct(logits: torch.Tensor, e: Any) -> float:
    """1 where the answer, or one of several that are right, is said: each of its tokens is the most likely one, or its first beats
    the other choices'.
    """
    for offset, (at, target) in enumerate(zip(e["scored"], e["targets"], strict=True)):
        row, right = logits[at], e.get("accepted") or [target]
        if e["choices"] is not None:
            if offset == 0 and row[right].max() < row[e["choices"]].max():
                return 0.0
        elif int(row.argmax()) not in right:
            return 0.0
    return 1.0


def margin(logits: torch.Tensor, e: Any) -> float:
    """Logit of the answer minus that of the foil, where the two first differ."""
    offset, foil = e["foil"]
    row = logits[e["scored"][offset]]
    return float(row[e["targets"][offset]] - row[foil])


def objective(logits: torch.Tensor, e: Any, name: str) -> float:
    """The quantity that the finding is about; more is better."""
    if name == "accuracy":
        return correct(logits, e)
    if name == "margin":
        return margin(logits, e)
    said = logits.log_softmax(-1)
    several = e.get("accepted")  # each of one token
    right = [[t] for t in e["targets"]] if not several else [several]
    total = sum(float(said[at, t].logsumexp(0)) for at, t in zip(e["scored"], right, strict=True))
    return total if name == "nll" else float(torch.tensor(total).exp())


def means(model: Model, places: list[Place], examples: list[Any]) -> dict[int, torch.Tensor]:
    """The mean of each place over the examples' positions, every example counting once."""
    total: dict[int, torch.Tensor] = {}
    for e in examples if places else []:
        _, found, _ = model.run(e["ids"], read=places)
        for p, rows in zip(places, found, strict=True):
            here = rows[e["at"][p["anchor"]]].double().mean(0)
            total[id(p)] = total.get(id(p), torch.zeros_like(here)) + here
    return {k: v / len(examples) for k, v in total.items()}


def changed(model: Model, e: Any, edits: Any, mean: dict[int, torch.Tensor]) -> list[Change]:
    """What is put where in one example."""
    out: list[Change] = []
    places = [d["place"] for d in edits]
    how = edits[0]["how"]
    other = e["others"].get(how)
    rows = model.run(other["ids"] if other else e["ids"], read=places)[1]
    for place, values in zip(places, rows, strict=True):
        at, pick = e["at"][place["anchor"]], model.channels(place, values.shape[-1])
        if how == "zero":
            new = torch.zeros(len(at), len(pick))
        elif how == "mean":
            new = mean[id(place)][pick].expand(len(at), -1)
        else:
            there = other["at"][place["anchor"]]
            new = values[[there[min(i, len(there) - 1)] for i in range(len(at))]][:, pick]
        out.append((place, at, new))
    return out


def effects(model: Model, q: Any, examples: list[Any]) -> list[float]:
    """One value an example."""
    edits = [*q.get("edits", []), *q.get("less", [])]
    mean = means(model, [d["place"] for d in edits if d["how"] == "mean"], examples)
    out: list[float] = []
    for e in examples:
        intact, _, raw = model.run(e["ids"], output_attentions=q["measure"] == "attention")
        if q["measure"] == "above chance":
            out.append(correct(intact, e) - DATA["chance"])
        elif q["measure"] == "attention":
            weights = raw[q.get("of", "attentions")][q["block"]][0, q["head"]].float()
            at = e["at"][q["query"]], e["at"][q["key"]]
            seen = weights[at] if q.get("paired") else weights[at[0]][:, at[1]].sum(-1)
            out.append(float(seen.mean()))
        elif q["measure"] == "read":
            half = DATA["chance"] + (correct(intact, e) - DATA["chance"]) / 2
            logits = model.program(e["ids"], q["order"])
            low, high = -0.5 - DATA["chance"] / 2, 1 - DATA["chance"] / 2
            out.append(q["sign"] * min(max(correct(logits, e) - half, low), high))
        elif q["measure"] == "program":
            name = DATA["objective"]
            out.append(objective(intact, e, name) - objective(model.program(e["ids"], q["order"], q["stack"]), e, name))
        else:
            changes = changed(model, e, q["edits"], mean)
            edited = model.run(e["ids"], changes)[0]
            if q["measure"] == "flips":
                out.append(float(margin(edited, e) < 0) - float(margin(intact, e) < 0))
            else:
                base = (
                    model.run(e["ids"], changed(model, e, q["less"], mean))[0] if q["measure"] == "between" else intact
                )
                lost = objective(base, e, DATA["objective"]) - objective(edited, e, DATA["objective"])
                out.append(-lost if q["measure"] == "rise" else lost)
    return out


MORE: dict[str, Callable[[Model, Any], list[float]]] = {}  # measures that not every script has


def measured(model: Model, q: Any) -> tuple[float, int]:
    """The effect and the number behind it: of a difference between two sets, problem by problem where they share problems."""
    more = MORE.get(q["measure"])
    one = more(model, q) if more else effects(model, q, DATA["examples"])
    if not q.get("minus"):
        return sum(one) / len(one), len(one)
    other = effects(model, q, DATA[q["minus"]])
    mine, theirs = (by_group(v, DATA[k]) for v, k in ((one, "examples"), (other, q["minus"])))
    shared = sorted(set(mine) & set(theirs))
    if shared:
        return sum(mine[g] - theirs[g] for g in shared) / len(shared), len(shared)
    return sum(one) / len(one) - sum(other) / len(other), len(one)


def by_group(values: list[float], examples: list[Any]) -> dict[str, float]:
    """The mean over each independent problem's examples."""
    found: dict[str, list[float]] = {}
    for value, e in zip(values, examples, strict=True):
        found.setdefault(e["group"], []).append(value)
    return {g: sum(v) / len(v) for g, v in found.items()}


def same_weights(folder: str) -> str:
    """Whether the files are those on record."""
    files = sorted(Path(folder).glob("*.safetensors"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + file.read_bytes())
    return (
        "cannot be told"
        if not files or not DATA["weights"]
        else "same"
        if digest.hexdigest() == DATA["weights"]
        else "OTHER"
    )


def interval(q: Any) -> str:
    """The one on record, in words."""
    return "no interval on record" if q["low"] is None else f"interval on record {q['low']:.6f} to {q['high']:.6f}"


def main() -> int:
    """0 where every effect is the one on record, within one example of a share or a thousandth, or what is said beside it."""
    folder = next((a for a in sys.argv[1:] if not a.startswith("-")), DATA["model"])
    model = Model(folder)
    print(
        f"{DATA['finding']} of {DATA['run']}: {DATA['kind']}\n{DATA['sentence']}\nmodel {folder}, weights {same_weights(folder)}"
    )
    apart = 0
    for q in DATA["questions"]:
        value, n = measured(model, q)
        allowed = q.get("allowed", 1 / n if q["share"] else 1e-3 * max(1.0, abs(q["recorded"]))) + 1e-9
        agrees = abs(value - q["recorded"]) <= allowed
        apart += not agrees
        print(
            f"{q['what']}: {value:.6f} here, {q['recorded']:.6f} on record, n={n}: {'agrees' if agrees else 'DIFFERS'}"
            f" (apart by at most {allowed:.6f}; {interval(q)})"
        )
    return 1 if apart else 0


if __name__ == "__main__":
    sys.exit(main())
