"""Two findings that contradict each other, and findings that the run's own data contradict: the second must not stand."""

import random
from collections.abc import Iterator
from typing import Any

from benchmarks.claims.case import Case, about, one
from benchmarks.claims.flow import world_of
from benchmarks.claims.stage import Played, Script
from benchmarks.claims.worlds import Worlds, facts, idle, needed

Fields = dict[str, Any]


def last_stands(played: Played) -> bool:
    """Whether the finding that was predicted last stands, is claimed, or speaks in the headline."""
    sealed = [a.handle for c, a in played.answers if c.name == "predict" and a.status == "ok"]
    standing = {f.handle for f in played.record.findings() if f.stands}
    claimed = {c.finding for c in played.record.claims()}
    return bool(sealed) and sealed[-1] in standing | claimed | played.headline


def together(first: Fields, second: Fields) -> Script:
    """Both in one round, and the second claimed."""
    return (
        one(("examine", first), ("examine", second)),
        one(("predict", {"experiment": "E1"}), ("predict", {"experiment": "$E"})),
        one(("confirm", {})),
        one(("claim", {"finding": "$F"}), ("finish", {"answer": "found"})),
    )


def in_turn(first: Fields, second: Fields) -> Script:
    """One round each, the first taken back before the second is claimed."""
    return (
        one(("examine", first)),
        one(("predict", {"experiment": "$E"})),
        one(("confirm", {})),
        one(("retract", {"finding": "F1", "reason": "The donors were odd."}), ("examine", second)),
        one(("predict", {"experiment": "$E"})),
        one(("confirm", {})),
        one(("claim", {"finding": "$F"}), ("finish", {"answer": "found"})),
    )


def looked(first: Fields, second: Fields) -> Script:
    """The run's own ablations say what is so; what they contradict is examined, predicted and claimed."""
    removal = {"task": first["task"], "components": first["components"], "intervention": "zero"}
    return (
        one(("loss", {"tasks": [first["task"]]})),
        one(("ablate", removal), ("note", {"text": "The ablation settles it."})),
        one(("examine", second)),
        one(("predict", {"experiment": "$E"})),
        one(("confirm", {})),
        one(("claim", {"finding": "$F"}), ("finish", {"answer": "found"})),
    )


def at_odds(worlds: Worlds, rng: random.Random, n: int) -> Iterator[Case]:
    """What contradicts a finding of the same run, or its data, beside what differs in one field and does not."""
    for i in range(n):
        w = world_of(worlds, rng)
        if i % 12 in (4, 5):
            w = worlds.get(f"{('backup', 'vote')[i % 2]}-{rng.randrange(3)}")
        if i % 12 == 9:
            w = worlds.get(f"routes-{rng.randrange(3)}")
        task, spare = w.task, [c for c in idle(w) if not c.startswith("decoder.99")]
        if i % 12 in (4, 5):
            team = list(facts(w, "jointly_necessary")[0].components)
            set_ = about(task, "jointly_necessary", team, interventions=["zero"])
            gone = about(task, "not_needed", team, interventions=["zero"])
            rows = ("a set that is needed is not", together, set_, gone, {**gone, "components": spare[:1]})
        elif i % 12 == 9:
            fact = next(f for f in facts(w, "necessary") if f.of_class is not None)
            here, there = f"class={fact.of_class}", f"class={ {'near': 'far', 'far': 'near'}[str(fact.of_class)] }"
            first = about(task, "necessary", list(fact.components), among=here)
            second = about(task, "not_needed", list(fact.components), among=here)
            rows = ("needed and not, for one class", together, first, second, {**second, "among": there})
        else:
            right = needed(w)[0]
            needs, spared = about(task, "necessary", [right]), about(task, "not_needed", spare[:1])
            wrongly, also = about(task, "not_needed", [right]), about(task, "necessary", spare[:1])
            enough = about(task, "sufficient", spare[:1], universe=[right, *spare[:3]])
            can = about(task, "capability")
            fewer = {"examples": 80}
            rows = {
                0: ("needed and not needed", together, needs, wrongly, {**wrongly, "components": spare[:1]}),
                1: ("not needed and needed", together, spared, also, {**also, "components": [right]}),
                2: ("needed for what it cannot do", together, needs, {**can, "kind": "cannot"}, can),
                3: ("enough without what is needed", together, needs, enough, {**enough, "components": [right]}),
                6: ("taken back, then the opposite", in_turn, needs, {**wrongly, **fewer}, {**spared, **fewer}),
                7: ("not needed, then needed", in_turn, spared, {**also, **fewer}, {**needs, **fewer}),
                8: ("the ablation says that it is needed", looked, needs, wrongly, {**wrongly, "components": spare[:1]}),
                10: ("the ablation says that it is not", looked, spared, also, {**also, "components": [right]}),
                11: ("the loss says that it can", looked, needs, {**can, "kind": "cannot"}, can),
            }[i % 12]  # fmt: skip
        words, play, first, wrong, true = rows
        yield Case("at odds", w.name, words, play(first, wrong), play(first, true), last_stands)


CLASSES = (at_odds,)
