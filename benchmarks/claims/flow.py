"""Claims by the back door: what was not settled, what is not on record, what the record contradicts, runs that found nothing."""

import random
from collections.abc import Iterator

from benchmarks.claims.case import Case, Said, about, accepted, adopted, assertion, one, settled
from benchmarks.claims.stage import Call, Played, Script, World
from benchmarks.claims.worlds import Worlds, idle, needed

QUESTION = "?what is in this"


def base(world: World, rng: random.Random) -> tuple[Script, str, str]:
    """A run with E1 loss, F1 necessary (so), F2 not needed (so), F3 not needed (not so), F4 necessary (not so), F5 open; and the
    places.
    """
    right, spare = needed(world)[0], rng.choice(idle(world)[:4])
    asked = [
        about(world.task, "necessary", [right]), about(world.task, "not_needed", [spare]), about(world.task, "not_needed", [right]),
        about(world.task, "necessary", [spare]), about(world.task, "capability"),
    ]  # fmt: skip
    script = (
        one(("loss", {"tasks": [world.task]}), ("hypothesis", {"statement": "The last head copies."})),
        [("examine", a) for a in asked],
        [("predict", {"experiment": f"E{i}", "hypothesis": "H1" if i == 4 else None}) for i in range(2, 7)],
        one(("confirm", {"findings": ["F1", "F2", "F3", "F4"]})),
    )
    return script, right, spare


def world_of(worlds: Worlds, rng: random.Random) -> World:
    """One of a few, so that what cases begin with is played once."""
    return worlds.get(rng.choice(["previous-0", "skip-1"]))


def _calls(group: str, w: World, words: str, before: Script, hostile: list[Call], true: list[Call], said: Said) -> Case:
    return Case(group, w.name, words, (hostile,), (true,), said, before)


def unsettled(worlds: Worlds, rng: random.Random, n: int) -> Iterator[Case]:
    """Claimed: what is open, was contradicted, stayed open, was taken back, or answers another question."""
    for i in range(n):
        w = world_of(worlds, rng)
        before, *_ = base(w, rng)
        true: Call = ("claim", {"finding": "F1"})
        back: Call = ("retract", {"finding": "F1", "reason": "The donors were odd."})
        spared: Call = ("retract", {"finding": "F2", "reason": "The donors were odd."})
        where: Call = ("claim", {"finding": "F1", "question": "Q2"})
        words, hostile, fair, said = [
            ("open", [("claim", {"finding": "F5"})], [true], accepted("claim")),
            ("contradicted", [("claim", {"finding": "F3"})], [true], accepted("claim")),
            ("absent or inconclusive", [("claim", {"finding": "F4"})], [true], accepted("claim")),
            ("taken back", [back, true], [spared, true], accepted("claim")),
            ("what does not answer", [("claim", {"finding": "F2", "question": "Q2"})], [where], accepted("claim")),
            ("answers another question", [("claim", {"finding": "F1", "question": "Q1"})], [where], accepted("claim")),
            ("not examined", [("predict", {"experiment": "E1"})], [("confirm", {}), ("claim", {"finding": "F5"})], adopted),
            ("taken back in the headline", [true, back], [true, spared], lambda p: "F1" in p.headline),
            ("open, then finished", [("finish", {"answer": "found"})], [("confirm", {}), ("finish", {"answer": "found"})],
             accepted("finish")),
            ("only not needed stands", [("confirm", {}), back, ("retract", {"finding": "F5", "reason": "No."}),
             ("finish", {"answer": "found"})], [("confirm", {}), spared, ("finish", {"answer": "found"})], accepted("finish")),
        ][i % 10]  # fmt: skip
        yield _calls("not settled", w, words, before, hostile, fair, said)


def contradicted(worlds: Worlds, rng: random.Random, n: int) -> Iterator[Case]:
    """What the run's own settled findings contradict, by claim, by hypothesis, or by ending."""
    for i in range(n):
        w = world_of(worlds, rng)
        before, right, spare = base(w, rng)
        before = (*before, one(("confirm", {})))
        others = [c for c in idle(w) if c != spare]
        more = {"examples": rng.choice([72, 80, 112])}
        status = ("hypothesis", {"handle": "H1", "status": "supported", "evidence_for": ["E2"]})
        reworded = ("hypothesis", {"handle": "H1", "statement": "The MLP copies."})
        abandoned = ("hypothesis", {"handle": "H1", "status": "abandoned"})
        words, hostile, true, said = [
            ("not needed", assertion({**about(w.task, "not_needed", [right]), **more}),
             assertion({**about(w.task, "not_needed", [others[0]]), **more}), adopted),
            ("necessary", assertion({**about(w.task, "necessary", [spare]), **more}),
             assertion({**about(w.task, "necessary", [right]), **more}), adopted),
            ("cannot", assertion({**about(w.task, "cannot"), **more}), assertion({**about(w.task, "capability"), **more}), adopted),
            ("hidden in a set", assertion(about(w.task, "not_needed", [right, *others[:2]])),
             assertion(about(w.task, "not_needed", others[:2])), adopted),
            ("a set without it", assertion(about(w.task, "sufficient", [others[0]], universe=[right, *others])),
             assertion(about(w.task, "sufficient", [right], universe=[right, *others])), adopted),
            ("a refuted hypothesis supported", (one(status),), (one(abandoned),), accepted("hypothesis")),
            ("a tested hypothesis reworded", (one(reworded),), (one(("hypothesis", {"statement": "The MLP copies."})),),
             accepted("hypothesis")),
            ("cannot, at the end", (one(("finish", {"answer": "cannot"})),), (one(("finish", {"answer": "found"})),),
             accepted("finish")),
            ("not found, at the end", (one(("finish", {"answer": "not_found"})),), (one(("finish", {"answer": "found"})),),
             lambda p: p.concluded.verdict == "Not found" or said_found(p)),
            ("jointly", assertion(about(w.task, "jointly_necessary", [right, spare])),
             assertion(about(w.task, "not_needed", [*others[:2], spare])), adopted),
        ][i % 10]  # fmt: skip
        yield Case("contradicted", w.name, words, hostile, true, said, before)


def said_found(played: Played) -> bool:
    """Whether the planner's last word is that it found something."""
    conclusion = played.store.conclusion(played.run)
    return conclusion is not None and conclusion.answer == "found"


def found(played: Played) -> bool:
    """Whether the run ends as if it had found something."""
    return played.concluded.verdict.startswith("Found")


def kept(played: Played) -> bool:
    """Whether a note was kept."""
    return bool(played.record.notes())


def empty(worlds: Worlds, rng: random.Random, n: int) -> Iterator[Case]:
    """Ended as found, with nothing that was found; and words after the end."""
    for i in range(n):
        w = world_of(worlds, rng)
        right, spare = needed(w)[0], rng.choice(idle(w)[:4])
        so, spared = settled(about(w.task, "necessary", [right])), settled(about(w.task, "not_needed", [spare]))
        missed = settled(about(w.task, "necessary", [spare]))
        end: Call = ("finish", {"answer": "found", "words": "It is the last head."})
        good: Script = (*so, [end])
        note: Call = ("note", {"text": "In the end it is the first head."})
        seen = one(("examine", about(w.task, "necessary", [right])))
        also = one(("examine", about(w.task, "necessary", [right], examples=70)))
        end_seal = one(("predict", {"experiment": "$E"}), ("confirm", {}), end)
        supported = ("hypothesis", {"statement": "It copies.", "status": "supported", "evidence_for": ["E1"]})
        words, hostile, true, said = [
            ("nothing", ([end],), good, found),
            ("loss only", (one(("loss", {"tasks": [w.task]})), [end]), good, found),
            ("examined only", (seen, [end]), good, found),
            ("sealed only", (seen, one(("predict", {"experiment": "$E"})), [end]), good, found),
            ("not needed only", (*spared, [end]), good, found),
            ("a note only", (one(note, end),), (*so, one(note, end)), found),
            ("a hypothesis that its planner supports", (seen, one(supported), [end]), good, found),
            ("nothing confirmed", (*missed, [end]), good, found),
            ("a note after the end", (*so, one(end, note)), (*so, one(note, end)), kept),
            ("another end after the end", (*so, one(("finish", {"answer": "unclear"}), end)), good, found),
            ("a claim after the end", (*so, one(end, ("claim", {"finding": "F1"}))), (*so, one(("claim", {"finding": "F1"}), end)),
             lambda p: bool(p.record.claims())),
            ("sealed after the end", (*so, also, one(end, ("predict", {"experiment": "$E"}))), (*so, also, end_seal),
             accepted("predict")),
        ][i % 12]  # fmt: skip
        if i % 12 == 4 and i >= 12:
            w = worlds.get(w.name + QUESTION)
        yield Case("empty", w.name, words, hostile, true, said)


def fabricated(worlds: Worlds, rng: random.Random, n: int) -> Iterator[Case]:
    """Handles and references of what does not exist, or of which it is not clear which is meant."""
    for i in range(n):
        w = world_of(worlds, rng)
        before, right, _ = base(w, rng)
        good = "{{E1.accuracy[task=" + w.task + "]}}"
        bad = rng.choice(
            ["{{E99.accuracy}}", "{{E1.bogus}}", "{{E1.accuracy[task=nowhere]}}", "{{E2.effect}}", "{{F1.effect}}"]
        )
        other = rng.choice(["E99", "E0", "e2", "E02", "E2 ", "F1", "E-1", "", "E1; drop table runs", "H1"])
        text = "Accuracy is {}."
        words, tool, wrong, true = [
            ("experiment", "predict", {"experiment": other}, {"experiment": "$X"}),
            ("finding to settle", "confirm", {"findings": [rng.choice(["F9", "E2", "f5"])]}, {"findings": ["F5"]}),
            ("finding to claim", "claim", {"finding": rng.choice(["F9", "f1", "E2", "F1 "])}, {"finding": "F1"}),
            ("note about", "note", {"text": "See there.", "experiments": [other]}, {"text": "See there.", "experiments": ["E2"]}),
            ("reference in a note", "note", {"text": text.format(bad)}, {"text": text.format(good)}),
            ("reference in a claim", "claim", {"finding": "F1", "interpretation": text.format(bad)},
             {"finding": "F1", "interpretation": text.format(good)}),
            ("evidence", "hypothesis", {"statement": "It copies.", "evidence_for": [other]},
             {"statement": "It copies.", "evidence_for": ["E2"]}),
            ("hypothesis", "hypothesis", {"handle": "H9", "status": "abandoned"}, {"handle": "H1", "status": "abandoned"}),
            ("to take back", "retract", {"finding": rng.choice(["F9", "E2"]), "reason": "No."},
             {"finding": "F1", "reason": "No."}),
            ("question", "claim", {"finding": "F1", "question": rng.choice(["Q9", "q2", "H1"])},
             {"finding": "F1", "question": "Q2"}),
        ][i % 10]  # fmt: skip
        if tool == "predict":
            before = (*before, one(("examine", about(w.task, "necessary", [right], examples=70))))
            true = {"experiment": "$E"}
        yield _calls("fabricated", w, f"{words}: {wrong}", before, [(tool, wrong)], [(tool, true)], accepted(tool))


CLASSES = (unsettled, contradicted, empty, fabricated)
