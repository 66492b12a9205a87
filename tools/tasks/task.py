"""What a task is: examples with one right answer each, split so that what is confirmed has never been explored.

The unit of evidence is the independent problem, an example's `group`: the same sum in two formats is one problem. A
problem's side of the split, and every sample, is decided by groups.
"""

import hashlib
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from experiments_db.places import plain_message
from experiments_db.records import tagged_hash
from tools.tasks.conditions import VISIBLE, Condition, known, parse
from tools.tasks.example import Example, TaskError

Split = Literal["explore", "confirm"]
SPLITS: tuple[Split, ...] = ("explore", "confirm")
KEPT = 8  # samples of a task
SPEAKERS = ("user ", "model ")  # how labels begin that say something of who speaks


@dataclass(frozen=True)
class Sample:
    """Examples of distinct groups, one each.

    groups: how many independent problems the split holds, None where that is more than was looked for.
    reused: it goes on from the first group again, so that some of its groups stand before `draw` too. read: the examples as a
    model reads them, once they were found fit for it, by model.
    """

    examples: tuple[Example, ...]
    groups: int | None
    reused: bool
    read: dict[object, tuple[Example, ...]] = field(
        init=False, repr=False, compare=False, default_factory=dict[object, tuple[Example, ...]]
    )


@dataclass(frozen=True)
class Task:
    """A behaviour to study. `draw(split, rng)` yields examples without end (or until there are no more).

    `choices` closes the answer set: accuracy is then the share of examples whose answer scores best among the choices;
    without it the answer must win against the whole vocabulary. `whole` is the task that this is a class of.
    """

    name: str
    description: str
    draw: Callable[[Split, random.Random], Iterator[Example]]
    choices: tuple[str, ...] = ()
    source: str = "generator"
    whole: "Task | None" = None
    _drawn: dict[tuple[Split, int, int, int], Sample] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def sample(self, split: Split, n: int, seed: int = 0, draw: int = 0) -> Sample:
        """`n` examples of as many groups, or of all the groups there are where these are fewer.

        The groups stand in one order, which to explore is set by the seed and to confirm is always the same; `draw` is
        how many of them are passed over. Where they run out, it goes on from the first (`reused`). A group is represented
        by the first wording of it that is drawn. The last few samples are kept: an experiment asks for its own several times.
        """
        key = (split, n, seed, draw)
        if key not in self._drawn:
            while len(self._drawn) >= KEPT:
                del self._drawn[next(iter(self._drawn))]
            self._drawn[key] = self._sampled(*key)
        return self._drawn[key]

    def _sampled(self, split: Split, n: int, seed: int, draw: int) -> Sample:
        if n < 1 or draw < 0:
            raise TaskError(f"a sample needs at least one example and a draw from 0 on, not n={n}, draw={draw}")
        wanted = draw + n
        found: dict[str, Example] = {}
        misses = 0
        for example in self.draw(split, self._stream(split, seed)):
            if example.group in found:
                misses += 1
                # Twenty times as many draws in a row as there are groups miss one that is drawn as often as they are
                # with a probability of e^-20.
                if misses > 50 + 20 * len(found):
                    break
                continue
            misses = 0
            found[example.group] = example
            if len(found) > wanted:
                break
        known = list(found.values())
        if len(known) >= wanted:
            groups = None if len(known) > wanted else len(known)
            return Sample(tuple(known[draw:wanted]), groups, reused=False)
        size = min(n, len(known))
        rows = [known[(draw + i) % len(known)] for i in range(size)]
        return Sample(tuple(rows), len(known), reused=draw + size > len(known))

    def _stream(self, split: Split, seed: int) -> random.Random:
        """Seeded without the options, so that two formats of a family come in one order of problems."""
        return random.Random(f"{self.name.partition(':')[0]}/{split}/{seed if split == 'explore' else 0}")

    def examples(self, split: Split, n: int, seed: int = 0, draw: int = 0) -> list[Example]:
        """The examples of `sample`: at most `n`, each of another group."""
        return list(self.sample(split, n, seed, draw).examples)

    def sha(self, split: Split, n: int, seed: int = 0, draw: int = 0) -> str:
        """Content address of exactly the examples that an experiment reads."""
        return tagged_hash("examples", [e.as_json() for e in self.examples(split, n, seed, draw)])

    def among(self, condition: str, name: str | None = None) -> "Task":
        """The task's examples of one class: `carry=1`, or several conditions that must all hold, `carry=1,digits=2x2`.

        A condition is about a label, a piece of metadata or what is visible in an example (`tools.tasks.conditions`).
        TaskError says which there are, and which values they take, once the task is drawn from. name: what to call it; else it
        keeps the whole task's name.
        """
        try:
            wanted = parse(condition)
        except ValueError as error:
            raise TaskError(str(error)) from None
        if not wanted:
            return self
        return replace(
            self,
            name=name or self.name,
            draw=lambda split, rng: _only(self, wanted, split, rng),
            whole=self.whole or self,
        )

    def might_have(self, condition: str, examples: Sequence[Example]) -> None:
        """TaskError, as from a class that is drawn from, where these examples show that the task has no such class: they all have
        the same labels, and it is about another one, or wants of a label with numbers what is none.
        """
        try:
            wanted = [c for c in parse(condition) if not c.key.startswith(VISIBLE)]
        except ValueError as error:
            raise TaskError(str(error)) from None
        seen = {key: {e.values.get(key) for e in examples} for e in examples[:1] for key in e.values}
        if all(e.values.keys() == seen.keys() for e in examples) and any(not _might_hold(c, seen) for c in wanted):
            raise _no_class(self, wanted, "explore", {key: set(map(str, values)) for key, values in seen.items()})


def _only(task: Task, wanted: Sequence[Condition], split: Split, rng: random.Random) -> Iterator[Example]:
    """The examples that meet all conditions; gives up after 5000 in a row that do not. TaskError where none does."""
    seen: dict[str, set[str]] = {}
    misses, any_found = 0, False
    for example in task.draw(split, rng):
        values = known(example, wanted)
        if all(c.holds(values) for c in wanted):
            misses, any_found = 0, True
            yield example
            continue
        for key, value in values.items():
            if key in example.values or any(key == c.key for c in wanted):
                seen.setdefault(key, set()).add(str(value))
        misses += 1
        if misses >= 5000:
            break
    if not any_found:
        raise _no_class(task, wanted, split, seen)


def _might_hold(condition: Condition, seen: Mapping[str, Set[object]]) -> bool:
    """Whether a condition could hold for a label of which these values are known."""
    values = seen.get(condition.key, set())
    if not values or condition.sign == "!=" or any(isinstance(v, str) for v in values):
        return bool(values)
    try:
        number = float(condition.value)
    except ValueError:
        number = {"true": 1.0, "false": 0.0}.get(condition.value.lower(), math.nan)
    closed = condition.sign == "=" and all(isinstance(v, bool) for v in values)
    return not math.isnan(number) and (number in (0, 1) or not closed)


def _no_class(task: Task, wanted: Sequence[Condition], split: Split, seen: Mapping[str, Set[str]]) -> TaskError:
    """Says which labels there are, or which values they take."""
    missing = next((c.key for c in wanted if c.key not in seen), None)
    there = f"there are {', '.join(sorted(seen)) or 'none'}, and of a text words, word 1, last word, kind of word 1 ..."
    if missing is None:
        values = {c.key: sorted(seen[c.key])[:12] for c in wanted}
        there = "; ".join(f"{key} is {', '.join(v)}" for key, v in values.items())
    what = f"label {missing!r}" if missing else f"class {','.join(map(str, wanted))}"
    return TaskError(f"the {split} examples of {task.name} have no {what}: {there}")


CHANCE = 256  # explore examples from which a whole task's chance is read


def chance_level(examples: Sequence[Example], choices: Sequence[str] = ()) -> float:
    """Accuracy of the best guesser that knows the format but not the content, computed from the data.

    The largest of: always the most frequent answer; uniform among `choices`; uniform among each example's candidates.
    Every group weighs the same, however many examples it has.
    """
    if not examples:
        raise ValueError("chance level of no examples")
    sizes = Counter(e.group for e in examples)
    share = [1 / (sizes[e.group] * len(sizes)) for e in examples]
    answers: Counter[str] = Counter()
    for e, weight in zip(examples, share, strict=True):
        for answer in e.rights:
            answers[answer] += weight  # type: ignore[assignment]  # a Counter of weights
    uniform = 1 / len(choices) if choices else 0.0
    guess = sum(
        w * max(1, len(set(e.rights) & set(e.candidates))) / len(e.candidates) if e.candidates else 0.0
        for e, w in zip(examples, share, strict=True)
    )
    return max(*answers.values(), uniform, guess)


def chance_of(task: Task, examples: Sequence[Example]) -> float:
    """The chance level of a task's examples; where they are a class with one answer, that of the whole task.

    Whoever knows the class knows the answer then; that the model knows it is what is asked.
    """
    if task.whole is None or len({e.answer for e in examples}) > 1:
        return chance_level(examples, task.choices)
    return chance_level(task.whole.examples("explore", CHANCE, 0), task.choices)


def unit_hash(*parts: object) -> float:
    """A stable hash of `parts` in [0, 1), the same on every machine and in every process."""
    return int(hashlib.sha256(repr(parts).encode()).hexdigest()[:12], 16) / 16**12


def split_of(*parts: object, explore: float = 0.1, confirm: float = 0.1) -> Literal["train", "explore", "confirm"]:
    """Which side an item falls on, decided by its content alone; `train` is what the demo model is taught."""
    u = unit_hash(*parts)
    return "explore" if u < explore else "confirm" if u < explore + confirm else "train"


class Options(BaseModel):
    """Options of a task family; a family without options uses this class itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Draw = Callable[[Split, random.Random], Iterator[Example]]


@dataclass(frozen=True)
class Family:
    """A kind of task with options. `make(options)` gives the function that draws its examples.

    reads: the names of its examples' inputs. subject: the built-in model that was made for it. private: no other model knows
    its words. trees: its examples are sentences whose trees are known. offers: what else of them some tools look at: foils,
    attributes (labels that begin as one of `SPEAKERS` does), families of labels, counterfactuals. labels: in words what a label
    says of an example, where its name alone does not.
    """

    name: str
    description: str
    options: type[Options]
    make: Callable[[Any], Draw]
    choices: tuple[str, ...] = ()
    reads: tuple[str, ...] = ("text",)
    subject: str = "demo"
    trees: bool = False
    private: bool = False
    offers: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict[str, str])

    def task(self, given: Mapping[str, str]) -> Task:
        """The task with these options; TaskError lists valid ones."""
        try:
            options = self.options.model_validate(dict(given))
        except ValidationError as error:
            e = error.errors()[0]
            valid = "; ".join(f"{n}: {_values(f.annotation)}" for n, f in self.options.model_fields.items())
            raise TaskError(
                f"task {self.name}: option {'.'.join(map(str, e['loc']))!r} is not usable ({plain_message(e['msg'])}). "
                f"Options are {valid or 'none'}"
            ) from None
        set_ = [f"{n}={v}" for n, v in options.model_dump(exclude_defaults=True).items()]
        name = self.name + (":" + ",".join(set_) if set_ else "")
        return Task(name, self.description, self.make(options), self.choices)


def _values(annotation: Any) -> str:
    return ", ".join(map(str, get_args(annotation))) or str(annotation)
