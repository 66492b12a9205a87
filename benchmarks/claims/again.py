"""Runs that continue from another one, and branches: findings on examples that were used before, and what is another run's."""

import random
from collections.abc import Iterator

from benchmarks.claims.branches import SEALED, SETTLED
from benchmarks.claims.case import Case, Said, about, accepted, one, settled
from benchmarks.claims.flow import found, world_of
from benchmarks.claims.leaks import looked_at
from benchmarks.claims.stage import EARLIER, Call, Played, Script
from benchmarks.claims.worlds import Worlds, needed

MANY, FEW = 300, 100  # of some 420: after a round of so many no other round of so many is new


def unsaid(played: Played) -> bool:
    """Whether a finding of this script is settled on examples that were used before, and the finding or the answer that the
    planner got does not say so; or is confirmed on examples that it says are new.
    """
    told = " ".join(a.text for c, a in played.answers if c.name == "confirm")
    sealed = {a.handle for c, a in played.answers if c.name == "predict" and a.status == "ok"}
    earlier = [g for _, _, g in looked_at(played, EARLIER)]
    mine = {h: (seq, g) for h, seq, g in looked_at(played, played.run)}
    for f in played.record.findings():
        if f.handle not in sealed or f.experiment is None:
            continue
        seq, groups = mine[f.experiment]
        used = any(groups & g for g in (*earlier, *(g for s, g in mine.values() if s < seq)))
        if used and not (f.reused and "used before" in told):
            return True
    return fresh(played)


def fresh(played: Played) -> bool:
    """Whether the finding that was predicted last was confirmed on examples that nobody had seen."""
    sealed = [a.handle for c, a in played.answers if c.name == "predict" and a.status == "ok"]
    last = next((f for f in played.record.findings() if sealed and f.handle == sealed[-1]), None)
    return last is not None and last.stands and not last.reused


def used_before(worlds: Worlds, rng: random.Random, n: int) -> Iterator[Case]:
    """Each beside a run that takes fewer examples, so that there are new ones, or that makes what it rests on itself."""
    for i in range(n):
        w = world_of(worlds, rng)
        right = needed(w)[0]
        needs, can = about(w.task, "necessary", [right]), about(w.task, "capability")
        loss: Call = ("loss", {"tasks": [w.task]})
        first: Script = (one(loss), *settled({**needs, "examples": 250}))
        parent: Script = (one(loss), one(("examine", {**needs, "examples": 250})), one(("predict", {"experiment": "$E"})),
                          one(("confirm", {})))  # fmt: skip
        end: Call = ("finish", {"answer": "found"})
        own = settled(can if i % 2 else {**needs, "examples": FEW})
        own_needs = settled({**needs, "examples": FEW})
        claim, again = one(("claim", {"finding": "F1"})), one(("predict", {"experiment": "E2"}))
        judged, noted = ("hypothesis", {"statement": "It copies.", "status": "supported", "evidence_for": ["E2"]}), (
            "note", {"text": "It is {{E2.effect[intervention=zero]}}."},
        )  # fmt: skip

        def of(asked: dict[str, object], size: int) -> Script:
            return settled({**asked, "examples": size})

        examined = one(("examine", {**needs, "examples": FEW}))
        rows: tuple[tuple[str, Script, Script, Said, Said, int | None], ...] = (
            ("as many again after another run", of(needs, MANY), of(needs, FEW), unsaid, fresh, None),
            ("another kind after another run", of(can, MANY), of(can, FEW), unsaid, fresh, None),
            ("as many again in a branch", of(needs, MANY), of(needs, FEW), unsaid, fresh, SETTLED),
            ("another kind in a branch", of(can, MANY), of(can, FEW), unsaid, fresh, SEALED),
            ("claims what the other run found", (claim,), (*own, claim), accepted("claim"), accepted("claim"), None),
            ("predicts from the other run's experiment", (again,), (one(loss), examined, again), accepted("predict"),
             accepted("predict"), None),
            ("settles the other run's finding", (one(("confirm", {"findings": ["F1"]})),),
             (examined, one(("predict", {"experiment": "$E"})), one(("confirm", {"findings": ["F1"]}))), accepted("confirm"),
             accepted("confirm"), None),
            ("ends as found by what the other run found", (one(loss), one(end)), (one(loss), *own_needs, one(end)), found, found,
             None),
            ("a hypothesis on the other run's evidence", (one(judged),), (one(loss), examined, one(judged)), accepted("hypothesis"),
             accepted("hypothesis"), None),
            ("refers to the other run's numbers", (one(noted),), (one(loss), examined, one(noted)), accepted("note"),
             accepted("note"), None),
        )  # fmt: skip
        words, hostile, true, said, passes, turn = rows[i % 10]
        earlier = parent if turn is not None else first
        yield Case("used before", w.name, words, hostile, true, said, earlier=earlier, passes=passes, branch=turn)


CLASSES = (used_before,)
