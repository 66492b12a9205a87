"""Claims of each further kind that are not so: wrong source, path, head, position, class of token, block, label, dose, program."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.claims.case import Case, about, adopted, assertion
from benchmarks.claims.stage import World
from benchmarks.claims.worlds import Worlds

Fields = Mapping[str, Any]
BOTH = ("resample(donor)", "zero")


@dataclass(frozen=True)
class Table:
    """What is true of some programs, and changes of it that are not.

    program: a compiled one. A word in braces is where one of its steps lies, with the part that it names: {copy.z} is
    decoder.2.attn.z[1]; {free} a block without a step, {idle.z} a head that takes no part, another one each time, {none.z}
    one that is zero throughout (an idle one may look where a true one looks). A change of None leaves the field out.
    """

    program: str
    true: Fields
    false: Sequence[Fields]
    examples: int = 96


def made(group: str, kind: str, tables: Sequence[Table], worlds: Worlds, rng: random.Random, n: int) -> Iterator[Case]:
    """Hostile claims of a kind, the tables and their changes in turn, on three seeds of each program."""
    each = [(t, change) for t in tables for change in t.false]
    for i in range(n):
        table, change = each[i % len(each)]
        w = worlds.get(f"{table.program}-{(i // len(each) + i) % 3}")
        place = _places(w, rng)
        true = {**about(w.task, kind, examples=table.examples), **_filled(table.true, place)}
        false = {k: v for k, v in {**true, **_filled(change, place)}.items() if v is not None}
        if false == true:  # the block after which it can be read is this model's last one, say
            false = {**true, "components": ["decoder.99.resid_post@answer"]}
        yield Case(group, w.name, _words(change, place), assertion(false), assertion(true), adopted)


def _places(w: World, rng: random.Random) -> dict[str, str]:
    """Where steps and idle parts lie, by the words that stand for them."""
    if w.facts is None:
        return {}
    plan = w.facts.plan
    busy = {block for block, _ in plan.places.values()}
    free = sorted(set(range(plan.blocks)) - busy)
    idle = rng.choice(sorted(p for p in plan.idle if p[1] is not None))
    none = rng.choice(sorted(p for p, k in plan.idle.items() if p[1] is not None and k == "zero") or [(99, 0)])
    words = {"last": str(plan.blocks - 1), "free": str(free[0]) if free else "0"}
    for name, (block, head) in {**plan.places, "idle": idle, "none": none}.items():
        words[f"block {name}"] = str(block)
        words |= {f"{name}.{part}": f"decoder.{block}.attn.{part}[{head}]" for part in ("z", "q", "k", "v", "pattern")}
        words[f"{name}.mlp"], words[f"{name}.attn"] = f"decoder.{block}.mlp.out", f"decoder.{block}.attn.out"
    return words


def _filled(fields: Fields, words: Mapping[str, str]) -> dict[str, Any]:
    def put(value: Any) -> Any:
        if isinstance(value, str):
            for word, place in words.items():
                value = value.replace("{" + word + "}", place)
            assert "{" not in value, value
            return value
        return [put(v) for v in value] if isinstance(value, list | tuple) else value

    return {k: put(v) for k, v in fields.items()}


def _words(change: Fields, words: Mapping[str, str]) -> str:
    return ", ".join(f"{k} {v}" for k, v in _filled(change, words).items())


PAIR = ["{copy.z}@answer", "{again.z}@answer"]
MINIMAL = (
    Table(
        "backup", {"components": PAIR, "interventions": ["zero"]},
        [
            {"components": [*PAIR, "{idle.z}@answer"]}, {"components": ["{copy.z}@answer", "{idle.z}@answer"]},
            {"components": ["{copy.z}@answer"]}, {"components": [*PAIR, "decoder.{free}.mlp.out@answer"]},
            {"components": ["{copy.z}@answer", "{again.z}@item"]}, {"components": ["{copy.z}@answer", "{copy.attn}@answer"]},
            {"components": [*PAIR, "{copy.z}@item", "{again.z}@item"]}, {"components": ["{copy.z}@-3", "{again.z}@-3"]},
        ],
    ),
    Table(
        "vote", {"components": ["{copy.z}@answer", "{again.z}@answer", "{thrice.z}@answer"], "interventions": ["zero"]},
        [
            {"components": ["{copy.z}@answer", "{idle.z}@answer", "{thrice.z}@answer"]},
            {"components": ["{copy.z}@answer", "{again.z}@answer", "{thrice.z}@answer", "{idle.z}@answer"]},
            {"components": ["{copy.z}@answer", "{again.z}@answer", "{thrice.z}@item"]},
            {"components": ["{idle.z}@answer", "decoder.{block idle}.mlp.out@answer"]},
        ],
    ),
)  # fmt: skip
SENDS = (
    Table(
        "previous", {"path": "{copy.z}@answer -> decoder.logits@answer"},
        [
            {"path": "{idle.z}@answer -> decoder.logits@answer"}, {"path": "{copy.z}@item -> decoder.logits@answer"},
            {"path": "decoder.logits@answer -> {copy.z}@answer"},
        ],
    ),
    Table(
        "induction", {"path": "{prev.z}@value -> {match.k}@value", "interventions": list(BOTH)},
        [
            {"path": "{prev.z}@value -> {match.v}@value"}, {"path": "{prev.z}@answer -> {match.k}@answer"},
            {"path": "{prev.z}@value -> {match.q}@answer"}, {"path": "{match.z}@answer -> {prev.k}@answer"},
            {"path": "{idle.z}@value -> {match.k}@value"},
        ],
    ),
    Table(
        "relay", {"path": "{fetch.z}@marker -> {hand.v}@marker -> decoder.logits@answer"},
        [
            {"path": "{fetch.z}@marker -> {hand.k}@marker -> decoder.logits@answer"},
            {"path": "{fetch.z}@marker -> decoder.logits@answer"},
            {"path": "{fetch.z}@answer -> {hand.v}@marker -> decoder.logits@answer"},
        ],
    ),
)  # fmt: skip
ATTENDS = (
    Table(
        "induction", {"components": ["{match.pattern}@answer<-value"]},
        [
            {"components": ["{match.pattern}@answer<-key"]}, {"components": ["{prev.pattern}@answer<-value"]},
            {"components": ["{none.pattern}@answer<-value"]}, {"components": ["{match.pattern}@value<-key"]},
            {"components": ["{match.pattern}@answer<-0"]},
            {"components": ["{match.pattern}@answer<-value", "{prev.pattern}@answer<-value"]},
        ],
    ),
    Table(
        "previous", {"components": ["{copy.pattern}@answer<-item"]},
        [
            {"components": ["{copy.pattern}@item<-answer"]}, {"components": ["{copy.pattern}@answer<-0"]},
            {"components": ["{copy.z}@answer"]}, {"components": ["{copy.pattern}@answer<--1"]},
        ],
    ),
)  # fmt: skip
MATCHES = (
    Table(
        "induction", {"components": ["{match.pattern}"], "label": "after same token"},
        [
            {"label": "same token"}, {"label": "previous"}, {"components": ["{prev.pattern}"]}, {"components": ["{none.pattern}"]},
            {"label": "next token"}, {"components": ["{match.pattern}", "{prev.pattern}"]},
        ],
        64,
    ),
    Table(
        "induction", {"components": ["{prev.pattern}"], "label": "previous"},
        [
            {"label": "after same token"}, {"label": "same token"}, {"components": ["{match.pattern}"]},
            {"components": ["{none.pattern}"]},
        ],
        64,
    ),
)  # fmt: skip
READABLE = (
    Table(
        "previous", {"components": ["decoder.{block copy}.resid_post@answer"]},
        [
            {"components": ["decoder.{block copy}.resid_pre@answer"]}, {"components": ["decoder.{last}.resid_post@answer"]},
            {"components": ["decoder.{block copy}.resid_post@item"]}, {"components": ["decoder.0.resid_pre@answer"]},
            {"components": ["{copy.z}@answer"]},
        ],
    ),
)  # fmt: skip
DECODABLE = (
    Table(
        "previous", {"components": ["{copy.z}@answer"], "label": "answer"},
        [
            {"components": ["{none.z}@answer"]}, {"components": ["{copy.z}@item"]}, {"label": "coin"}, {"label": "always"},
            {"components": ["decoder.0.resid_pre@answer"]},
        ],
        128,
    ),
    Table(
        "shadow", {"components": ["{copy.z}@answer"], "label": "answer"},
        [{"components": ["{none.z}@answer"]}, {"label": "coin"}], 128,
    ),
)  # fmt: skip
STEERS = (
    Table(
        "previous", {"components": ["{copy.z}@answer"], "label": "answer", "interventions": ["add(label, 2)"]},
        [
            {"interventions": ["add(label, -2)"]}, {"interventions": ["add(label, 0)"]}, {"interventions": ["add(label, 0.01)"]},
            {"components": ["{idle.z}@answer"]}, {"components": ["{copy.z}@item"]}, {"label": "coin"},
            {"interventions": ["add(random, 2)"]}, {"interventions": ["add(label, 1e30)"]},
            {"interventions": ["add(dir:mine~000000000000, 2)"]}, {"interventions": ["zero"]},
        ],
    ),
)  # fmt: skip
DIFFERS = (
    Table(
        "routes", {"components": ["{near.z}@answer"], "among": "class=near", "other_among": "class=far"},
        [
            {"among": "class=far", "other_among": "class=near"}, {"other_among": "class=near"}, {"components": ["{idle.z}@answer"]},
            {"components": ["{far.z}@answer"]}, {"among": "coin=0", "other_among": "coin=1"}, {"other_among": "class=nowhere"},
            {"other_among": None}, {"other_among": None, "other_task": "addition"},
        ],
    ),
    Table(
        "routes", {"components": ["{far.z}@answer"], "among": "class=far", "other_among": "class=near"},
        [{"among": "class=near", "other_among": "class=far"}, {"among": "class=far,coin=0", "other_among": "class=far,coin=1"}],
    ),
)  # fmt: skip
DISAGREE = (
    Table(
        "constant", {"components": ["{always.mlp}@answer"], "label": "zero"},
        [
            {"label": "resample(donor)"}, {"components": ["{map.mlp}@answer"]}, {"components": ["{idle.z}@answer"]},
            {"components": ["{copy.z}@answer"]}, {"interventions": ["zero"]}, {"label": "mean"}, {"label": ""},
            {"components": ["{always.mlp}@item"]}, {"components": ["{map.mlp}@answer"], "label": "resample(donor)"},
            {"interventions": ["zero", "mean"], "label": "mean"},
        ],
    ),
)  # fmt: skip
SUPPRESSES = (
    Table(
        "held", {"components": ["{hold.z}@answer"], "objective": "margin"},
        [
            {"components": ["{copy.z}@answer"]}, {"components": ["{hold.z}@item"]}, {"components": ["{idle.z}@answer"]},
            {"components": ["{hold.z}@answer", "{copy.z}@answer"]}, {"objective": "accuracy"},
            {"objective": "nll", "components": ["{copy.z}@answer"]},
        ],
    ),
)  # fmt: skip
TOLERATES = (
    Table(
        "previous", {"program": "skip {free}"},
        [
            {"program": "skip {block copy}"}, {"program": "keep {free}"}, {"program": "skip 99"}, {"program": "repeat {free} x1"},
            {"program": "keep 0-{last}"}, {"program": "skip 0-{last}"}, {"program": "skip {block copy},{free}"},
            {"program": "fast"},
            {"program": "skip {free}", "smallest": 0.9}, {"program": "permute 0-{last}"},
        ],
    ),
)  # fmt: skip
BREAKS = (
    Table(
        "previous", {"program": "skip {block copy}"},
        [
            {"program": "skip {free}"}, {"program": "keep 0-{last}"}, {"program": "skip 99"}, {"program": "repeat {free} x1"},
            {"program": "fast"}, {"program": "permute 0-{last}"}, {"program": "skip"}, {"program": "elsewhere: skip 0"},
            {"program": "skip {block copy}", "smallest": 1.5}, {"program": "skip {block copy}", "smallest": 0.0001},
        ],
    ),
)  # fmt: skip
CARRIES_NOTHING = (
    Table(
        "previous", {"components": ["{copy.z}@item"]},
        [
            {"components": ["decoder.{block copy}.resid_pre@item"]}, {"components": ["{copy.z}@answer"]},
            {"components": ["decoder.{block copy}.attn.out@answer"]}, {"components": ["decoder.{last}.resid_post@answer"]},
            {"components": ["decoder.99.resid_pre@item"]}, {"components": ["decoder.0.resid_pre@item"]},
            {"components": ["{copy.z}@nobody"]}, {"components": ["{copy.z}@item"], "smallest": 0.9},
            {"components": ["decoder.0.resid_pre@all"]}, {"components": ["{copy.z}@item", "{copy.z}@answer"]},
        ],
    ),
)  # fmt: skip
ENCODED = ["encoder.2.resid_post"]
SIMILAR = (
    Table(
        "translator",
        {
            "task": "translation:source=kel,target=tiv", "other_task": "translation:source=sor,target=tiv",
            "components": ENCODED,
        },
        [
            {"components": ["encoder.0.resid_pre@target_language"]}, {"components": ["decoder.0.resid_pre@answer"]},
            {"components": ["encoder.99.resid_post"]}, {"components": [*ENCODED, "encoder.0.resid_pre"]},
            {"other_task": "translation:source=kel,target=tiv"}, {"other_task": None}, {"other_task": "gap_sense"},
            {"smallest": 1.5}, {"components": ["encoder.2.resid_post@nobody"]}, {"components": ["elsewhere.2.resid_post"]},
        ],
    ),
)  # fmt: skip
KINDS = {
    "minimality": ("jointly_necessary", MINIMAL), "sends": ("sends", SENDS), "attends": ("attends", ATTENDS),
    "matches": ("matches", MATCHES), "readable": ("readable", READABLE), "decodable": ("decodable", DECODABLE),
    "steers": ("steers", STEERS), "differs": ("differs", DIFFERS), "disagree": ("disagree", DISAGREE),
    "suppresses": ("suppresses", SUPPRESSES), "tolerates": ("tolerates", TOLERATES),
    "breaks": ("breaks", BREAKS), "carries_nothing": ("carries_nothing", CARRIES_NOTHING),
    "similar": ("similar", SIMILAR),
}  # fmt: skip


def _class(group: str) -> Any:
    kind, tables = KINDS[group]

    def make(worlds: Worlds, rng: random.Random, n: int) -> Iterator[Case]:
        return made(group, kind, tables, worlds, rng, n)

    make.__name__ = group
    return make


CLASSES = tuple(_class(group) for group in KINDS)
