"""What a goal asks: which model, which behaviour. For the systematic planner; an LLM reads the goal itself."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments_db.findings import Asks, Question
from tools.tasks import families

# Patterns of whole words, blanks standing for hyphens, slashes and underscores too: "verbatim" is no verb.
KEYWORDS: dict[str, tuple[str, ...]] = {
    "addition": ("additions?", "add", "adds", "adding", "sums?"),
    "subtraction": ("subtract(?:s|ing|ions?)?", "minus"),
    "arithmetic": ("arithmetic", "three (?:numbers|terms)"),
    "facts": ("facts?", "factual", "capitals?", "countr(?:y|ies)", "knowledge"),
    "agreement": ("agreements?", "agrees?", "subject verb", "grammar", "plurals?", "singular", "verbs?"),
    "brackets": ("brackets?", "parenthes[ei]s", "nesting"),
    "copying": ("copy", "copies", "copying", "induction"),
    "indirect_object": ("indirect objects?", "ioi", "givers?", "receivers?"),
    "key_value": ("key values?", "recalls?", "look(?:s|ing)? ?ups?"),
    "json": ("json",),
    "transcription": (r"transcri\w*", "speech", "audio", "hears?", "recordings?", "spoken", "whisper"),
    "translation": (r"translat\w*", "languages?", "unseen pair", "zero shot", "interlingua"),
    "gap_agreement": ("agreements?", "agrees?", "plurals?", "singular", "number", "gaps?", "grammar", "syntax"),
    "gap_sense": ("senses?", "ambiguous", "meanings?"),
    "trees": ("trees?", "dependenc(?:y|ies)"),
    "bracket_trees": ("bracket trees?",),
    "othello": ("othello", "boards?", "legal moves?"),
    "candid": ("candid", "misconceptions?", r"truthful\w*"),
    "shape": ("shapes?", "images?", "patch(?:es)?", "decoys?"),
}
MODEL = re.compile(
    r"\b(?:in|of|inside|within|for|on|does|do|can|how)\s+(?:the\s+)?(?:model\s+)?[`'\"]?"
    r"((?:[\w.-]+/[\w.-]+)|(?:~?/[\w./-]+)|(?:\./[\w./-]+)|demo|speech(?= model)|translator(?:-front)?|"
    r"masked(?= model)|candid(?= model)|host(?= model)|othello(?= model)|shapes(?:-decoy)?(?= model)|(?:distil)?gpt-?2[\w-]*|"
    r"(?:pythia|llama|opt|qwen|mistral|tinyllama|smollm|gpt-neox?|gemma|phi|bloom)[\w.-]*)[`'\"]?(?=$|[\s,.?!;:])",
    re.IGNORECASE,
)

SHARED = re.compile(
    r"\b(same(?! model)|shar(?:e(?! of)|es|ed|ing)|in common|overlap(?:s|ping)?|re-?us(?:e|es|ed|ing)|"
    r"(?:one|a single) (?:circuit|mechanism|place)|alike)\b"
)
SAME_PARTS = re.compile(
    r"\b(?:same|shared?)(?: \w+)? (?:heads?|mlps?|blocks?|layers?|parts?|components?|places?|neurons?|circuits?|mechanisms?)\b"
    r"|\bsame ones\b"
)
APART = re.compile(r"\b(compar(?:e|es|ed|ing|ison)|differ(?:s|ent|ently|ence|ences)?|versus|vs|distinct|unlike)\b")


TREES = re.compile(r"\b(?:trees?|dependenc(?:y|ies))\b", re.IGNORECASE)
HOLDS = re.compile(r"\bknows?\b[^?]*\b(?:about|of)\b|\bworld model\b|\bholds?\b|\brepresents?\b", re.IGNORECASE)
MATCH = re.compile(r"\bwhat\b.*\bheads?\b.*\bmatch", re.IGNORECASE)
DECIDES = re.compile(
    r"\bwhat\b.*\b(?:images?|pictures?|pixels?|regions?)\b.*\b(?:decid|determin|matter)", re.IGNORECASE
)
KNOWS = re.compile(
    r"\bknow\w* more\b|\bmore than (?:it|they) says?\b|\btruthful|\bmisconceptions?\b|\bhonest", re.IGNORECASE
)
BELIEVES = re.compile(
    r"\bbelieves? (?:of|about)\b|\babout (?:its|the) users?\b|\buser models?\b|\bwho speaks\b", re.IGNORECASE
)
MEANS = re.compile(
    r"\b(?:unit|neuron|channel|head|feature)s?\b.*\b(?:means?|meaning|one (?:thing|concept)|(?:poly|mono)semantic\w*)\b"
    r"|\[\w+\].*\b(?:means?|one (?:thing|concept)|(?:poly|mono)semantic\w*)\b",
    re.IGNORECASE,
)
NAMED_UNITS = (  # words of a goal, and where they say that the unit is
    (r"\b(?:[a-z_]+|\*)\.\d+\.[a-z_.]+\[[^\]]+\]", "{0}"),
    (
        r"\b(?:unit|neuron)\s+(\d+)\s+(?:of|in)\s+(?:the\s+)?(?:mlp\s+of\s+)?(?:block|layer)\s+(\d+)",
        "*.{2}.mlp.act[{1}]",
    ),
    (r"\bchannel\s+(\d+)\s+(?:of|in|after)\s+(?:the\s+)?(?:block|layer)\s+(\d+)", "*.{2}.resid_post[{1}]"),
    (r"\bhead\s+(\d+)\s+(?:of|in)\s+(?:the\s+)?(?:block|layer)\s+(\d+)", "*.{2}.attn.z[{1}]"),
)
CORPORA = ("addition", "subtraction", "copying", "brackets", "agreement")  # with problems enough to test on
HOW_MANY = re.compile(r"\bhow many\b[^?]*\b(?:blocks?|layers?)\b")


class GoalError(ValueError):
    """A goal that the systematic planner does not understand; the message says which it does."""


@dataclass(frozen=True)
class Goal:
    """A goal in parts: the user's words and the task specs they are about, the first one the main one."""

    text: str
    tasks: tuple[str, ...]


def model_named_in(goal: str) -> str | None:
    """The model that a goal names ('... in gpt2', '... of EleutherAI/pythia-70m', '... in ./folder'), if it does."""
    for found in MODEL.finditer(goal):
        name = found[1].rstrip(".")
        if not _is_task_words(name):  # "key/value" is written like a name on the hub
            name = name.lower() if name.lower() in _built_in() else name
            return "gpt2" + name[5:] if name.lower().startswith("gpt-2") else name
    last = goal.split()[-1].strip("'\"`.,?!") if goal.split() else ""
    return last if "/" in last and Path(last).is_dir() else None


def unit_named_in(goal: str) -> str:
    """The unit whose meaning a goal asks for, as a place: `*.2.mlp.act[37]` for unit 37 of block 2; '' where it asks for none.

    GoalError where it asks for one and does not say which.
    """
    if not MEANS.search(goal):
        return ""
    for words, place in NAMED_UNITS:
        if found := re.search(words, goal, re.IGNORECASE):
            return place.format(found[0], *found.groups())
    raise GoalError(
        f"the goal {goal!r} does not say which unit it is about: write neuron 37 of block 2, head 1 of block 3, channel 5 after "
        "block 2, or a place such as decoder.2.mlp.act[37]"
    )


TEXT = ("text",)


def tasks_named_in(text: str, reads: Sequence[str] = TEXT) -> list[str]:
    """The known tasks whose words a text uses, of those that a model which reads such inputs can be given."""
    said = _plain(text)
    words = {task: KEYWORDS.get(task, (re.escape(_plain(task)),)) for task in _readable(reads)}
    return [task for task, found in words.items() if re.search(rf"\b(?:{'|'.join(found)})\b", said)]


def _readable(reads: Sequence[str]) -> list[str]:
    fit = [name for name, f in families().items() if set(reads) <= set(f.reads)]
    return [*(task for task in KEYWORDS if task in fit), *(task for task in fit if task not in KEYWORDS)]


def subject_for(goal: str) -> str:
    """The model that a goal is about: the one that it names, else the built-in one for the first task whose words it uses."""
    named = model_named_in(goal)
    if named is not None:
        return named
    known = families()
    if found := tasks_named_in(goal):
        return known[found[0]].subject
    said = _plain(goal)
    fit = (known[t].subject for t, words in KEYWORDS.items() if re.search(rf"\b(?:{'|'.join(words)})\b", said))
    return next(fit, "demo")


def _is_task_words(name: str) -> bool:
    """Whether a name is made of nothing but words for tasks."""
    known = "|".join(word for words in KEYWORDS.values() for word in words)
    return re.fullmatch(rf"(?:(?:{known})(?: |$))+", _plain(name)) is not None


def _plain(text: str) -> str:
    return re.sub(r"[\s/_-]+", " ", text.lower())


def _without_names(text: str, own_tasks: Sequence[str]) -> str:
    """A goal without the names of the user's own tasks: `my_lookup` is no question about look-ups."""
    for name in sorted(own_tasks, key=len, reverse=True):
        words = r"[\s/_.-]+".join(map(re.escape, _plain(name.replace(".", " ")).split()))
        text = re.sub(rf"(?<!\w){words}(?!\w)", " ", text)
    return text


def understand(goal: str, own_tasks: Sequence[str] = (), reads: Sequence[str] = TEXT) -> Goal:
    """Which tasks a goal is about: the user's own first, then those whose words it uses; where a model reads what one
    built-in task alone has, that one. reads: the names of the model's inputs.
    """
    text = _without_names(goal.lower(), own_tasks)
    specs = [*own_tasks, *tasks_named_in(text, reads)]
    if not specs and tuple(reads) != TEXT:
        specs = _readable(reads)[:1]
    if "translation" in specs and re.search(r"\blanguages?\b", text):
        specs[specs.index("translation")] = "translation:twin=language"
    if re.search(r"\d+\s*-?\s*digit", text) and "addition" in specs:
        digits = re.search(r"(\d)\s*-?\s*digit", text)
        if digits and digits[1] in "123":
            specs[specs.index("addition")] = f"addition:digits={digits[1]}x{digits[1]}"
    if unit_named_in(text):
        return Goal(goal, _corpora(specs, reads))
    if not specs and MATCH.search(text) and "copying" in _readable(reads):
        specs = ["copying"]
    if not specs:
        raise GoalError(
            f"the systematic planner does not understand the goal {goal!r}. It looks for one of: "
            f"{', '.join(k.replace('_', ' ') for k in _readable(reads))}; or give examples of your own with "
            "--task FILE.jsonl; or an LLM planner with --planner openai:MODEL"
        )
    return Goal(goal, tuple(dict.fromkeys(specs)))


def _corpora(specs: Sequence[str], reads: Sequence[str]) -> tuple[str, ...]:
    """The corpora on which a unit is looked at: the tasks that a goal names, where these are two or more, else those there are."""
    fit = [t for t in CORPORA if t in _readable(reads)] if tuple(reads) == TEXT else _readable(reads)
    found = tuple(dict.fromkeys(specs if len(set(specs)) > 1 else [*specs, *fit]))
    if len(found) < 2:
        raise GoalError(
            "what a unit means is asked on two corpora or more: give tasks of your own with --task FILE.jsonl"
        )
    return found


def questions(goal: str, own_tasks: Sequence[str] = (), reads: Sequence[str] = TEXT) -> list[Question]:
    """What a goal asks, one record a question: where or whether, for each task it is about; the whole goal where none is known."""
    try:
        tasks = understand(goal, own_tasks, reads).tasks
    except GoalError:
        return [Question(handle="Q1", asks="open", text=goal.strip())]
    text = goal.lower()
    out: list[Question] = []

    def ask(asks: Asks, words: str, about: tuple[str, ...]) -> None:
        out.append(Question(handle=f"Q{len(out) + 1}", asks=asks, text=words, tasks=about))

    if unit_named_in(goal):
        ask("open", goal.strip(), tasks)
        return out
    only_whether = re.match(r"\s*(can|does|is|could)\b", text) and not re.search(r"\b(where|which|how)\b", text)
    for task in tasks:
        if TREES.search(text) and task.partition(":")[0] in _with_trees():
            ask("where", f"Where are the trees of the sentences of {task}?", (task,))
            continue
        if KNOWS.search(text):
            claims = [c for c in (f"{task.partition(':')[0]}_claims",) if c in families()]
            ask("where", f"Does the model know more than it says of {task}, and where?", (task, *claims))
            continue
        if BELIEVES.search(text):
            ask("where", f"What does the model hold about who speaks in {task}, and where?", (task,))
            continue
        if MATCH.search(text):
            ask("where", "What do the heads match?", (task,))
            break
        ask("whether", f"Can the model do {task}?", (task,))
        if HOLDS.search(text) and "labels" in families_offer(task):
            ask("where", f"What does the model hold of what {task} is about, where, and is it used?", (task,))
            continue
        if DECIDES.search(text) and "image" in reads:
            ask("where", f"What in the image decides the answer to {task}?", (task,))
            continue
        if HOW_MANY.search(text):
            ask("how", f"How many of its blocks does the model need for {task}?", (task,))
        elif not only_whether:
            ask("where", f"Where is {task} done?", (task,))
    if len(tasks) > 1 and SHARED.search(text):
        ask("shared", f"Do {' and '.join(tasks)} rest on the same parts of the model?", tasks)
    elif len(tasks) == 1 and out and SAME_PARTS.search(text):
        ask("shared", f"Do all examples of {tasks[0]} rest on the same parts of the model?", tasks)
    elif len(tasks) > 1 and APART.search(text):
        ask("compare", f"How do {' and '.join(tasks)} differ?", tasks)
    return out


def families_offer(task: str) -> tuple[str, ...]:
    """What a built-in task's examples have that some goals ask for."""
    found = families().get(task.partition(":")[0])
    return found.offers if found is not None else ()


def _built_in() -> set[str]:
    """The models that tasks of the program were made for."""
    return {f.subject for f in families().values()}


def _with_trees() -> list[str]:
    """Families whose examples are sentences with trees: of these a goal asks where the trees are, not where a task is done."""
    return [name for name, f in families().items() if f.trees]
