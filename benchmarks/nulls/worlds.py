"""Subjects with a task that has nothing to be found, though what is explored looks as if there were.

An answer that is drawn at random is sometimes right. Examples to explore are those on which the model happens to be right,
so that it seems able, and so that what is missed there seems to matter; unseen examples are not chosen. A planner that
trusts what it explored is misled every time, and only the test on unseen examples can say so.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from benchmarks.claims.stage import World
from benchmarks.planted.compiled import CompiledCase, compile_case
from benchmarks.planted.compiler.truth import Fact
from benchmarks.planted.programs import PROGRAMS
from experiments_db.records import TaskData
from tools.findings.null_twins import shuffled_answers
from tools.subjects import Subject, load_subject, wrap
from tools.tasks import SPLITS, Example, get_task, to_records

GOAL = "find where listed happens"
ROWS = 128  # examples a split
MOST_ALIKE = 4  # at most one example in so many has one and the same answer
ABLE = tuple(n for n in PROGRAMS if n not in ("unable", "shadow"))
SPREADS = (
    0.1,
    0.2,
    0.4,
)  # standard deviations of random weights; the usual .02 says the same token whatever it is given
DEMO_TASKS = ("agreement", "copying", "subtraction", "brackets")
Make = Callable[[int, int], World]


def random_init(seed: int, number: int) -> World:
    """A small model of random weights; examples to explore have what it says by itself for an answer."""
    rng = random.Random(f"{seed}/random/{number}")
    while True:
        case = compile_case(rng.choice(ABLE), rng.randrange(10**6))
        subject = random_subject(case, rng)
        drawn = (s.example for split in SPLITS for s in case.samples(split, 3 * ROWS))
        prompts = list({e.prompt: e for e in drawn}.values())
        says = _says(subject, [e.prompt for e in prompts])
        twins = _says(subject, [e.twin or e.prompt for e in prompts])
        told = [_told(e, a, b, rng) for e, a, b in zip(prompts, says, twins, strict=True)]
        lucky = _varied(told)
        if len(lucky) >= ROWS:
            break  # else it says too few different things to seem able of anything
    explore = lucky[:ROWS]
    chosen = {e.prompt for e in explore}
    rest = [e for e in prompts if e.prompt not in chosen][:ROWS]
    return _world(f"random-{number}", subject, explore, _at_random(rest, explore, rng))


def shuffled(seed: int, number: int) -> World:
    """A model that does its task, asked for other problems' answers; to explore those that come out right."""
    return _misled(seed, number, "shuffled", lambda rows, _: shuffled_answers(rows, number))


def at_chance(seed: int, number: int) -> World:
    """A model that does its task, asked for answers drawn at random; to explore those that come out right."""
    return _misled(seed, number, "chance", lambda rows, rng: _at_random(rows, rows, rng))


def _misled(
    seed: int, number: int, name: str, mislead: Callable[[list[Example], random.Random], list[Example]]
) -> World:
    rng = random.Random(f"{seed}/{name}/{number}")
    if number % 8 == 7:
        task = get_task(rng.choice(DEMO_TASKS))
        explore, rest = (task.examples(split, ROWS, seed=rng.randrange(1000)) for split in SPLITS)
        return _world(f"{name}-{number}", load_subject("demo"), explore, mislead(rest, rng))
    case = compile_case(rng.choice(ABLE), rng.randrange(10**6))
    explore, rest = ([s.example for s in case.samples(split, ROWS)] for split in SPLITS)
    return _world(f"{name}-{number}", wrap(case.model, case.tokenizer), explore, mislead(rest, rng))


def elsewhere(seed: int, number: int) -> World:
    """A model that does its task somewhere: nothing is misled, and what must not be found is everywhere else."""
    rng = random.Random(f"{seed}/elsewhere/{number}")
    case = compile_case(rng.choice(ABLE), rng.randrange(10**6))
    explore, rest = ([s.example for s in case.samples(split, ROWS)] for split in SPLITS)
    world = _world(f"elsewhere-{number}", wrap(case.model, case.tokenizer), explore, rest)
    return replace(world, facts=case)


def idle_of(facts: Sequence[Fact]) -> frozenset[str]:
    """Components that take no part in anything, as block and unit."""
    return frozenset(
        c for f in facts if f.kind == "not_needed" and f.of_class is None for c in f.components if "@" not in c
    )


MAKERS: dict[str, Make] = {
    "random_init": random_init,
    "shuffled_answers": shuffled,
    "chance": at_chance,
    "elsewhere": elsewhere,
}


def random_subject(case: CompiledCase, rng: random.Random) -> Subject:
    """A GPT-2, Llama or GPT-NeoX of two or three blocks with the case's vocabulary and weights drawn at random."""
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        GPTNeoXConfig,
        GPTNeoXForCausalLM,
        LlamaConfig,
        LlamaForCausalLM,
    )

    blocks, heads, width = rng.choice((2, 3)), rng.choice((2, 4)), 32
    spread, size = rng.choice(SPREADS), len(case.tokenizer)
    shape: dict[str, Any] = {
        "vocab_size": size, "hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": blocks,
        "num_attention_heads": heads, "max_position_embeddings": 64, "initializer_range": spread, "bos_token_id": 0,
        "eos_token_id": 0, "tie_word_embeddings": False,
    }  # fmt: skip
    family = rng.choice(("gpt2", "llama", "neox"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.randrange(2**31))
        if family == "gpt2":
            names = {"hidden_size": "n_embd", "intermediate_size": "n_inner", "num_hidden_layers": "n_layer",
                     "num_attention_heads": "n_head", "max_position_embeddings": "n_positions"}  # fmt: skip
            model: Any = GPT2LMHeadModel(GPT2Config(**{names.get(k, k): v for k, v in shape.items()}))
        elif family == "llama":
            model = LlamaForCausalLM(LlamaConfig(**shape, num_key_value_heads=heads))
        else:
            model = GPTNeoXForCausalLM(GPTNeoXConfig(**shape))
    return wrap(model.eval(), case.tokenizer, f"random {family}")


def _says(subject: Subject, prompts: Sequence[str]) -> list[str]:
    """The word that the model finds likeliest after each prompt, prompts of one length together."""
    out = [""] * len(prompts)
    rows = [subject.tokens(p) for p in prompts]
    for length in sorted({len(r) for r in rows}):
        at = [i for i, r in enumerate(rows) if len(r) == length]
        with torch.inference_mode():
            logits = subject.model(torch.tensor([rows[i] for i in at])).logits[:, -1]
        for i, token in zip(at, logits.argmax(-1).tolist(), strict=True):
            out[i] = f" {subject.text([token]).strip()}"
    return out


def _told(e: Example, answer: str, other: str, rng: random.Random) -> Example:
    """The prompt with what the model says for its answer, and what it says to the twin, or another word, for the foil."""
    words = sorted({f" {w}" for w in e.prompt.split()} - {answer})
    foil = other if other != answer else rng.choice(words)
    return Example.of_text(e.prompt, answer, foil, e.twin if other != answer else None)


def _varied(examples: Sequence[Example]) -> list[Example]:
    """As many as the split takes, of which no answer has more than its part."""
    count: Counter[str] = Counter()
    out: list[Example] = []
    for e in examples:
        if count[e.answer] < ROWS // MOST_ALIKE and e.answer != " <unk>":
            count[e.answer] += 1
            out.append(e)
    return out


def _at_random(examples: Sequence[Example], like: Sequence[Example], rng: random.Random) -> list[Example]:
    """The examples with an answer and a foil of other examples, drawn for each by itself."""
    out: list[Example] = []
    for e in examples:
        given = rng.choice(like)
        out.append(replace(e, target=given.target, foil=given.foil, candidates=given.candidates))
    return out


def _world(name: str, subject: Subject, explore: Sequence[Example], confirm: Sequence[Example]) -> World:
    rows: dict[str, dict[str, object]] = {}
    for split, examples in zip(SPLITS, (explore, confirm), strict=True):
        for e in examples:
            kept = {k: v for k, v in e.as_json().items() if k not in ("group", "metadata", "labels")}
            rows.setdefault(e.prompt, {**kept, "split": split})
    listed = TaskData(
        name="listed",
        description="Examples as they are.",
        examples=tuple(to_records([*rows.values()], name)),
        origin="file",
    )
    return World(name, subject, GOAL, "listed", (listed,))
