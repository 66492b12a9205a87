"""Words and signs that say how many or how much, in English and in the languages that a planner is likely to write beside it."""

import re
import unicodedata

_SMALL = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
CARDINALS = {
    **{w: n for n, w in enumerate(_SMALL, 1) if n > 1},  # `one of them` says which, not how many
    **{w: 10 * n for n, w in enumerate(_TENS, 2)},
    "hundred": 100, "thousand": 1000, "million": 10**6, "dozen": 12,
}  # fmt: skip
ORDINALS = {
    **{
        w: n for n, w in enumerate(
            "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
            "sixteenth seventeenth eighteenth nineteenth twentieth".split(), 1,
        )
    },
    **{f"{w[:-1]}ieth": 10 * n for n, w in enumerate(_TENS, 2)}, "hundredth": 100,
}  # fmt: skip
_FRACTIONS = "third quarter fifth sixth seventh eighth ninth tenth hundredth thousandth".split()
# Of heads and blocks there may be so many: `two heads`, `the third block`.
COUNTING = [*(w for w in CARDINALS if w != "dozen"), *_FRACTIONS]
# These are quantities whatever follows.
NEVER = [
    "half", "halves", "halved", "halving", *(f"{w}s" for w in _FRACTIONS), "dozens?", "handfuls?", "couple of", "percents?",
    "percentages?", "percentiles?", "pct", "per ?mille", "basis points?", "twice", "thrice", "doubles?", "doubled", "doubling",
    "triples?", "tripled", "tripling", "trebled?", "quadrupl\\w+", "quintupl\\w+", "nought", "zero-point",
    "(?:ten|hundred|thousand|million)s",
]  # fmt: skip
# By language, without accents; what is an English word too is left out (due, elf, once, seize, cent, doze, meta, Otto).
OTHERS = (
    # German
    "zwei drei vier funf fuenf sechs sieben acht neun zehn zwolf zwoelf \\w*(?:zwan|vier|funf|fuenf|sech|sieb|acht|neun)zig "
    "\\w*dreissig \\w*hundert\\w* \\w*tausend\\w* "
    "\\w+zehn prozent\\w* halfte haelfte \\w*drittel\\w* viertel\\w* funftel zehntel doppelt\\w* dutzend\\w*",
    # French
    "deux trois quatre cinq sept huit neuf dix onze douze treize quatorze quinze vingt trente quarante cinquante soixante "
    "pour[ -]?cents? moitie douzaines? dizaines? centaines?",
    # Spanish
    "dos tres cuatro cinco seis siete ocho nueve diez doce trece catorce dieci\\w+ veint[ei]\\w* treinta cuarenta cincuenta "
    "sesenta setenta ochenta noventa cien ciento por ?ciento mitad tercios? cuartos? docenas?",
    # Italian
    "quattro cinque sette nove dieci undici dodici tredici quattordici quindici sedici diciassette diciotto diciannove "
    "venti venti(?:due|tre|quattro|cinque|sei|sette|nove) ventuno ventotto "
    "trent(?:a\\w*|uno|otto) quarant(?:a\\w*|uno|otto) cinquant\\w+ sessant\\w+ settant\\w+ ottant\\w+ novant\\w+ cento per ?cento "
    "dozzin[ae]",
    # Portuguese
    "dois duas quatro sete oito dez treze quatorze dezess?\\w+ dezoito vinte trinta quarenta cinquenta sessenta oitenta "
    "por ?cento metade duzias?",
    # Dutch
    "twee drie vijf zes zeven negen tien twaalf \\w+tien twintig \\w*tig honderd duizend procent\\w* helft dozijn",
    # Polish, Swedish
    "dwa trzy cztery piec szesc siedem osiem dziewiec \\w*dziesiec \\w*dziesci \\w*dziesiat tva fyra sju atta tjugo "
    "trettio fyrtio femtio sextio sjuttio attio nittio hundra halften",
    # Russian
    "два две три четыре пять шесть семь восемь девять десять \\w+надцать "
    "\\w+дцать сорок \\w+десят девяносто сто процент\\w* половин\\w+",
)  # fmt: skip
COUNTED = (
    r"(?:heads?|blocks?|layers?|mlps?|components?|positions?|tokens?|tasks?|kinds?|classes|operands?|numbers?|digits?|"
    r"words?|sets?|neurons?|letters?)"
)
# Where `zero` says what is done to a component, not how much there is.
_OTHER = r"(?:resampl\w*|mean)"
_JOINED = r"(?:\s*[,/+&]\s*|\s+(?:and|or|nor|vs\.?|versus|than)\s+)(?:under\s+|by\s+)?"
_FALLS = "".join(
    rf"(?<!\b{w} )" for w in "fall falls fell drop drops dropped go goes went sink sinks is are was were".split()
)
ZERO_AS_NAME = re.compile(
    rf"`zero`|\bzero(?=[\s-]+(?:and\s+\w+\s+)?(?:ablat|interv|remov|patch)\w*|{_JOINED}{_OTHER}\b)"
    rf"|(?<=\bintervention )zero\b|\bzero(?=\s+as\s+(?:the|an)\s+intervention)|\b{_OTHER}{_JOINED}zero\b(?!\s+(?:of\b|{COUNTED}))"
    rf"|{_FALLS}\bunder zero\b(?!\s+(?:of\b|{COUNTED}))",
    re.IGNORECASE,
)
_ROMAN = r"(?-i:\b(?!(?:III|CLI)\b)(?=[IVXLC]{3,}\b)C{0,3}(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})\b)"
_FOREIGN = "|".join(word for words in OTHERS for word in re.split(r" (?![?\]-])", words))
TYPED = re.compile(
    rf"-?(?:\d[\d,]*(?:\.\d+)?|\.\d+)\s?(?:%|percent\b|per cent\b)?|\b(?:{'|'.join(COUNTING)})\b(?!\s+(?:\w+\s+)?{COUNTED}\b)"
    rf"|\b(?:{'|'.join(NEVER)})\b|\b(?:{'|'.join([*COUNTING, *NEVER])})-?fold\b"
    rf"|\bzero\b|[%‰‱]|\b(?:{_FOREIGN})\b|{_ROMAN}",
    re.IGNORECASE,
)


def quantity(text: str) -> str | None:
    """The first quantity in a text, as figures, as a word or as a sign; None where there is none."""
    found = TYPED.search(ZERO_AS_NAME.sub(" ", _plain(text)))
    return found.group().strip() if found else None


def _plain(text: str) -> str:
    """The text with a figure for every character that is a number by itself (½, ②, Ⅳ, ², 九), and no accents."""
    figures = "".join("1" if not c.isdecimal() and unicodedata.numeric(c, None) is not None else c for c in text)
    split = unicodedata.normalize("NFKD", figures.replace("ß", "ss"))
    return "".join(c for c in split if unicodedata.category(c) not in ("Mn", "Cf"))
