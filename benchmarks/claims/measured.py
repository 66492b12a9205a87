"""Claims that the data do not bear out: wrong place, direction, ablation, class of examples, joint for each and each for joint."""

import random
from collections.abc import Iterator

from benchmarks.claims.case import Case, about, adopted, assertion
from benchmarks.claims.stage import World
from benchmarks.claims.worlds import Worlds, facts, idle, needed, ops

LISTS = ("previous", "skip")
BOTH = ["resample(donor)", "zero"]


def _pair(group: str, world: World, words: str, hostile: dict[str, object], true: dict[str, object]) -> Case:
    """Two statements that differ in one field."""
    differ = {k for k in {*hostile, *true} if hostile.get(k) != true.get(k)}
    assert len(differ) == 1, f"{group}: {words} differs in {differ}"
    return Case(group, world.name, words, assertion(hostile), assertion(true), adopted)


def _lists(worlds: Worlds, rng: random.Random) -> World:
    return worlds.get(f"{rng.choice(LISTS)}-{rng.randrange(3)}")


def wrong_component(worlds: Worlds, rng: random.Random, n: int) -> Iterator[Case]:
    """Necessary: a place that takes no part, that does not exist, or the right one at another position."""
    for i in range(n):
        w = _lists(worlds, rng)
        right = rng.choice(needed(w))
        block = right.split(".")[1]
        wrong = [
            rng.choice(idle(w)), right.replace(f".{block}.", ".99."), "decoder.99.mlp.out@answer", right.replace("@answer", "@-3"),
            right.split("[")[0] + "[99]@answer", right.replace("decoder", "encoder"), right.replace("@answer", "@item"),
            rng.choice(idle(w)),
        ][i % 8]  # fmt: skip
        yield _pair(
            "wrong component", w, wrong, about(w.task, "necessary", [wrong]), about(w.task, "necessary", [right])
        )


def wrong_direction(worlds: Worlds, rng: random.Random, n: int) -> Iterator[Case]:
    """The opposite of what is so."""
    for i in range(n):
        if i % 4 == 3:
            w = worlds.get(f"unable-{i % 3}") if i % 8 == 3 else _lists(worlds, rng)
            does = "unable" not in w.name
            true, wrong = ("capability", "cannot") if does else ("cannot", "capability")
            yield _pair("wrong direction", w, wrong, about(w.task, wrong), about(w.task, true))
            continue
        w = _lists(worlds, rng)
        place, true, wrong = (
            (rng.choice(needed(w)), "necessary", "not_needed")
            if i % 2
            else (rng.choice(idle(w)), "not_needed", "necessary")
        )
        yield _pair(
            "wrong direction", w, f"{wrong} {place}", about(w.task, wrong, [place]), about(w.task, true, [place])
        )


def wrong_type(worlds: Worlds, rng: random.Random, n: int) -> Iterator[Case]:
    """Under an ablation, or under two, where it holds under another one only."""
    for i in range(n):
        w = worlds.get(f"constant-{rng.randrange(3)}")
        place = [next(f.components[0] for f in facts(w, "necessary") if f.ops == ("zero",))]
        kind, holds = (("necessary", ["zero"]), ("not_needed", ["resample(donor)"]))[i % 2]
        wrong = [BOTH, [h for h in BOTH if h not in holds], []][i // 2 % 3]  # none given: as the kind asks, both
        yield _pair(
            "wrong type", w, f"{kind} under {wrong or 'both'}", about(w.task, kind, place, interventions=wrong),
            about(w.task, kind, place, interventions=holds),
        )  # fmt: skip


def wrong_class(worlds: Worlds, rng: random.Random, n: int) -> Iterator[Case]:
    """For the class of examples that uses other components, or for a task that there is not."""
    for i in range(n):
        w = worlds.get(f"routes-{rng.randrange(3)}")
        fact = rng.choice([f for f in facts(w, "necessary") if f.of_class])
        other = {"near": "far", "far": "near"}[str(fact.of_class)]
        true = about(w.task, "necessary", list(fact.components), among=f"class={fact.of_class}")
        change: dict[str, object] = {"among": f"class={other}"}
        if i % 5 == 3:
            change = {"among": "class=nowhere"}
        if i % 5 == 4:
            change = {"task": "agreement"}
        yield _pair("wrong class or task", w, str(change), {**true, **change}, true)


def joint_for_each(worlds: Worlds, rng: random.Random, n: int) -> Iterator[Case]:
    """Each by itself necessary, where only all of them together are."""
    for i in range(n):
        w = worlds.get(f"{('backup', 'vote')[i % 2]}-{rng.randrange(3)}")
        team = list(facts(w, "jointly_necessary")[0].components)
        rng.shuffle(team)
        wrong = about(w.task, "necessary", team, interventions=["zero"])
        yield _pair("joint for each", w, "each of the set", wrong, {**wrong, "kind": "jointly_necessary"})


def each_for_joint(worlds: Worlds, rng: random.Random, n: int) -> Iterator[Case]:
    """A set with a member that does nothing, or one that two others make superfluous."""
    for i in range(n):
        w = worlds.get(f"{('backup', 'vote')[i % 2]}-{rng.randrange(3)}")
        team = list(facts(w, "jointly_necessary")[0].components)
        how, padded = ["zero"], [*team, rng.choice(idle(w))]
        if i % 4 == 1:  # three vote: two of them that say something else are enough to mislead it
            how, padded, team = ["resample(donor)"], team, team[:2]
        true = about(w.task, "jointly_necessary", team, interventions=how)
        yield _pair("each for joint", w, f"{len(padded)} in place of {len(team)}", {**true, "components": padded}, true)


def vacuous(worlds: Worlds, rng: random.Random, n: int) -> Iterator[Case]:
    """Thresholds and interventions with which it could not fail, or could not hold."""
    for i in range(n):
        w = _lists(worlds, rng)
        right, spare = rng.choice(needed(w)), rng.choice(idle(w))
        stays = about(w.task, "not_needed", [right])
        falls = about(w.task, "necessary", [right])
        wrong, true = [
            ({**falls, "smallest": rng.choice([0.0, -1.0, 1e-9, 0.01])}, {**falls, "smallest": 0.2}),
            ({**falls, "smallest": rng.choice([float("nan"), float("inf"), 1e30, 1.5])}, {**falls, "smallest": 0.2}),
            ({**stays, "components": [spare], "smallest": rng.choice([0.5, 2.0, float("nan"), float("inf")])},
             {**stays, "components": [spare], "smallest": 0.06}),
            ({**stays, "interventions": ["scale(1)"]}, {**falls, "interventions": ["zero"]}),
            ({**stays, "interventions": [rng.choice(["program(keep)", "resample(twin)", "scale(1)", "set(donor)", "scale(0.9)"])]},
             {**stays, "components": [spare]}),
            ({**about(w.task, "capability"), "smallest": rng.choice([0.0, -5.0, 0.001, float("nan")])},
             {**about(w.task, "capability"), "smallest": 0.3}),
            ({**about(w.task, "cannot"), "smallest": rng.choice([1.0, 2.0, float("inf"), float("nan")])},
             about(w.task, "capability")),
        ][i % 7]  # fmt: skip
        yield Case(
            "vacuous",
            w.name,
            str(wrong.get("smallest", wrong.get("interventions"))),
            assertion(wrong),
            assertion(true),
            adopted,
        )


def not_needed(worlds: Worlds, rng: random.Random, n: int) -> Iterator[Case]:
    """Not needed: something that is, alone or hidden among many that are not."""
    for i in range(n):
        w = _lists(worlds, rng)
        spare = idle(w)
        right = rng.choice(needed(w))
        some = rng.sample(spare, min(len(spare) - 1, i % 5))
        place = sorted({right, *some})
        true = about(w.task, "not_needed", some or [spare[0]])
        yield _pair("not needed, though it is", w, f"among {len(place)}", {**true, "components": place}, true)


def sufficient(worlds: Worlds, rng: random.Random, n: int) -> Iterator[Case]:
    """Enough: among itself only, among others that are not needed either, or without what is needed."""
    for i in range(n):
        w = _lists(worlds, rng)
        right = rng.choice(needed(w))
        heads = [c for c in idle(w) if ".z[" in c]
        whole = [right, *heads]
        true = about(w.task, "sufficient", [right], universe=whole)
        wrong = [
            {**true, "universe": [right]}, {**true, "components": [heads[i % len(heads)]]}, {**true, "components": whole},
            {**true, "components": heads[:3]}, {**true, "universe": heads}, {**true, "components": heads},
        ][i % 6]  # fmt: skip
        yield _pair("sufficient", w, f"{len(wrong['components'])} of {len(wrong['universe'])}", wrong, true)


def incapable(worlds: Worlds, rng: random.Random, n: int) -> Iterator[Case]:
    """A model that does not do the task: that it can, or where it does."""
    for i in range(n):
        w = worlds.get(f"unable-{rng.randrange(3)}")
        blocks = w.facts.plan.blocks
        place = [f"decoder.{rng.randrange(blocks)}.{rng.choice(['mlp.out', 'attn.out'])}@answer"]
        task = w.task if i % 3 else rng.choice(["copying", "agreement", "addition"])
        wrong = rng.choice(["necessary", "not_needed", "sufficient", "carries"]) if i % 2 else "capability"
        others = {"universe": [f"decoder.{b}.mlp.out@answer" for b in range(blocks)]} if wrong == "sufficient" else {}
        given = place if wrong != "capability" else None
        hostile = assertion(about(task, wrong, given, **others))
        yield Case(
            "cannot do it", w.name, f"{wrong}, {task}", hostile, assertion(about(w.task, "cannot"), "cannot"), adopted
        )


def carries(worlds: Worlds, rng: random.Random, n: int) -> Iterator[Case]:
    """Carries: where the twin is the same, after it was read, before it has arrived, or what takes no part."""
    for i in range(n):
        w = _lists(worlds, rng)
        at = [f.components[0] for f in facts(w, "carries")]
        right = rng.choice(at)
        item = rng.choice([c for c in at if c.endswith("@item")])
        last = w.facts.plan.blocks - 1
        wrong = [
            "decoder.0.resid_pre@answer", f"decoder.{last}.resid_post@item", rng.choice(idle(w)), item.replace("@item", "@answer"),
            "decoder.0.resid_pre@0",
        ][i % 5]  # fmt: skip
        yield _pair("carries nothing", w, wrong, about(w.task, "carries", [wrong]), about(w.task, "carries", [right]))


CLASSES = (
    wrong_component, wrong_direction, wrong_type, wrong_class, joint_for_each, each_for_joint, vacuous, not_needed, sufficient,
    incapable, carries,
)  # fmt: skip
_ = ops
