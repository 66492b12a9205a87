"""What the integrity gate found, free of torch: which of a model's parts are what their names say, and which are refused."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["holds", "fails", "not seen"]

CHECKS: dict[str, str] = {
    "finite": "logits are finite",
    "identity": "the identity program gives the plain model's logits",
    "rows": "a row's logits do not depend on the other rows, their order or padding",
    "causal": "no token is influenced by a later one, where the model is causal",
    "reading": "each part reads as in the plain model",
    "equation": "a block's parts add up as its family declares",
    "projection": "z through the output projection is what attention adds, likewise for the MLP",
    "pattern": "patterns sum to 1, look at no later token, and times v give z",
    "self-patch": "a part put back where it was changes nothing",
    "edit": "each edit is found at the part, unit and position asked for, and nowhere else there",
    "effect": "each edit moves the logits as the same change of the plain model does",
}
WHOLE = ("finite", "identity", "rows", "causal")


@dataclass(frozen=True)
class Check:
    """One check of one part, over blocks and cases.

    part: kind of site, or nothing for the whole model. cases: comparisons made. worst: the largest deviation, relative to
    what was expected (1 is as large as itself); limit: what is allowed. detail: what is wrong, with the block. still: of
    the edits, how many move no logits of the plain model either, and so show nothing about theirs.
    """

    name: str
    stack: str
    part: str
    verdict: Verdict
    cases: int
    worst: float
    limit: float
    detail: str = ""
    still: int = 0


@dataclass(frozen=True)
class IntegrityReport:
    """All checks of one model. blocks: where edits were tried, by stack; seconds: how long it took."""

    checks: tuple[Check, ...]
    blocks: Mapping[str, tuple[int, ...]]
    seconds: float = 0.0

    @property
    def broken(self) -> str | None:
        """Why this model cannot be studied at all, or None where it can."""
        return next((_reason(c) for c in self.checks if c.verdict == "fails" and c.name in WHOLE), None)

    @property
    def passed(self) -> bool:
        """Whether everything held."""
        return all(c.verdict == "holds" for c in self.checks)

    def refuses(self, part: str, stack: str | None = None) -> str | None:
        """Why a kind of site is refused for this model, or None where it may be used; without a stack, in any of them."""
        if self.broken:
            return self.broken
        for c in self.checks:
            if c.part == part and stack in (None, c.stack) and c.verdict != "holds":
                return _reason(c)
        return None

    @property
    def refused(self) -> dict[str, dict[str, str]]:
        """By stack and kind of site, why it is refused: what `Subject.without` takes."""
        out: dict[str, dict[str, str]] = {}
        for c in self.checks:
            if c.part and c.verdict != "holds":
                out.setdefault(c.stack, {}).setdefault(c.part, _reason(c))
        return out

    def line(self) -> str:
        """One line for a terminal."""
        cases = sum(c.cases for c in self.checks)
        if self.broken:
            return f"refused: {self.broken}"
        parts = [f"{stack}.{part}" for stack, kinds in self.refused.items() for part in kinds]
        if not cases:
            return f"not checked: {'; '.join(c.detail for c in self.checks)}"
        held = f"{cases} comparisons with the plain model in {self.seconds:.1f} s"
        return f"{held}: all hold" if not parts else f"{held}; refused for this model: {', '.join(parts)}"

    def as_json(self) -> dict[str, Any]:
        """Plain data, as it is kept with a run."""
        return {
            "checks": [asdict(c) for c in self.checks],
            "blocks": {k: list(v) for k, v in self.blocks.items()},
            "seconds": self.seconds,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "IntegrityReport":
        """The report that `as_json` wrote."""
        blocks = {k: tuple(v) for k, v in value["blocks"].items()}
        return cls(tuple(Check(**c) for c in value["checks"]), blocks, value["seconds"])

    def table(self) -> list[tuple[str, int, float, str]]:
        """(what was checked, comparisons, largest deviation, verdict) for each check that was made."""
        rows: list[tuple[str, int, float, str]] = []
        for name, words in CHECKS.items():
            mine = [c for c in self.checks if c.name == name]
            if mine:
                bad = [f"{c.stack}.{c.part}".strip(".") for c in mine if c.verdict != "holds"]
                still = sum(c.still for c in mine)
                verdict = "holds" if not bad else "fails: " + (", ".join(b or "the model" for b in bad))
                verdict += f" ({still} of the edits move no logits of the plain model either)" if still else ""
                rows.append((words, sum(c.cases for c in mine), max(c.worst for c in mine), verdict))
        return rows

    def reasons(self) -> Sequence[str]:
        """One sentence for each part that is refused."""
        return [f"{stack}.{part}: {why}" for stack, kinds in self.refused.items() for part, why in kinds.items()]


def _reason(c: Check) -> str:
    return f"{CHECKS[c.name]}: not so here ({c.detail})"
