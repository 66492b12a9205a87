"""Which example is looked at by hand, and what is switched on for it: arguments, the example, the changes that they mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import Field
from torch import Tensor, tensor

from experiments_db.places import ComponentSet, Intervention
from experiments_db.records import tagged_hash
from tools.engine.programs import ProgramError, parse
from tools.methods.arguments import WHERE
from tools.methods.effects import Condition
from tools.methods.features import two_classes
from tools.methods.layout import one_component, select_components
from tools.methods.measuring import load_examples
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.ports import Port, PortError, port_of
from tools.subjects import Subject
from tools.tasks import Example, Given, Signal

ILLUSTRATION, CONVERSATION = "illustrate", "converse"
ILLUSTRATIONS = (ILLUSTRATION, CONVERSATION)  # tools whose results show one example and are evidence for nothing
SAMPLE = 64  # explore examples of a task that can be picked, and that means, donors and directions are taken from
OPERATIONS = {"zero": "zero", "mean": "mean", "resample": "resample(donor)", "patch": "resample(twin)"}


def _places(what: str) -> Any:
    return Field(default=[], max_length=256, description=what)


class OneExampleArgs(ToolArgs):
    """One example, and the switches that are on."""

    task: str = Field(default="", description="a task spec, for one of its explore examples; see list_tasks")
    example: int = Field(default=0, ge=0, lt=SAMPLE, description=f"which of its first {SAMPLE}, counted from 0")
    text: str = Field(default="", max_length=4000, description="an input of your own in place of the example's")
    answer: str = Field(default="", max_length=400, description="the right answer to text; empty: what the model says")
    twin: str = Field(
        default="", max_length=4000, description="a second input to patch from; empty: the example's own twin"
    )
    zero: list[str] = _places(f"components that are set to zero. {WHERE}")
    mean: list[str] = _places("components that get their mean over the task's examples")
    resample: list[str] = _places("components that get another example's activation")
    patch: list[str] = _places("components that get the twin's activation")
    programs: list[str] = Field(
        default=[], max_length=4, description="layer programs, one a stack: skip 3, encoder: repeat 1 x2"
    )
    steer_label: str = Field(default="", description="steering: the label whose difference of means is added")
    steer_value: str = Field(default="", description="steering: the label's value towards which it points")
    steer_at: str = Field(default="", description="steering: the one place that is pushed, such as STACK.2.resid_post")
    dose: float = Field(default=0.0, ge=-100, le=100, description="steering: in steps of the difference; 0 is off")
    attention: str = Field(
        default="",
        description="whose attention is shown, as STACK.attn or STACK.cross; empty: of the last stack",
    )
    top_k: int = Field(default=5, ge=1, le=20, description="how many top answers at each place")


@dataclass(frozen=True)
class Chosen:
    """The example, its place in the sample that means and donors come from, and the task's name, '' for none.

    asked: whether its right answer is known; else it is what the model says.
    """

    example: Example
    index: int
    sample: tuple[Example, ...]
    task: str
    asked: bool


@dataclass(frozen=True)
class Changes:
    """What is switched on. condition: the changes at components; programs: blocks to run by stack; words: one line each."""

    condition: Condition
    directions: Mapping[str, Tensor]
    programs: Mapping[str, tuple[int, ...]]
    words: tuple[str, ...]


def choose(args: OneExampleArgs, ctx: Context) -> Chosen:
    """The example that the arguments name. ToolInputError where there is none, or the subject cannot read it."""
    port = port_of(ctx.subject)
    task, sample = "", list[Example]()
    if args.task:
        found, sample = load_examples(ctx, args.task, SAMPLE)
        task = found.name
    if not sample and not args.text:
        raise ToolInputError("name a task and which of its examples, or give a text")
    if sample and args.example >= len(sample):
        raise ToolInputError(f"example: {task} has {len(sample)} examples to explore, 0 to {len(sample) - 1}")
    picked = sample[args.example] if sample else None
    if not args.text and not args.twin:
        assert picked is not None
        return Chosen(picked, args.example, tuple(sample), task, asked=True)
    try:
        example = _written(ctx.subject, port, args, picked)
    except PortError as error:
        raise ToolInputError(str(error)) from None
    if args.text:
        return Chosen(example, len(sample), (*sample, example), task, asked=bool(args.answer))
    sample[args.example] = example
    return Chosen(example, args.example, tuple(sample), task, asked=True)


def _written(subject: Subject, port: Port, args: OneExampleArgs, picked: Example | None) -> Example:
    """An example of a person's own text, or with a second text of theirs; what is not given is as in the one picked."""
    first = port.reads[0]
    given: Given = {} if picked is None else picked.inputs
    if isinstance(given.get(first), Signal) or (picked is None and not _reads_text(port)):
        raise ToolInputError(f"text: {subject.name} reads {first}, which is not typed: pick an example of a task")
    if not args.text:
        assert picked is not None
        example = picked
    else:
        inputs = {**given, first: args.text}
        example = Example(inputs, args.answer or port.own_answer(subject, inputs))
    if args.twin:
        inputs = {**given, first: args.twin}
        foil = port.own_answer(subject, inputs)
        example = replace(example, twin_inputs=inputs, twin_spans={}, foil=foil)
    encoded = port.encode(subject, example)
    if example.twin_inputs is not None:
        other = port.encode(subject, example.as_twin(example.target))
        if encoded.lengths != other.lengths:
            one, two = (e.lengths[e.reads] for e in (encoded, other))
            raise ToolInputError(f"twin: it has {two} tokens and the first text {one}: patching needs as many in both")
    return example


def _reads_text(port: Port) -> bool:
    return port.reads[0] in ("text", "masked", "source")


def changes_of(args: OneExampleArgs, ctx: Context, chosen: Chosen) -> Changes:
    """The changes that the switches mean. ToolInputError says what would be valid."""
    subject, made, words = ctx.subject, [], list[str]()
    for name, how in OPERATIONS.items():
        texts: list[str] = getattr(args, name)
        if not texts:
            continue
        if name in ("mean", "resample") and len(chosen.sample) < 8:
            raise ToolInputError(f"{name}: it takes a task's examples: name a task whose examples are like this text")
        if name == "patch" and chosen.example.twin_inputs is None:
            raise ToolInputError("patch: this example has no twin: give a second text as twin")
        found = select_components(subject, texts, name)
        made.append((ComponentSet.of(*found), Intervention.parse(how)))
        words += [f"{how} {c}" for c in found]
    directions: dict[str, Tensor] = {}
    if args.dose and (args.steer_label or args.steer_at):
        place = one_component(subject, [args.steer_at], "steer_at")
        others = [e for i, e in enumerate(chosen.sample) if i != chosen.index]
        if not others:
            raise ToolInputError("steer_label: a direction is found on a task's examples: name a task")
        x, has = two_classes(subject, others, place, args.steer_label, args.steer_value, ctx.max_tokens)
        vector = tensor(x[has].mean(0) - x[~has].mean(0))
        name = f"dir:steer~{tagged_hash('direction', vector.tolist())[:12]}"
        directions[name] = vector
        made.append((ComponentSet.of(place), Intervention(op="add", direction=name, dose=args.dose)))
        words.append(f"add {args.dose:g} x ({args.steer_label}={args.steer_value}) to {place}")
    programs = _programs(subject, args.programs)
    words += [f"{stack}: {text}" for stack, (text, _) in programs.items()]
    blocks = {stack: run for stack, (_, run) in programs.items()}
    return Changes(Condition(tuple(made)), directions, blocks, tuple(words))


def _programs(subject: Subject, texts: Sequence[str]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Program and blocks by stack."""
    out: dict[str, tuple[str, tuple[int, ...]]] = {}
    for text in filter(None, (t.strip() for t in texts)):
        stack, operation = subject.program_of(text)
        if stack in out:
            raise ToolInputError(f"programs: {stack} has one already, {out[stack][0]}: write one for each stack")
        try:
            label = parse(operation, len(subject.spec(stack).blocks))[1]
        except ProgramError as error:
            raise ToolInputError(f"programs: {error}") from None
        out[stack] = (label.label, label.blocks)
    return out
