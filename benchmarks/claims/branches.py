"""Branches of a run whose findings were settled: what the branch must not know of them, and what it may not spend again."""

import random
from collections.abc import Iterator

from benchmarks.claims.case import Case, Said, about, accepted, one, settled
from benchmarks.claims.flow import world_of
from benchmarks.claims.leaks import WIDE, cached, seen_before, shows
from benchmarks.claims.stage import Call, Played, Script
from benchmarks.claims.worlds import Worlds, idle, needed

EXAMINED, SEALED, SETTLED = 2, 3, 4  # turns of the parent, which a branch may go on from


def first_holds(played: Played) -> bool:
    """Whether the first finding of the run was confirmed, and not on examples that it says were used."""
    found = played.record.findings()
    return bool(found) and found[0].fate == "confirmed" and not found[0].reused


def first_round_again(played: Played) -> bool:
    """Whether something that was settled after the branch spent the share of the first round once more."""
    return any(f.handle not in ("F1", "F2") and f.round == 1 for f in played.record.findings())


def third_holds(played: Played) -> bool:
    """Whether the finding that the branch added was confirmed."""
    return any(f.handle == "F3" and f.fate == "confirmed" for f in played.record.findings())


def branched(worlds: Worlds, rng: random.Random, n: int) -> Iterator[Case]:
    """Each beside a branch that does the same without looking at what its parent settled."""
    for i in range(n):
        w = world_of(worlds, rng)
        right, spare = needed(w)[0], rng.choice(idle(w)[:4])
        parent: Script = (
            one(("loss", {"tasks": [w.task]})),
            one(("examine", about(w.task, "necessary", [right])), ("examine", about(w.task, "necessary", [spare]))),
            one(("predict", {"experiment": "E2"}), ("predict", {"experiment": "E3"})),
            one(("confirm", {})),
        )
        confirm, end = one(("confirm", {})), one(("finish", {"answer": "found"}))
        claim: Call = ("claim", {"finding": "F1"})
        more = settled(about(w.task, "capability", examples=64))
        again: Script = (one(("predict", {"experiment": "E2"})), confirm)
        explored: Said = shows(" explore ")
        words, turn, hostile, true, said, passes = (
            ("its parent's confirm rows are queried", SEALED, (one(("query", {"where": ["split=confirm"], **WIDE})),),
             (one(("query", {"where": ["split=explore"], **WIDE})),), shows(" confirm "), explored),
            ("its parent's run is queried", SEALED, (one(("query", {"where": ["run=earlier", "name=p"], **WIDE})),),
             (one(("query", {"where": ["name=p"], **WIDE})),), shows(" confirm "), explored),
            ("what settled its parent's findings is recalled", SEALED, (one(("recall", {"handle": "E4"})),),
             (one(("recall", {"handle": "E2"})),), accepted("recall"), accepted("recall")),
            ("what settled its parent's findings is referred to", SEALED, (one(("note", {"text": "It is {{E4.p}}."})),),
             (one(("note", {"text": "It is {{E1.accuracy}}."})),), accepted("note"), accepted("note")),
            ("it settles on the examples of its parent", SEALED, (confirm,), (confirm,), seen_before, first_holds),
            ("it finds its parent's confirmation ready", SEALED, (confirm,), (confirm,), cached, first_holds),
            ("it predicts what its parent settled", EXAMINED, again, again, seen_before, first_holds),
            ("it claims what only its parent settled", SEALED, (one(claim), end), (confirm, one(claim), end), accepted("claim"),
             accepted("claim")),
            ("it predicts from what settled its parent's", SETTLED, (one(("predict", {"experiment": "E4"})),), more,
             accepted("predict"), accepted("predict")),
            ("it begins the rounds anew", SETTLED, more, more, first_round_again, third_holds),
        )[i % 10]  # fmt: skip
        yield Case(
            "branched",
            w.name,
            f"{words} (turn {turn})",
            hostile,
            true,
            said,
            earlier=parent,
            passes=passes,
            branch=turn,
        )


CLASSES = (branched,)
