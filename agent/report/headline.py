"""The answer in a few sentences, composed from confirmed findings alone; their numbers are references to the record."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from agent.report.tested import Tested, place_words
from experiments_db.findings import Finding, Statement
from experiments_db.places import Component, ComponentSet, Intervention, display, is_plural
from experiments_db.records import Measurement
from tools.findings.kind import kinds
from tools.findings.phrases import CHANGES, FALLS, how_words, listed, role_names
from tools.findings.settling import reference, shown_bound

MOST = 4  # of one kind named one by one; more are counted
SENTENCES = 8
ORDER = ("capability", "cannot", "necessary", "jointly_necessary", "carries", "sends", "sufficient")  # others, then:
LAST = ("not_needed",)
REDUNDANT = "redundant"  # a set that is needed together, of which each member alone is not needed
ABILITY = ("capability", "cannot")


LEADING = 5  # sentences of the answer in brief


@dataclass(frozen=True)
class Sentence:
    """One sentence of the headline and the handles of the findings that it says. leads: it belongs to the answer in brief."""

    text: str
    findings: tuple[str, ...]
    leads: bool = False


def compose(standing: Sequence[Tested]) -> tuple[Sentence, ...]:
    """What confirmed findings say together: what the model can do first, then where, then what takes no part."""
    groups: dict[tuple[object, ...], list[Tested]] = {}
    versions = _versions(standing)
    strictest = [max(same, key=lambda t: _strict(t.finding)) for same in versions.values()]
    strictest.sort(key=lambda t: _rank(t.finding.statement.kind))
    pairs = {t.finding.handle: (t, *spared) for t in strictest if (spared := _spared(t, strictest))}
    said_there = {t.finding.handle for found in pairs.values() for t in found}
    for t in strictest:
        if t.finding.handle in pairs:
            groups[REDUNDANT, t.finding.handle] = list(pairs[t.finding.handle])
        elif t.finding.handle not in said_there:
            groups.setdefault(_group(t), []).append(t)
    said: dict[str, int] = {}
    led: list[tuple[str, str]] = []
    out: list[Sentence] = []
    rest: list[Tested] = []
    for key, group in groups.items():
        kind = REDUNDANT if key[0] == REDUNDANT else group[0].finding.statement.kind
        said[kind] = said.get(kind, 0) + 1
        if said[kind] > MOST or len(out) == SENTENCES:
            rest += [same for t in group for same in versions[_version(t)]]
        else:
            leads = _leads(group[0], led, kind)
            handles = _handles([same for t in group for same in versions[_version(t)]])
            out.append(Sentence(_redundant(group) if kind == REDUNDANT else _say(group), handles, leads))
    if rest:
        kinds = listed(list(dict.fromkeys(t.finding.statement.kind.replace("_", " ") for t in rest)))
        out.append(Sentence(f"{len(rest)} more confirmed findings ({kinds}) stand in the table.", _handles(rest)))
    return tuple(out)


def _version(t: Tested) -> Statement:
    """What a finding says, whatever the number of its examples and the smallest effect that was asked for."""
    return t.finding.statement.model_copy(update={"examples": 0, "smallest": None})


def _versions(standing: Sequence[Tested]) -> dict[Statement, list[Tested]]:
    """Findings that say the same, together: the headline says it once."""
    found: dict[Statement, list[Tested]] = {}
    for t in standing:
        found.setdefault(_version(t), []).append(t)
    return found


def _strict(f: Finding) -> tuple[bool, float, int]:
    """How much a version of a statement asks for."""
    kind = kinds().get(f.statement.kind)
    sign = -1 if kind is not None and kind.stays else 1
    return f.stricter, sign * f.smallest if f.stricter else 0.0, f.statement.examples


def _leads(t: Tested, led: list[tuple[str, str]], kind: str) -> bool:
    """Of each task what the model can do, the first thing that is said about a place, and what is redundant; the first difference.

    led: what has led so far, as (what it is about, task); what leads is added.
    """
    s = t.finding.statement
    about = "ability" if kind in ABILITY else kind if kind in ("differs", REDUNDANT) else "place"
    mine = (about, "" if about == "differs" else s.task)
    if mine in led or len(led) == LEADING:
        return False
    led.append(mine)
    return True


def _handles(group: Sequence[Tested]) -> tuple[str, ...]:
    return tuple(t.finding.handle for t in group)


def _rank(kind: str) -> int:
    return ORDER.index(kind) if kind in ORDER else len(ORDER) + (kind in LAST)


def _group(t: Tested) -> tuple[object, ...]:
    """Findings with the same group are one sentence."""
    s = t.finding.statement
    about = (s.task, s.among, s.interventions, s.objective, t.finding.smallest if t.finding.stricter else None)
    if s.kind in ("necessary", "jointly_necessary"):
        return "needed", *about
    return (s.kind, *about) if s.kind in ("not_needed", "carries") else (s.kind, t.finding.handle)


def _say(group: Sequence[Tested]) -> str:
    """What the findings of a group say; of a single one in the words of its kind, where the headline has none of its own."""
    text, only = _said(group), group[0]
    bound = shown_bound(only.finding, str(only.finding.experiment), only.rows)
    return text if bound in text else f"{text.removesuffix('.')}{bound}."


def _said(group: Sequence[Tested]) -> str:
    match group[0].finding.statement.kind:
        case "necessary" | "jointly_necessary":
            return _needed(group)
        case "not_needed":
            return _not_needed(group)
        case "carries":
            return _carries(group)
        case "sufficient":
            return _enough(group[0])
        case _:
            only = group[0]
            return only.finding.sentence or f"{only.words[:1].upper()}{only.words[1:]}."


def _needed(group: Sequence[Tested]) -> str:
    s = group[0].finding.statement
    alone = [c for t in group if t.finding.statement.kind == "necessary" for c in t.finding.statement.members]
    together = [t.finding.statement.members for t in group if t.finding.statement.kind == "jointly_necessary"]
    members = [*alone, *(c for members in together for c in members)]
    where, strip = _shared_anchor(members)
    parts: list[str] = []
    if alone:
        parts.append(f"{_words(alone, strip)}{' (each by itself)' if len(set(alone)) > 1 else ''}")
    parts += [f"{_words(members, strip)} (together)" for members in together[:MOST]]
    if len(together) > MOST:
        parts.append(f"{len(together) - MOST} more sets")
    effect = _bound(group, min, "at least", several=len(group) + len(alone) > 2 or len(s.interventions) > 1)
    count = len(set(alone)) + len(together)
    without = f"without {'any one of these' if count > 1 else 'them' if together else 'it'}"
    fall = (
        f": {without}{_under(s)}, {FALLS.get(s.objective, f'{s.objective} gets worse')} by {effect}"
        if effect
        else _under(s)
    )
    be = "are" if len(parts) > 1 or is_plural(ComponentSet.of(*members).members) else "is"
    return f"Necessary {_for(s)} {be}{f',{where},' if where else ''} {listed(parts)}{fall}."


def _spared(t: Tested, others: Sequence[Tested]) -> list[Tested]:
    """Of a set that is needed together, the findings that each member alone is not needed; none unless there is one for each."""
    s = t.finding.statement
    if s.kind != "jointly_necessary" or not t.effects:
        return []
    about = ("task", "among", "objective")
    found: dict[tuple[Component, ...], Tested] = {}
    for o in others:
        mine = o.finding.statement
        same = o.effects and all(getattr(mine, name) == getattr(s, name) for name in about)
        if mine.kind == "not_needed" and same and set(s.interventions) <= set(mine.interventions):
            found.setdefault(mine.members, o)
    alone = [found.get((c,)) for c in s.members]
    return [o for o in alone if o is not None] if all(alone) else []


def _redundant(group: Sequence[Tested]) -> str:
    """A set that is needed together while each member alone can be missing: what stands in for what."""
    together, *alone = group
    s = together.finding.statement
    where, strip = _shared_anchor(s.members)
    other, both = ("other", "both") if len(s.members) == 2 else ("others", "all")
    one = _bound(alone, max, "at most", several=True)
    every = _bound([together], min, "at least", several=len(s.interventions) > 1)
    what = f"Redundant {_for(s)} are{f',{where},' if where else ''} {_words(s.members, strip)}, each standing in for the {other}"
    change = f"one at a time{_under(s)}, {CHANGES.get(s.objective, f'{s.objective} changes')} by {one}"
    fall = f"{both} at once{_under(s)}, {FALLS.get(s.objective, f'{s.objective} gets worse')} by {every}"
    return f"{what}: {change}; {fall}."


def _not_needed(group: Sequence[Tested]) -> str:
    s = group[0].finding.statement
    where, strip = _shared_anchor([c for t in group for c in t.finding.statement.members])
    sets = [_words(t.finding.statement.members, strip) for t in group]
    more = f"; {len(sets) - MOST} more sets" if len(sets) > MOST else ""
    several = sum(len(t.finding.statement.members) for t in group) > 1
    whole = " set by set, each all at once" if len(sets) > 1 else " all at once" if several else ""
    effect = _bound(group, max, "at most", several=len(group) > 1 or len(s.interventions) > 1)
    change = f": removed{whole}{_under(s)}, {CHANGES.get(s.objective, f'{s.objective} changes')} by {effect}"
    be = "are" if len(sets) > 1 or is_plural(ComponentSet.parse(s.components).members) else "is"
    said = f"Not needed {_for(s)} {be}{f',{where},' if where else ''} {'; '.join(sets[:MOST])}{more}"
    return f"{said}{change if effect else _under(s)}."


def _enough(t: Tested) -> str:
    s, effect = t.finding.statement, _bound([t], max, "at most", several=len(t.effects) > 1)
    fall = (
        f": with all others removed at once{_under(s)}, {FALLS.get(s.objective, s.objective)} by {effect}"
        if effect
        else ""
    )
    be = "are" if s.set is not None and is_plural(s.set.members) else "is"
    return f"Enough {_for(s)}, of the {len(s.among_what)} components that were tried, {be} {place_words(s)}{fall}."


def _carries(group: Sequence[Tested]) -> str:
    if len(group) == 1 and group[0].finding.sentence:
        return group[0].finding.sentence
    s = group[0].finding.statement
    parts = [
        f"{place_words(t.finding.statement)}"
        + (f" ({_reference(t, t.effects[0])} of examples go over to the twin's answer)" if t.effects else "")
        for t in group[:MOST]
    ]
    more = f", and {len(group) - MOST} more places" if len(group) > MOST else ""
    return f"What decides the answer {_for(s)} is carried by {listed(parts)}{more}."


def _for(s: Statement) -> str:
    return f"for {s.task}{f' among {s.among}' if s.among else ''}"


def _under(s: Statement) -> str:
    """', resampled or zeroed'; nothing where nothing is removed."""
    done = [Intervention.parse(text) for text in s.interventions]
    return f", {listed([how_words(d) for d in done], 'or')}" if done else ""


def _shared_anchor(components: Iterable[Component]) -> tuple[str, bool]:
    """' at the answer' where all of them are there and nowhere else, and whether it may be left out of their names."""
    found = list(components)
    anchors = {c.anchor for c in found}
    if len(anchors) != 1 or not found[0].anchor or any(c.key or c.passes is not None for c in found):
        return "", False
    one = found[0]
    return display(one, role_names([one])).removeprefix(display(one.but(anchor=""))), True


def _words(components: Iterable[Component], strip: bool) -> str:
    made = ComponentSet.of(*(c.but(anchor="") if strip else c for c in components))
    return display(made, role_names(made.members))


def _bound(
    group: Sequence[Tested], pick: Callable[..., tuple[Tested, Measurement]], word: str, *, several: bool
) -> str:
    """The effect that comes nearest to overturning a group of findings, as a reference."""
    every = [(t, m) for t in group for m in t.effects]
    if not every:
        return ""
    t, m = pick(every, key=lambda pair: abs(pair[1].value))
    return f"{word} {_reference(t, m)}" if several else _reference(t, m)


def _reference(t: Tested, m: Measurement) -> str:
    return reference(str(t.finding.experiment), m)
