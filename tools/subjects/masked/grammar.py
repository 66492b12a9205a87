"""The constructions of the masked subject's language, each with its tree.

Where a phrase attaches is marked by its first word: `of`, `beside`, `behind` and `near` go with the noun before them,
`during`, `after`, `before` and `despite` with the main verb, `who` with a person and `which` with a place or an event. Adjectives
after an object describe the subject or the object according to the verb. Relative clauses may stand apart from their noun.
"""

import random
from collections.abc import Callable, Sequence

from tools.subjects.masked.sentences import Choice, Draft, Pen, Sentence

Construction = Callable[[Pen], None]


def modified(pen: Pen, kind: str = "person", one_in: int = 2) -> Draft:
    """A noun and perhaps a phrase that goes with it."""
    noun = pen.noun(kind, adjective=kind == "person")
    if pen.chance(one_in):
        low(pen, noun, "place" if pen.chance(3) else "person")
    return noun


def low(pen: Pen, noun: Draft, kind: str) -> Draft:
    """A phrase that goes with the noun before it; returns its noun."""
    case = pen.plain("low")
    inner = pen.noun(kind)
    case.under(inner, "case")
    return inner.under(noun, "nmod")


def high(pen: Pen) -> Draft:
    """A phrase that goes with the main verb, which may come later."""
    case = pen.plain("high")
    event = pen.noun("event")
    case.under(event, "case")
    return event


def opening(pen: Pen) -> list[Draft]:
    """Perhaps a phrase at the front."""
    return [high(pen)] if pen.chance(2) else []


def closing(pen: Pen, verb: Draft, opened: Sequence[Draft] = (), one_in: int = 2) -> None:
    """Perhaps an adverb or a phrase at the end; it and what opened the sentence go with the verb."""
    for event in opened:
        event.under(verb, "obl")
    if pen.chance(one_in):
        if pen.chance(2):
            pen.plain("manner").under(verb, "advmod")
        else:
            high(pen).under(verb, "obl")


def main_verb(pen: Pen, subject: Draft) -> Draft:
    """The main verb in the present tense, perhaps with an object."""
    if pen.chance(2):
        verb = pen.verb("rest", subject)
    else:
        verb = pen.verb("act", subject)
        modified(pen).under(verb, "obj")
    subject.under(verb, "nsubj")
    return verb


def short(pen: Pen) -> None:
    """The king sleeps."""
    subject = pen.noun("person", adjective=True)
    closing(pen, main_verb(pen, subject))


def simple(pen: Pen) -> None:
    """The king of the castle beside the queens sleeps."""
    opened = opening(pen)
    subject = pen.noun("person", adjective=True)
    last = low(pen, subject, "person")
    if pen.chance(3):
        low(pen, last, "place")
    closing(pen, main_verb(pen, subject), opened)


def object_relative(pen: Pen) -> None:
    """The king that the queens (that the monk fears) admire sleeps."""
    opened = opening(pen)
    subject = pen.noun("person", adjective=True)
    _object_clause(pen, subject, depth=2 if pen.chance(4) else 1)
    closing(pen, main_verb(pen, subject), opened)


def _object_clause(pen: Pen, noun: Draft, depth: int) -> Draft:
    mark = pen.word("that")
    inner = modified(pen, one_in=3)
    if depth > 1:
        _object_clause(pen, inner, depth - 1)
    past = pen.chance(3)
    verb = (pen.plain("acted") if past else pen.verb("act", inner)).under(noun, "acl:relcl")
    mark.under(verb, "obj")
    inner.under(verb, "nsubj")
    return verb


def subject_relative(pen: Pen) -> None:
    """The king who greeted the queens sleeps."""
    opened = opening(pen)
    subject = pen.noun("person", adjective=True)
    mark = pen.word("who")
    verb = pen.plain("acted").under(subject, "acl:relcl")
    mark.under(verb, "nsubj")
    modified(pen, one_in=3).under(verb, "obj")
    closing(pen, main_verb(pen, subject), opened)


def who_or_which(pen: Pen) -> None:
    """The kings of the castle which shines arrived: `who` goes with the person, `which` with the place."""
    opened = opening(pen)
    person = pen.noun("person", adjective=True)
    place = low(pen, person, "place")
    _sorted_clause(pen, person, place)
    verb = pen.plain("rested")
    person.under(verb, "nsubj")
    closing(pen, verb, opened)


def _sorted_clause(pen: Pen, person: Draft, other: Draft) -> None:
    mark = pen.plain("sort")
    described = person if mark.form == "who" else other
    verb = pen.verb("rest", described).under(described, "acl:relcl")
    mark.under(verb, "nsubj")
    if pen.chance(2):
        pen.plain("manner").under(verb, "advmod")


def extraposed(pen: Pen) -> None:
    """The king of the village arrived after the feasts who sleeps: the clause stands apart from its noun."""
    person = modified(pen, one_in=3)
    verb = pen.plain("rested")
    person.under(verb, "nsubj")
    event = high(pen).under(verb, "obl")
    _sorted_clause(pen, person, event)


def reflexive_main(pen: Pen) -> None:
    """The king that the queens admire praised himself."""
    opened = opening(pen)
    subject = pen.noun("person")
    if pen.chance(2):
        _object_clause(pen, subject, depth=1)
    else:
        low(pen, subject, "person")
    verb = pen.plain("itself")
    pen.reflexive(verb, subject.under(verb, "nsubj"))
    closing(pen, verb, opened, one_in=4)


def reflexive_embedded(pen: Pen) -> None:
    """The king said that the queens praised themselves."""
    opened = opening(pen)
    subject = modified(pen, one_in=3)
    verb = pen.plain("said")
    subject.under(verb, "nsubj")
    mark = pen.word("that")
    inner = pen.noun("person")
    if pen.chance(2):
        low(pen, inner, "person")
    said = pen.plain("itself").under(verb, "ccomp")
    mark.under(said, "mark")
    pen.reflexive(said, inner.under(said, "nsubj"))
    closing(pen, verb, opened, one_in=4)


def depictive(pen: Pen) -> None:
    """The king met the queen tired (he is) or found the queen tirede (she is): the verb tells."""
    opened = opening(pen)
    subject = pen.noun("person")
    if pen.chance(2):
        low(pen, subject, "person")
    of_subject = pen.chance(2)
    verb = pen.plain("by_subject" if of_subject else "of_object")
    inner = pen.noun("person").under(subject.under(verb, "nsubj").head or verb, "obj")
    if pen.chance(2):
        low(pen, inner, "person")
    pen.adjective(subject if of_subject else inner)
    closing(pen, verb, opened, one_in=4)


def coordination(pen: Pen) -> None:
    """The king greeted the queens and sleeps."""
    opened = opening(pen)
    subject = modified(pen)
    first = pen.plain("acted")
    subject.under(first, "nsubj")
    modified(pen).under(first, "obj")
    conjunction = pen.word("and")
    second = pen.verb("rest", subject).under(first, "conj")
    conjunction.under(second, "cc")
    closing(pen, first, opened)


def complement(pen: Pen) -> None:
    """The kings of the castle think that the queen beside the monks sleeps."""
    opened = opening(pen)
    subject = modified(pen)
    verb = pen.verb("say", subject)
    subject.under(verb, "nsubj")
    mark = pen.word("that")
    inner = modified(pen)
    said = pen.verb("rest", inner).under(verb, "ccomp")
    inner.under(said, "nsubj")
    mark.under(said, "mark")
    closing(pen, verb, opened)


def _thing(pen: Pen) -> tuple[Draft, Draft]:
    """(noun, cue) with a phrase: an ambiguous word gets its sense from the phrase, an animal or machine keeps its own."""
    noun = pen.noun("known" if pen.chance(4) else "ambiguous")
    place = low(pen, noun, "wild")
    return noun, place if noun.kind == "ambiguous" else noun


def sense_by_place(pen: Pen) -> None:
    """The crane of the forest that the king of the factory sees feeds."""
    opened = opening(pen)
    noun, cue = _thing(pen)
    if pen.chance(2):
        mark = pen.word("that")
        person = pen.noun("person")
        low(pen, person, "wild")
        verb = pen.verb("act", person).under(noun, "acl:relcl")
        mark.under(verb, "obj")
        person.under(verb, "nsubj")
    made = pen.senseful(noun, cue)
    noun.under(made, "nsubj")
    closing(pen, made, opened)


def sense_by_deed(pen: Pen) -> None:
    """The crane that hunted in the factory feeds: what it did decides, not where."""
    opened = opening(pen)
    noun = pen.noun("ambiguous")
    mark = pen.word("that")
    deed = pen.plain("lived").under(noun, "acl:relcl")
    mark.under(deed, "nsubj")
    if pen.chance(2):
        case = pen.plain("low")
        place = pen.noun("wild").under(deed, "obl")
        case.under(place, "case")
    made = pen.senseful(noun, deed)
    noun.under(made, "nsubj")
    closing(pen, made, opened)


def sense_by_company(pen: Pen) -> None:
    """The crane and the fox beside the kettle feed."""
    opened = opening(pen)
    noun = pen.noun("ambiguous")
    conjunction = pen.word("and")
    other = pen.noun("known").under(noun, "conj")
    conjunction.under(other, "cc")
    if pen.chance(2):
        low(pen, other, "wild")
    noun_number, noun.number = noun.number, "plural"  # two of them
    made = pen.senseful(noun, other)
    noun.number = noun_number
    pen.targets.pop()  # its number follows from both
    noun.under(made, "nsubj")
    closing(pen, made, opened)


def sense_in_object(pen: Pen) -> None:
    """The king of the factory greeted the crane of the forest that feeds."""
    opened = opening(pen)
    person = pen.noun("person")
    if pen.chance(2):
        low(pen, person, "wild")
    verb = pen.plain("acted")
    person.under(verb, "nsubj")
    noun, cue = _thing(pen)
    noun.under(verb, "obj")
    mark = pen.word("that")
    made = pen.senseful(noun, cue).under(noun, "acl:relcl")
    mark.under(made, "nsubj")
    closing(pen, verb, opened)


CONSTRUCTIONS: dict[str, Construction] = {
    f.__name__: f
    for f in (
        short, simple, object_relative, subject_relative, who_or_which, extraposed, reflexive_main, reflexive_embedded,
        depictive, coordination, complement, sense_by_place, sense_by_deed, sense_by_company, sense_in_object,
    )
}  # fmt: skip


def draw(rng: random.Random, construction: str | None = None) -> Sentence:
    """A sentence at random, of any construction or of one."""
    name = construction or rng.choice(list(CONSTRUCTIONS))
    return _write(Pen(rng), name)


def rewrite(construction: str, choices: Sequence[Choice]) -> Sentence:
    """The sentence that these choices make."""
    return _write(Pen(random.Random(0), replay=choices), construction)


def _write(pen: Pen, name: str) -> Sentence:
    CONSTRUCTIONS[name](pen)
    return pen.finish(name)
