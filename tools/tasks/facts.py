"""Country capitals in a few templates: 'The capital of France is' -> ' Paris'.

About half of the countries have one template in which the demo model never saw them; those examples are the splits.
"""

import random
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from tools.tasks.spans import fill
from tools.tasks.task import Example, Family, Options, Split, unit_hash

_TABLE = """France Paris;Spain Madrid;Italy Rome;Germany Berlin;Portugal Lisbon;Greece Athens;Austria Vienna;
Belgium Brussels;Ireland Dublin;Norway Oslo;Sweden Stockholm;Finland Helsinki;Denmark Copenhagen;Poland Warsaw;
Hungary Budapest;Romania Bucharest;Bulgaria Sofia;Serbia Belgrade;Croatia Zagreb;Ukraine Kyiv;Iceland Reykjavik;
Latvia Riga;Estonia Tallinn;Russia Moscow;Japan Tokyo;China Beijing;India Delhi;Iran Tehran;Iraq Baghdad;
Syria Damascus;Turkey Ankara;Thailand Bangkok;Vietnam Hanoi;Nepal Kathmandu;Mongolia Ulaanbaatar;Indonesia Jakarta;
Pakistan Islamabad;Afghanistan Kabul;Bangladesh Dhaka;Lebanon Beirut;Jordan Amman;Qatar Doha;Egypt Cairo;
Kenya Nairobi;Ghana Accra;Nigeria Abuja;Morocco Rabat;Tunisia Tunis;Libya Tripoli;Senegal Dakar;Uganda Kampala;
Angola Luanda;Zambia Lusaka;Canada Ottawa;Cuba Havana;Peru Lima;Chile Santiago;Ecuador Quito;Uruguay Montevideo;
Venezuela Caracas;Colombia Bogota;Australia Canberra"""
_PAIRS = [(country, capital) for country, _, capital in (p.partition(" ") for p in _TABLE.replace("\n", "").split(";"))]
CAPITALS: dict[str, str] = dict(_PAIRS)
TEMPLATES = {
    "statement": ("The capital of {country} is", " {capital}"),
    "question": ("Q: What is the capital of {country}?\nA:", " {capital}"),
    "reverse": ("{capital} is the capital of", " {country}"),
    "short": ("{country}:", " {capital}"),
}


class FactsOptions(Options):
    """In which words the fact is asked for."""

    template: Literal["any", "statement", "question", "reverse", "short"] = Field(
        default="any", description="wording; any draws one"
    )


def side(country: str, template: str) -> Literal["train", "explore", "confirm"]:
    """Which split a country in a template belongs to."""
    names = list(TEMPLATES)
    u = unit_hash("facts", country)
    if u >= 0.6 or names[int(unit_hash("template", country) * len(names))] != template:
        return "train"
    return "explore" if u < 0.3 else "confirm"


def prompt_and_answer(country: str, template: str) -> tuple[str, str]:
    """The text before the answer, and the answer."""
    words = {"country": country, "capital": CAPITALS[country]}
    prompt, answer = TEMPLATES[template]
    return prompt.format(**words), answer.format(**words)


def _draw(options: FactsOptions, split: Split, rng: random.Random) -> Iterator[Example]:
    pairs = [(c, t) for c in CAPITALS for t in TEMPLATES if options.template in ("any", t) and side(c, t) == split]
    rng.shuffle(pairs)
    for country, template in pairs:
        prompt, answer = prompt_and_answer(country, template)
        role = "capital" if template == "reverse" else "country"
        _, spans = fill(TEMPLATES[template][0], {role: CAPITALS[country] if role == "capital" else country})
        others = [c for c in CAPITALS if c != country and side(c, template) in (split, "train")]
        twin, foil = prompt_and_answer(rng.choice(others), template)
        yield Example.of_text(
            prompt,
            answer,
            foil=foil,
            twin=twin,
            metadata={"country": country, "template": template},
            group=country,
            labels={"capital": CAPITALS[country]},
            spans={"subject": spans[role]},
        )


LABELS = {"template": "the wording of the question"}
FAMILIES = (
    Family("facts", "Capitals of countries.", FactsOptions, lambda o: lambda s, r: _draw(o, s, r), labels=LABELS),
)
