"""Which places a planner's own words name, and what its findings say of them: so that a reader sees where words go beyond."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agent.report.tested import WORDS
from experiments_db.findings import Finding, Statement
from experiments_db.places import Component, Path, PlaceError
from experiments_db.records import Hypothesis
from tools.findings.naming import LIST, NAMED, PLACE, SHORT
from tools.findings.phrases import listed
from tools.findings.wording import BEFORE_A_NUMBER, HANDLE, HEAD, REFERENCE, SPEC

PARTS = {"head": "attn", "neuron": "mlp", "mlp": "mlp", "attention": "attn", "attn": "attn", "block": "", "layer": ""}
UNITS = ("head", "neuron")
OF_BLOCK = re.compile(rf"\b(heads?|neurons?)\s+({LIST})\s+(?:of|in)\s+(?:block|layer)\s+(\d+)", re.IGNORECASE)
BLOCKS_OWN = re.compile(rf"\b(?:block|layer)\s+(\d+)(?:'s|,)?\s+(heads?|neurons?)\s+({LIST})", re.IGNORECASE)
PART_OF = re.compile(r"\b(mlp|attention)\s+(?:of|in)\s+(?:block|layer)\s+(\d+)", re.IGNORECASE)
BLOCKS_PART = re.compile(r"\b(?:block|layer)\s+(\d+)'s\s+(mlp|attention)\b", re.IGNORECASE)
MOST = 4  # findings about one place that are named


@dataclass(frozen=True)
class Named:
    """A place in prose. part: attn, mlp, or '' for a whole block; block and unit: None where the words leave them open."""

    part: str
    block: int | None
    unit: int | None = None

    def __str__(self) -> str:
        if self.unit is None:
            return f"{ {'attn': 'attention', 'mlp': 'MLP', '': 'block'}[self.part] } {self.block}"
        number = self.unit if self.block is None else f"{self.block}.{self.unit}"
        return f"{'head' if self.part == 'attn' else 'neuron'} {number}"

    @property
    def order(self) -> tuple[int, str, int]:
        """The order of the model."""
        return (-1 if self.block is None else self.block), self.part, (-1 if self.unit is None else self.unit)

    def holds(self, c: Component) -> bool:
        """Whether a component lies here: a part or a unit of it in the block that is named, or the place itself."""
        within = "attn" if c.part.startswith("cross") else c.part.partition(".")[0]
        if self.block not in (None, c.block) or c.block is None or (self.part and within != self.part):
            return False
        return self.unit is None or self.unit in c.units


def places_named(text: str) -> tuple[Named, ...]:
    """The blocks, heads, MLPs and neurons that a text names, each once, in the order of the model."""
    said = HANDLE.sub(" ", SPEC.sub(" ", REFERENCE.sub(" ", text)))
    return tuple(sorted(set(_named(said)), key=lambda n: n.order))


def bearing(text: str, findings: Sequence[Finding]) -> str:
    """'Of what it names, MLP 3: F4 (not needed); head 2.1: nothing was settled.'; '' for words that name no place."""
    said = [f"{place}: {_of(place, findings)}" for place in places_named(text)]
    return f"Of what it names, {'; '.join(said)}." if said else ""


def beside(h: Hypothesis, findings: Sequence[Finding]) -> str:
    """'none of its findings is about MLP 3': the places that a hypothesis names and none of its findings is about."""
    mine = [f for f in findings if f.hypothesis == h.handle and f.settled]
    about = {c for f in mine for c in _components(f.statement)}
    missed = [str(p) for p in places_named(h.statement) if not any(p.holds(c) for c in about)]
    return f"none of its findings is about {listed(missed)}" if missed and mine else ""


def _of(place: Named, findings: Sequence[Finding]) -> str:
    about = [f for f in findings if f.settled and any(place.holds(c) for c in _components(f.statement))]
    said = [
        f"{f.handle} ({'' if f.stands else 'taken back, ' if f.retracted else f'{f.fate}, '}{_kind(f)})"
        for f in about[:MOST]
    ]
    more = f" and {len(about) - MOST} more" if len(about) > MOST else ""
    return f"{', '.join(said)}{more}" if said else "nothing was settled"


def _kind(f: Finding) -> str:
    return WORDS.get(f.statement.kind, f.statement.kind.replace("_", " "))


def _components(s: Statement) -> tuple[Component, ...]:
    """The components that a statement is about; a path's nodes."""
    try:
        return Path.parse(s.path).nodes if s.path else tuple(s.members)
    except PlaceError:  # a record from elsewhere
        return ()


def _named(said: str) -> Iterator[Named]:
    found: list[Named] = []

    def units(noun: str, numbers: str, block: int | None) -> str:
        part = PARTS[noun.lower().rstrip("s")]
        found.extend(Named(part, block, n) for n in _numbers(numbers))
        return " "

    def component(m: re.Match[str]) -> str:
        try:
            c = Component.parse(m[0])
        except PlaceError:
            return m[0]
        if c.block is not None:
            part = "attn" if c.part.startswith("cross") else c.part.partition(".")[0]
            part = part if part in ("attn", "mlp") else ""
            found.extend(Named(part, c.block, u) for u in (c.units if part else ()) or (None,))
        return " "

    def plain(m: re.Match[str]) -> str:
        noun = re.split(r"[^a-z]", m[0].lower())[0].rstrip("s")
        if noun not in PARTS:
            return m[0]
        for number in re.findall(r"\d+\.\d+", m[1]):
            block, _, unit = number.partition(".")
            found.append(Named(PARTS[noun], int(block), int(unit)))
        rest = _numbers(re.sub(r"\d+\.\d+", " ", m[1]))
        found.extend(Named(PARTS[noun], None, n) if noun in UNITS else Named(PARTS[noun], n) for n in rest)
        return " "

    def head(m: re.Match[str]) -> str:
        before = re.findall(r"\S+", m.string[: m.start()])[-1:]
        if not before or before[0].lower().strip("(,;:") not in BEFORE_A_NUMBER:
            found.append(Named("attn", int(m[1]), int(m[2])))
        return " "

    said = PLACE.sub(component, said)
    said = OF_BLOCK.sub(lambda m: units(m[1], m[2], int(m[3])), said)
    said = BLOCKS_OWN.sub(lambda m: units(m[2], m[3], int(m[1])), said)
    for pattern, block, part in ((PART_OF, 2, 1), (BLOCKS_PART, 1, 2)):
        found.extend(Named(PARTS[m[part].lower()], int(m[block])) for m in pattern.finditer(said))
        said = pattern.sub(" ", said)
    found.extend(Named("attn", int(m[1]), int(m[2])) for m in SHORT.finditer(said))
    HEAD.sub(head, NAMED.sub(plain, SHORT.sub(" ", said)))
    yield from found


def _numbers(text: str) -> Iterator[int]:
    """1, 2 and 5 of '1, 2 and 5'; 1, 2 and 3 of '1 to 3'."""
    spans = re.sub(
        r"(\d+)\s*(?:to|through|-|–)\s*(\d+)", lambda m: " ".join(map(str, range(int(m[1]), int(m[2]) + 1))), text
    )
    yield from (int(n) for n in re.findall(r"\d+", spans))
