"""Classes of a task's examples: what can be known of an example without a model, and conditions on it.

A condition is `carry=1`, `carry!=1`, `length>=7` or `length<7`; several that must all hold are joined by commas. It may be about a
label, a piece of metadata, or what everybody can see in the example: its words and those of its spans, how many there are, and of
what kind they are. So a class can be chosen among examples that no model has been run on.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tools.tasks.spans import ORDINALS, anchor_words

if TYPE_CHECKING:
    from tools.tasks.example import Example, Value

Sign = Literal["=", "!=", ">=", "<"]
VISIBLE = ("word", "last word", "kind of")  # how the names of what is visible begin
MOST_WORDS = 12  # counted from each end
OPPOSITE: dict[Sign, Sign] = {"=": "!=", "!=": "=", ">=": "<", "<": ">="}
SIGNS: dict[Sign, str] = {"=": "is", "!=": "is not", ">=": "is at least", "<": "is below"}
_WORD = re.compile(r"\w+|[^\w\s]")
_CONDITION = re.compile(r"\s*(.*?[^\s!<>=])\s*(!=|>=|<|=)\s*(\S.*?)\s*")


@dataclass(frozen=True)
class Condition:
    """One condition: the name of what is known, a sign, and a value as text."""

    key: str
    sign: Sign
    value: str

    def __str__(self) -> str:
        return f"{self.key}{self.sign}{self.value}"

    @property
    def opposite(self) -> "Condition":
        """What holds for exactly the other examples of which it is known."""
        return Condition(self.key, OPPOSITE[self.sign], self.value)

    def holds(self, values: "Mapping[str, Value]") -> bool:
        """Whether it holds for these values; not where nothing is known."""
        if self.key not in values:
            return False
        found = values[self.key]
        if self.sign in ("=", "!="):
            return is_value(found, self.value) == (self.sign == "=")
        try:
            return not isinstance(found, str) and (float(found) >= float(self.value)) == (self.sign == ">=")
        except ValueError:
            return False


def class_words(among: str, labels: Mapping[str, str]) -> str:
    """A class in words: of `index<1` that the place of what is asked for is below 1; '' for what names none.

    labels: what labels say, by name; any other key is what is visible in a text, or a label that says what it is called.
    """
    try:
        found = parse(among)
    except ValueError:
        return ""
    return ", and ".join(f"{key_words(c.key, labels)} {SIGNS[c.sign]} {c.value}" for c in found)


def key_words(key: str, labels: Mapping[str, str]) -> str:
    """What a condition is about, in words."""
    family, dot, member = key.partition(".")
    if said := labels.get(key):
        return said
    if dot and (said := labels.get(f"{family}.*")):
        return f"{said} ({member})"
    for begin, form in (("kind of ", "the kind of {}"), ("words of ", "the number of words of {}"), ("word of ", "{}")):
        if key.startswith(begin):
            rest = key.removeprefix(begin)
            return form.format(key_words(rest, {}) if rest.startswith(VISIBLE) else anchor_words(rest))
    if m := re.fullmatch(r"word (-?)(\d+)", key):
        nth = ORDINALS[int(m[2]) - 1] if 1 <= int(m[2]) <= len(ORDINALS) else f"{m[2]}th"
        return f"the {nth} word{' from the end' if m[1] else ''}"
    return {"words": "the number of words", "last word": "the last word"}.get(key, f"the label “{key}”")


def parse(text: str) -> tuple[Condition, ...]:
    """`carry=1,digits!=2x2` in parts; ValueError for anything else."""
    out: list[Condition] = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        m = _CONDITION.fullmatch(part)
        if m is None:
            raise ValueError(
                f"a class of examples is written key=value (also with !=, >= or <), for example carry=1, not {part!r}"
            )
        out.append(Condition(m[1], m[2], m[3]))  # type: ignore[arg-type]  # one of the signs
    return tuple(out)


def is_value(value: "Value", text: str) -> bool:
    """Whether a label has the value that `text` names: as a word in any case, as a number, or true and false as 1 and 0."""
    if str(value).lower() == text.lower():
        return True
    try:
        return not isinstance(value, str) and float(value) == float(text)
    except ValueError:
        return False


def known(example: "Example", wanted: Sequence[Condition] | None = None) -> "dict[str, Value]":
    """Everything by which an example can be chosen: its labels and metadata, and what is visible in it; where conditions are
    given, what they may be about.
    """
    first = next(iter(example.inputs.values()))
    looks = wanted is None or any(c.key.startswith(VISIBLE) for c in wanted)
    return {**(visible(first, example.spans) if looks and isinstance(first, str) else {}), **example.values}


def visible(text: str, spans: Mapping[str, tuple[int, ...]]) -> "dict[str, Value]":
    """What can be seen in a text: how many words it has, the words counted from its beginning and from its end, those of its
    spans, and of each its kind: number, sign, capital (it begins with one) or small.
    """
    words = _WORD.findall(text)
    named = {f"word -{i}" if i > 1 else "last word": w for i, w in enumerate(words[: -MOST_WORDS - 1 : -1], 1)}
    named |= {f"word {i}": w for i, w in enumerate(words[:MOST_WORDS], 1)}
    named |= {f"word of {role}": text[slice(*span)].strip() for role, span in spans.items()}
    out: dict[str, Value] = {"words": len(words)}
    out |= {f"words of {role}": len(_WORD.findall(text[slice(*span)])) for role, span in spans.items()}
    out |= {name: word for name, word in named.items() if word}
    return out | {f"kind of {name}": kind_of_word(word) for name, word in named.items() if word}


def kind_of_word(word: str) -> str:
    """Number, sign, capital or small."""
    if word[0].isdigit():
        return "number"
    return "sign" if not word[0].isalnum() else "capital" if word[0].isupper() else "small"
