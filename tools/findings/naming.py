"""Whether the places that a text names are there: `block 3`, `heads 1 and 2`, `MLP 4`, `head 2.7`, `the third block`,
`STACK.3.mlp`.
"""

import re
from collections.abc import Iterator

from experiments_db.places import PARTS
from tools.findings.numerals import CARDINALS, COUNTED, ORDINALS
from tools.methods.layout import layout_of
from tools.subjects import Subject

PLACE = re.compile(
    r"(?<![\w.])[a-z_]\w*\.(?:\d+\.)?[a-z_]+(?:\.[a-z_]+)*(?:\[[\d, *-]+\])?(?:#\d+)?(?:@-?[\w.]+)?(?:<-[\w.:-]+)?"
)
LIST = r"-?\d+(?:\.\d+)?(?:(?:\s*(?:,|and|or|to|through|-|–)\s*)+-?\d+(?:\.\d+)?)*"
NOUNS = (
    r"(?:blocks?|layers?|heads?|mlps?|attentions?|attn|neurons?|positions?|tokens?|channels?|units?|passes?|steps? )"
)
NAMED = re.compile(rf"\b{NOUNS}(?:\s+(?:number\s+|#\s*)?|#|-|(?<=mlp)|(?<=attn))({LIST})(?!\s*%|\w)", re.IGNORECASE)
SHORT = re.compile(r"\bL(\d+)\.?H(\d+)\b", re.IGNORECASE)  # head 3 of block 1: L1H3
_IN_BLOCK = re.compile(r"([a-z_]\w*)\.(\d+)\.([a-z_]+(?:\.[a-z_]+)*)(?:\[([\d, *-]+)\])?")
ORDINAL = r"\d+(?:st|nd|rd|th)\s+(?:attention\s+)?(?:head|block|layer|mlp|attention)\b"
_COUNTED = re.compile(
    rf"\b({'|'.join([*CARDINALS, *ORDINALS])}|\d+(?:st|nd|rd|th))\s+"
    r"((?:attention\s+)?heads?|blocks?|layers?|mlps?|attentions?)\b",
    re.IGNORECASE,
)
_SPELLED = re.compile(
    rf"\b(block|layer|head|mlp|attention)\s+({'|'.join(CARDINALS)})\b(?!\s+(?:\w+\s+)?{COUNTED}\b)", re.IGNORECASE
)


def missing(subject: Subject, text: str) -> str | None:
    """What a text names that the subject does not have, with what there is; None where all of it is there."""
    return next(_missing(subject, text), None)


def _missing(subject: Subject, text: str) -> Iterator[str]:
    stacks = subject.stacks.values()
    blocks, heads = max(len(s.blocks) for s in stacks), max(s.n_heads for s in stacks)
    layout = layout_of(subject)
    neurons = max(s.blocks[0].neurons for s in layout.stacks)
    there = f"blocks are 0 to {blocks - 1}, each with heads 0 to {heads - 1}"
    for m in NAMED.finditer(text):
        noun = re.split(r"[^a-z]", m[0].lower())[0].rstrip("s")
        most = {
            "head": heads,
            "neuron": neurons,
            "block": blocks,
            "layer": blocks,
            "mlp": blocks,
            "attention": blocks,
            "attn": blocks,
        }
        for number in re.findall(r"\d+(?:\.\d+)?", m[1]):
            block, dot, unit = number.partition(".")
            if dot:
                gone = len(unit) == 1 and (int(block) >= blocks or int(unit) >= heads)
            else:
                gone = noun in most and int(block) >= most[noun]
            if gone:
                yield f"there is no {noun} {number} in {subject.name}: {there}" + (
                    f", and neurons 0 to {neurons - 1}" if noun == "neuron" else ""
                )
    for m in SHORT.finditer(text):
        if int(m[1]) >= blocks or int(m[2]) >= heads:
            yield f"there is no {m[0]} in {subject.name}: {there}"
    for m in _SPELLED.finditer(text):
        if CARDINALS[m[2].lower()] >= (heads if m[1].lower() == "head" else blocks):
            yield f"there is no {m[0]} in {subject.name}: {there}"
    for m in _COUNTED.finditer(text):
        one_head = "head" in m[2].lower()
        word = m[1].lower()
        if word in CARDINALS:
            number, most = CARDINALS[word], blocks * heads
        else:
            number, most = ORDINALS.get(word) or int(word[:-2]), heads
        if number > (most if one_head else blocks):
            yield f"{m[0]!r} is more than there is in {subject.name}: {there}"
    parts = sorted({p for s in layout.stacks for b in s.blocks for p in b.parts})
    for place in PLACE.finditer(text):
        if (m := _IN_BLOCK.match(place[0])) is None:
            continue
        spec = subject.stacks.get(m[1])
        if spec is None:
            yield f"{place[0]}: {subject.name} has no stack {m[1]!r}; it has {', '.join(subject.stacks)}"
        elif int(m[2]) >= len(spec.blocks):
            yield f"{place[0]}: {m[1]} has blocks 0 to {len(spec.blocks) - 1}"
        elif not any(p == m[3] or p.startswith(f"{m[3]}.") for p in parts):
            yield f"{place[0]}: there is no part {m[3]!r}; parts of a block are {', '.join(parts)}"
        elif m[4] and (full := PARTS.get(m[3])) is not None and full.unit in ("head", "neuron"):
            size = spec.n_heads if full.unit == "head" else neurons
            if any(int(n) >= size for n in re.findall(r"\d+", m[4])):
                yield f"{place[0]}: {full.units} are 0 to {size - 1}"
