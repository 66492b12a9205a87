"""Whether a confirmed finding is true of a planted case: by the case's facts, and where these do not say, by measuring.

The facts speak of removals (what breaks the task, what does not), of what is carried, of where heads look, of whether the
model can do it. Another claim about a removal or about what is carried is put to `benchmarks.planted.oracle`, which measures it
on the plain model on other examples, with none of the project's own code; what neither decides stays unjudged.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.planted.compiler.truth import Fact
from benchmarks.planted.oracle import SMALLEST, Oracle
from benchmarks.planted.sites import Map, Site
from experiments_db.findings import Statement
from experiments_db.places import Component, Intervention
from tools.findings.kind import kinds

Verdict = Literal["true", "false", "unjudged"]


@dataclass(frozen=True)
class Judge:
    """What is known of a case. whole: all its examples; oracle: None where nothing is to be measured."""

    facts: tuple[Fact, ...]
    whole: Map
    oracle: Oracle | None = None

    @property
    def able(self) -> bool:
        """Whether the model does the task."""
        return not any(f.kind == "cannot" for f in self.facts)

    def verdict(self, s: Statement) -> tuple[Verdict, str]:
        """Whether a statement is true, and who says so: facts or oracle."""
        said = self._by_facts(s)
        if said is not None:
            return ("true" if said else "false"), "facts"
        measured = self._by_oracle(s) if self.oracle is not None else None
        return ("unjudged", "") if measured is None else ("true" if measured else "false", "oracle")

    def _map(self, s: Statement) -> Map:
        return Map(self.whole.blocks, self.whole.heads, self.whole.rows, s.among)

    def _sites(self, s: Statement) -> list[Site] | None:
        try:
            return self.whole.sites(s.set) if s.set is not None else None
        except ValueError:
            return None

    # -- by facts -----------------------------------------------------------------------------------------------------

    def _by_facts(self, s: Statement) -> bool | None:
        match s.kind:
            case "capability":
                return self.able
            case "cannot":
                return not self.able
            case "attends":
                return self._attends(s)
            case "sends":
                known = {c for f in self.facts if f.kind == "sends" for c in f.components}
                return True if s.path in known else None
            case "carries" if self.able:
                return True if self._carries(s) else None
            case "necessary" | "jointly_necessary" | "not_needed" | "disagree" if self.able:
                return self._removal(s)
            case _:
                locates = kinds()[s.kind].locates and kinds()[s.kind].capable
                return False if not self.able and locates else None

    def _removal(self, s: Statement) -> bool | None:
        sites, where = self._sites(s), self._map(s)
        if sites is None or s.objective != "accuracy":
            return None
        ops = [h.op for h in s.done if str(h) in ("zero", "resample(donor)")]
        if len(ops) != len(s.done) or not ops:
            return None

        def each(of: Sequence[Site]) -> list[bool | None]:
            return [self.breaks(of, op, s.among, where) for op in ops]

        match s.kind:
            case "necessary":
                return _all(x for site in sites for x in each([site]))
            case "not_needed":
                return _all(None if x is None else not x for x in each(sites))
            case "jointly_necessary":
                fewer = [x for i in range(len(sites)) for x in each([*sites[:i], *sites[i + 1 :]])]
                together = _all(each(sites))
                return together if together is False or not any(x is not False for x in fewer) else None
            case _:
                found = each(sites)
                return True if None not in found and len(set(found)) > 1 else None

    def breaks(self, sites: Sequence[Site], op: str, among: str, where: Map) -> bool | None:
        """Whether removing all of these costs what counts; None where the facts do not say."""
        of = among.partition("=")[2]
        for f in self.facts:
            meant = (
                f.kind in ("necessary", "jointly_necessary") and op in f.ops and f.of_class in (None, of or f.of_class)
            )
            if meant and all(where.removes(sites, t) for t in self.whole.sites(f.components)):
                return True
        loose = [(u, s.anchor) for s in sites for u in s.units]
        team = [self.whole.sites(f.components) for f in self.facts if f.kind == "redundant" and op in f.ops]
        taken: list[int] = []
        for unit, anchor in loose:
            own = next(
                (i for i, t in enumerate(team) if any(unit in s.units and where.same(s.anchor, anchor) for s in t)),
                None,
            )
            if own is not None and own not in taken:
                taken.append(own)
            elif not self._spared(unit, anchor, op, of, where):
                return None
        return False

    def _spared(self, unit: tuple[int, int | None], anchor: str, op: str, of: str, where: Map) -> bool:
        """Whether the facts say that a unit at an anchor is not needed."""
        return any(
            unit in site.units and where.holds(site.anchor, anchor)
            for f in self.facts
            if f.kind == "not_needed" and op in f.ops and f.of_class in (None, of or None)
            for site in self.whole.sites(f.components)
        )

    def _attends(self, s: Statement) -> bool | None:
        assert s.set is not None
        where = self._map(s)
        found: list[bool] = []
        for c in s.set.singles():
            alike = [Component.parse(f.components[0]) for f in self.facts if f.kind == "attends"]
            found.append(
                any(
                    (k.block, k.units) == (c.block, c.units)
                    and where.same(k.anchor, c.anchor)
                    and where.holds(c.key, k.key)
                    for k in alike
                )
            )
        return True if all(found) else None

    def _carries(self, s: Statement) -> bool:
        assert s.set is not None
        where, flows = self._map(s), dict[tuple[str, str], list[int]]()
        for f in self.facts:
            if f.kind == "carries":
                c = Component.parse(f.components[0])
                flows.setdefault((c.anchor, str(f.source)), []).append(c.block or 0)
        return all(
            c.part == "resid_pre"
            and any(where.same(a, c.anchor) and min(b) <= (c.block or 0) <= max(b) for (a, _), b in flows.items())
            for c in s.set.members
        )

    # -- by measuring -------------------------------------------------------------------------------------------------

    def _by_oracle(self, s: Statement) -> bool | None:
        assert self.oracle is not None
        if s.kind == "attends" and s.set is not None:
            return _all(self._looks(c, s.among) for c in s.set.singles())
        if s.kind == "readable":
            return self._readable(s)
        if s.set is None or s.objective != "accuracy" or not all(map(self.oracle.can, s.set.singles())):
            return None

        def measure(of: Sequence[Component], how: Intervention) -> float | None:
            assert self.oracle is not None
            return self.oracle.drop(of, how.op, s.among)

        members, least = s.members, self.oracle.smallest(s.among)
        match s.kind:
            case "necessary":
                return _all(_more(measure([c], how), least) for c in members for how in s.done)
            case "not_needed":
                return _all(_less(measure(members, how), least) for how in s.done)
            case "jointly_necessary":
                return _all(
                    x
                    for how in s.done
                    for x in (
                        _more(measure(members, how), least),
                        *(
                            _more(_minus(measure(members, how), measure([m for m in members if m != out], how)), least)
                            for out in members
                        ),
                    )
                )
            case "disagree":
                effects = [measure(members, how) for how in s.done]
                known = [e for e in effects if e is not None]
                return _more(max(known) - min(known), least) if len(known) == len(effects) > 1 else None
            case "carries":
                return _more(self.oracle.flipped(s.set.singles(), s.among), 0.1)
            case _:
                return None

    def _looks(self, c: Component, among: str) -> bool | None:
        found = self.oracle.looks(c, among) if self.oracle is not None else None
        return None if found is None else _all(_more(x, SMALLEST) for x in found)

    def _readable(self, s: Statement) -> bool | None:
        """Whether half of the gap is there from this block on, and not one block earlier."""
        assert self.oracle is not None
        c = s.members[0]
        first, half = (c.block or 0) + (c.part == "resid_post"), 0.5 * self.oracle.gap(s.among)
        found = [self.oracle.read(k, s.among) for k in range(first - 1, self.whole.blocks + 1)]
        chance = self.oracle.chance(s.among)
        before, *after = [None if x is None else _more(x - chance, half, 0.05) for x in found]
        return _all([None if before is None else not before, *after])


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _more(effect: float | None, least: float, slack: float = 0.25) -> bool | None:
    """Whether an effect is as large as what counts; None where it is too near to say."""
    if effect is None or abs(effect - least) <= slack * least:
        return None
    return effect > least


def _less(effect: float | None, least: float) -> bool | None:
    found = _more(None if effect is None else abs(effect), least)
    return None if found is None else not found


def _all(found: Iterable[bool | None]) -> bool | None:
    """False if one is false, None if one is not known, else true."""
    known = list(found)
    return False if False in known else None if None in known else True
