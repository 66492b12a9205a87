"""Where a task is done, once it is known that the model does it: from a map to components, sets and heads, each confirmed."""

import json
from collections.abc import Generator, Sequence
from typing import Any

from agent.planners.base import Answer
from agent.planners.systematic.conclusions import disagreements, layers_of, limits, readout_claims
from agent.planners.systematic.evidence import (
    Arrival,
    Candidate,
    Expectation,
    candidates,
    heads,
    joint,
    listed,
    reference,
    set_found,
    spared_or_needed,
)
from agent.planners.systematic.plan import Call, Plan, Step, finish

DROP = 0.1  # an ablation matters if the upper end of the accuracy change lies below minus this
SITES = 6
ATTENTION_SITES = 3
Steps = Generator[Step, Sequence[Answer], Any]


def locate(main: str, controls: list[str], gate: Answer, confirmed: Answer, examples: int) -> Plan:
    """Sweeps, patching, ablation of two kinds, joint sets, heads; then predictions, confirmation and claims."""
    few = min(examples, 64)
    skip, _, lens, _ = yield Step(
        "Which blocks does the task need, and do other tasks need the same ones? A block that everything needs says little. "
        "Attribution patching is a quick second opinion on every attention and MLP, and says how far it can be believed.",
        (
            ("layer_program", {"tasks": [main, *controls], "sweep": "skip_each", "examples": few}),
            ("layer_program", {"tasks": [main, *controls], "sweep": "drop_last", "examples": few}),
            ("lens", {"task": main, "examples": examples}),
            ("attribute", {"task": main, "method": "patching", "steps": 4, "examples": few}),
        ),
    )
    (where,) = yield Step(
        "Where does the information lie that decides the answer? Patch the residual stream position by position.",
        (("patch", {"task": main, "site": "resid_pre", "positions": "each", "depth": 6, "examples": few}),),
    )
    arrival = yield from _arrival(main, where, few)
    kinds = [(c, a) for c in ("attn", "mlp") for a in ("resample", "zero")]
    ablations = yield Step(
        "What is necessary at the position that predicts the answer? Two ablation types, because they disagree.",
        tuple(("ablate", {"task": main, "component": c, "ablation": a, "examples": examples}) for c, a in kinds),
    )
    found = candidates(dict(zip(kinds, ablations, strict=True)), DROP)[:SITES]
    expected = [Expectation.single(c, gate, main, examples) for c in found]
    expected += yield from _sets(main, gate, found, ablations, examples)
    expected += yield from _heads(main, gate, [c.layer for c in found if c.component == "attn"], examples)
    if not any(e.comparison == "<=" for e in expected):
        yield from _nothing(main, gate, [skip, *ablations], arrival)
        return
    yield from _confirm(main, gate, confirmed, expected, lens, where, ablations, arrival)


def _arrival(main: str, where: Answer, examples: int) -> Generator[Step, Sequence[Answer], Arrival | None]:
    """In which block, and from which positions, what decides the answer reaches the position that predicts it."""
    seen = Arrival.find(where)
    if seen is None:
        return None
    yield Step(
        "The patching map shows a block in which the information arrives; a jump elsewhere on unseen examples would refute it.",
        (("hypothesis", {"statement": f"{seen.words[:-1]} for {main}.", "evidence_for": [where.handle]}),),
    )
    yield Step(
        "Predict both sides of the jump, and the positions it comes from, on unseen examples.",
        tuple(
            ("predict", {"hypothesis": "H2", "metric": m, "comparison": c, "threshold": t, "probability": 0.95})
            for m, c, t in seen.predictions()
        ),
    )
    arguments = {"task": main, "site": "resid_pre", "positions": "each", "depth": seen.depth, "split": "confirm"}
    (tested,) = yield Step(
        "Patch the same places on unseen examples.",
        (("patch", {**arguments, "layers": seen.layers, "examples": examples}),),
    )
    held = seen.holds_in(tested)
    settled = {"handle": "H2", "status": "supported" if held else "refuted"}
    calls: list[Call] = [
        ("hypothesis", {**settled, "evidence_for" if held else "evidence_against": [str(tested.handle)]})
    ]
    if held:
        calls.append(("claim", seen.claim(main, tested, str(where.handle))))
    yield Step("Settle it.", tuple(calls))
    return seen if held else None


def _sets(
    main: str, gate: Answer, found: Sequence[Candidate], ablations: Sequence[Answer], examples: int
) -> Generator[Step, Sequence[Answer], list[Expectation]]:
    """What is spared one by one may still be needed together: remove all of it, and search where that breaks the task."""
    pairs: list[tuple[str, list[int]]] = []
    for component, answer in (("attn", ablations[0]), ("mlp", ablations[2])):
        single = {c.layer for c in found if c.component == component}
        others = [x for x in layers_of(answer) if x not in single]
        if len(others) > 1:
            pairs.append((component, others))
    if not pairs:
        return []
    base = {"task": main, "examples": examples}
    looked = yield Step(
        "Remove everything that is spared one by one all at once: several components may stand in for each other.",
        tuple(
            ("ablate", {**base, "component": c, "layers": layers, "together": True, "ablation": a})
            for c, layers in pairs
            for a in ("resample", "zero")
        ),
    )
    together = [(c, layers, looked[2 * i], looked[2 * i + 1]) for i, (c, layers) in enumerate(pairs)]
    expected, needed = spared_or_needed(together, gate, main, examples, DROP)
    searches: list[Search] = [
        (c, {**base, "component": c, "goal": "breaking", "layers": layers}, group) for c, layers, group in needed
    ]
    return expected + (yield from _search(gate, searches))


Search = tuple[str, dict[str, Any], Expectation | None]


def _search(gate: Answer, searches: Sequence[Search]) -> Generator[Step, Sequence[Answer], list[Expectation]]:
    """Smallest sets that break the task, searched under each ablation and checked under the other; else the whole group.

    Zeroing lets a stand-in work undisturbed, so that it finds sets of which one member is enough; resampling does not
    mistake a component for necessary because its absence alone upsets the model.
    """
    if not searches:
        return []
    both = ("zero", "resample")
    sets = yield Step(
        "Which of them together? Search a smallest set whose removal breaks the task, under each kind of ablation.",
        tuple(("minimal_set", {**arguments, "ablation": a}) for _, arguments, _ in searches for a in both),
    )
    found = [
        [(m, s, other) for s, other in zip(sets[2 * i : 2 * i + 2], reversed(both), strict=True) if (m := set_found(s))]
        for i in range(len(searches))
    ]
    checks: list[Call] = [
        ("minimal_set", {**searches[i][1], "ablation": other, "members": str(m.site).split("+")})
        for i, hits in enumerate(found)
        for m, _, other in hits
    ]
    checked = list((yield Step("Each set found, under the other ablation.", tuple(checks)))) if checks else []
    expected: list[Expectation] = []
    for (component, arguments, group), hits in zip(searches, found, strict=True):
        made: list[Expectation] = []
        for m, s, other in hits:
            answer = checked.pop(0)
            resampled, zeroed = (s, answer) if other == "zero" else (answer, s)
            e = joint(resampled, zeroed, gate, component, arguments, DROP)
            made += [e] if e is not None else []
            del m
        best = min(made, key=lambda e: len(e.sites), default=group)
        expected += [best] if best is not None else []
    return expected


def _heads(
    main: str, gate: Answer, layers: Sequence[int], examples: int
) -> Generator[Step, Sequence[Answer], list[Expectation]]:
    """Heads of the attention sites: one by one, and where none is needed alone, a set."""
    layers = list(layers)[:ATTENTION_SITES]
    if not layers:
        return []
    base = {"task": main, "component": "head", "examples": examples}
    answers = yield Step(
        "Look closer at the attention that is needed: which heads, and where do they look from the last token?",
        (
            *(("ablate", {**base, "layers": [b], "ablation": a}) for b in layers for a in ("resample", "zero")),
            ("attention", {"task": main, "layers": layers, "examples": min(examples, 64)}),
        ),
    )
    expected: list[Expectation] = []
    open_layers: list[int] = []
    for i, layer in enumerate(layers):
        single = heads(answers[2 * i], answers[2 * i + 1], gate, layer, main, examples, DROP)
        expected += single
        if not single:
            open_layers.append(layer)
    searches: list[Search] = [("head", {**base, "goal": "breaking", "layers": [b]}, None) for b in open_layers]
    return expected + (yield from _search(gate, searches))


def _nothing(main: str, gate: Answer, looked: Sequence[Answer], arrival: Arrival | None) -> Plan:
    """Nothing is necessary, alone or together: say so, with what is known of where the information goes."""
    cites = [a.handle for a in looked if a.handle]
    text = (
        f"No attention or MLP at the answer's position was found necessary for {main} under both resample and zero ablation, "
        "alone or in a small set: either it is spread, or it is done at earlier positions."
    )
    yield Step(
        "No site passes both ablations: say so.",
        (("claim", {"kind": "absence", "text": text, "experiments": cites, "confidence": 0.8}),),
    )
    does = f"The model does {main} (accuracy {reference(gate, 'accuracy')})."
    if arrival is None:
        yield from finish(f"{does} {text}", "not_found")
    else:
        yield from finish(f"{does} {arrival.words} {text}", "found")


def _confirm(
    main: str,
    gate: Answer,
    confirmed: Answer,
    expected: list[Expectation],
    lens: Answer,
    where: Answer,
    ablations: Sequence[Answer],
    arrival: Arrival | None,
) -> Plan:
    """One hypothesis for each expectation: predict, measure on unseen examples, keep what comes true."""
    first = 2 if Arrival.find(where) is None else 3
    yield Step(
        "One hypothesis for each thing seen, each with what would refute it: the opposite on unseen examples.",
        tuple(
            ("hypothesis", {"statement": f"{e.statement} {main}.", "evidence_for": list(e.seen_in)}) for e in expected
        ),
    )
    yield Step(
        "Predict each on unseen examples before looking at them.",
        tuple(
            (
                "predict",
                {
                    "hypothesis": f"H{i}",
                    "metric": e.metric,
                    "comparison": e.comparison,
                    "threshold": e.threshold,
                    "probability": 0.95,
                },
            )
            for i, e in enumerate(expected, first)
        ),
    )
    calls = list({json.dumps(e.confirming()): e.confirming() for e in expected}.values())
    tested = yield Step("Confirm on examples that nobody has looked at, each experiment once.", tuple(calls))
    answers = [tested[calls.index(e.confirming())] for e in expected]
    pairs = list(zip(expected, answers, strict=True))
    held = [(e, a) for e, a in pairs if e.holds_in(a, DROP)]
    yield Step(
        "Settle the hypotheses by what the unseen examples said.",
        (
            ("hypothesis", {"handle": "H1", "status": "supported", "evidence_for": [gate.handle, confirmed.handle]}),
            *(
                (
                    "hypothesis",
                    {
                        "handle": f"H{i}",
                        "status": "supported" if (e, a) in held else "refuted",
                        "evidence_for" if (e, a) in held else "evidence_against": [a.handle],
                    },
                )
                for i, (e, a) in enumerate(pairs, first)
                if a.status == "ok"
            ),
        ),
    )
    behaviour = (
        f"The intact model does {main}: accuracy {reference(confirmed, 'accuracy')} on unseen examples, chance "
        f"{reference(confirmed, 'chance')}."
    )
    cites = [gate.handle, confirmed.handle]
    yield Step(
        "Write down what holds.",
        (
            ("claim", {"kind": "behaviour", "text": behaviour, "experiments": cites, "confidence": 0.98}),
            *(("claim", e.claim(main, a)) for e, a in held),
            *readout_claims(main, lens),
            *disagreements(main, ablations, DROP),
        ),
    )
    needed = [e.words + (" (together)" if e.together else "") for e, _ in held if e.comparison == "<="]
    spared = [e.words for e, _ in held if e.comparison == ">="]
    if not needed:
        text = f"The model does {main}, but no site that looked necessary stayed so on unseen examples."
        yield from finish(text, "not_found")
        return
    text = (
        f"The model does {main} (accuracy {reference(confirmed, 'accuracy')} on unseen examples). Necessary at the position "
        f"that predicts the answer, under resample and zero ablation and confirmed on unseen examples: {listed(needed)}."
    )
    if arrival is not None:
        text += f" {arrival.words}"
    if spared:
        text += f" Not needed there: {listed([s.rstrip(',') for s in spared])}."
    yield from finish(text, "found", limits(where))
