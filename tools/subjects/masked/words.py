"""The vocabulary of the masked subject's language: English words, with adjectives that agree in gender.

Most kinds of words come in pairs (man and woman, wild place and workplace, animal and machine), so that a sentence has a
twin that differs in one word. Plurals and verb forms are regular but for the pasts listed.
"""

from typing import Literal

Feature = Literal["number", "gender", "sense"]

_PAIRS = {
    "person": "king/queen duke/duchess waiter/waitress prince/princess uncle/aunt nephew/niece monk/nun wizard/witch "
    "actor/actress host/hostess son/daughter brother/sister hero/heroine lord/lady father/mother groom/bride",
    "wild": "forest/factory meadow/garage river/office jungle/workshop desert/kitchen swamp/mill valley/studio "
    "island/station",
    "known": "fox/hammer owl/lamp wolf/engine otter/ladder badger/pump goat/kettle snake/clock rabbit/cart",
    "living": "feed/rust breathe/break hunt/jam drink/leak hatch/crack growl/rattle",
    "lived": "fed/rusted breathed/broke hunted/jammed drank/leaked hatched/cracked growled/rattled",
}
_WORDS = {
    "place": "castle village garden bridge tower harbour chapel market",
    "event": "feast storm trial game war concert",
    "ambiguous": "bat crane seal ram jaguar beetle kite monitor drill bass pike skate",
    "rest": "sleep wait laugh sing walk work dance smile run pause",
    "act": "see admire know help like fear hear need",
    "say": "say think claim believe hope",
    "acted": "greeted called visited thanked watched invited pushed feared",
    "rested": "arrived left appeared returned vanished slept",
    "said": "said thought claimed believed hoped",
    "itself": "blamed praised trusted dressed hid amused",
    "by_subject": "met passed joined followed",
    "of_object": "found painted considered kept",
    "quality": "proud tired young calm tall loud weak kind blond bold",
    "manner": "quietly often again today slowly here",
    "low": "of beside behind near",
    "high": "during after before despite",
    "determiner": "the my our your",
}
LEXICON: dict[str, tuple[tuple[str, ...], ...]] = {
    **{kind: tuple(tuple(pair.split("/")) for pair in words.split()) for kind, words in _PAIRS.items()},
    **{kind: tuple((word,) for word in words.split()) for kind, words in _WORDS.items()},
    "sort": (("who", "which"),),
}
NOUNS = ("person", "wild", "known", "place", "event", "ambiguous")
VERBS = ("rest", "act", "say", "living")  # in the present tense; the other kinds of verb are pasts
LIGHT = ("determiner", "optional", "manner", "quality", "low", "high", "sort")  # what a sentence's content is without
REFLEXIVES = ("himself", "herself", "themselves")
FUNCTION_WORDS = ("that", "who", "which", "and", *REFLEXIVES)
SENSES = ("animal", "machine")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def plural(noun: str) -> str:
    """The plural of a noun."""
    if noun.endswith(("s", "x", "ch")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return {"wolf": "wolves"}.get(noun, noun + ("es" if noun == "hero" else "s"))


def verb(stem: str, *, plural: bool) -> str:
    """A verb's present form that goes with a singular or plural subject."""
    return stem if plural else stem + ("es" if stem.endswith(("ch", "sh", "ss")) else "s")


def feminine(adjective: str) -> str:
    """The form of an adjective that goes with a feminine noun."""
    return adjective + "e"


def reflexive(*, plural: bool, female: bool) -> str:
    """The pronoun that goes with an antecedent."""
    return REFLEXIVES[2 if plural else int(female)]


def vocabulary() -> list[str]:
    """Every token in the order of its id: specials, then words sorted."""
    found = set[str](FUNCTION_WORDS)
    for kind, entries in LEXICON.items():
        for form in (form for entry in entries for form in entry):
            found.add(form)
            if kind in NOUNS:
                found.add(plural(form))
            elif kind in VERBS:
                found.add(verb(form, plural=False))
            elif kind == "quality":
                found.add(feminine(form))
    return [*SPECIAL, *sorted(found)]
