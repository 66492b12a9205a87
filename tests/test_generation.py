"""Greedy generation under layer programs: the cache never changes the text."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tools.engine.programs import ProgramError
from tools.engine.sites import Edit, Site, SiteError
from tools.subjects import Subject, SubjectError, wrap

Rows = list[list[int]]
PROGRAMS: list[tuple[int, ...] | None] = [
    None,
    (0, 1, 3),
    (1, 2, 3),
    (0, 1, 1, 2, 3),
    (2, 2, 2),
    (3, 1, 0, 2),
    (0, 1, 2, 3, 0, 1, 2, 3),
    (),
]


@pytest.fixture
def prompts(rows: Rows) -> Rows:
    """Prompts of three lengths, two of which are equally long."""
    return [rows[0], rows[1][:4], rows[2][:1], rows[2]]


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_text_made_with_a_cache_is_the_text_made_without(
    text_subject: Subject, prompts: Rows, program: tuple[int, ...] | None
) -> None:
    cached = text_subject.generate(prompts, 7, program)
    assert cached == text_subject.generate(prompts, 7, program, cached=False)
    assert [len(row) for row in cached] == [7] * 4


def test_every_token_made_is_the_likeliest_after_what_came_before(text_subject: Subject, prompts: Rows) -> None:
    for program in [None, (1, 0, 0, 3)]:
        made = text_subject.generate(prompts, 5, program)
        for prompt, new in zip(prompts, made, strict=True):
            logits = text_subject.run(text_subject.inputs([prompt + new]), program).logits[0]
            assert logits[len(prompt) - 1 : -1].argmax(-1).tolist() == new


def test_the_intact_model_writes_what_transformers_writes(text_subject: Subject, rows: Rows) -> None:
    ended = wrap(text_subject.model, SimpleNamespace(eos_token_id=2, pad_token_id=0), text_subject.name)
    ids = torch.tensor(rows)
    expected = text_subject.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False
    )[:, ids.shape[1] :].tolist()
    for row, theirs in zip(ended.generate(rows, 12), expected, strict=True):
        assert row == theirs[: len(row)]
        assert len(row) == 12 or row[-1] == 2


def test_random_models_write_texts_that_vary_so_that_these_tests_can_fail(text_subject: Subject, prompts: Rows) -> None:
    texts = [tuple(map(tuple, text_subject.generate(prompts[:2], 7, p))) for p in PROGRAMS]
    assert len(set(texts)) >= len(PROGRAMS) - 1
    assert len({token for text in texts for row in text for token in row}) > 5


@pytest.mark.parametrize("cached", [True, False])
def test_a_row_ends_with_the_end_of_text_token_and_the_others_go_on(
    subject_named: Callable[[str], Subject], prompts: Rows, cached: bool
) -> None:
    free = subject_named("llama").generate(prompts, 12)
    for eos in sorted({row[k] for row in free for k in (1, 5)}):
        subject = wrap(subject_named("llama").model, SimpleNamespace(eos_token_id=eos, pad_token_id=0))
        expected = [row[: row.index(eos) + 1] if eos in row else row for row in free]
        assert subject.generate(prompts, 12, cached=cached) == expected


@pytest.mark.parametrize("program", [None, (2, 0, 0)], ids=str)
def test_edits_act_alike_with_and_without_a_cache(
    text_subject: Subject, prompts: Rows, program: tuple[int, ...] | None
) -> None:
    each = torch.randn(4, 1, 32, generator=torch.Generator().manual_seed(0))
    last = torch.tensor([[len(p) - 1] for p in prompts])
    edits = [
        Edit(Site("decoder", 1, "mlp.out"), "scale", torch.tensor(-1.0)),
        Edit(Site("decoder", 0, "resid_pre"), "add", each),
        Edit(Site("decoder", 3, "resid_post"), "add", 3 * each, last),
        Edit(Site("decoder", 2, "attn.z"), "scale", torch.zeros(()), units=(1,)),
    ]
    made = text_subject.generate(prompts, 5, program, edits)
    assert made == text_subject.generate(prompts, 5, program, edits, cached=False)
    assert made != text_subject.generate(prompts, 5, program)
    for i, prompt in enumerate(prompts):  # a prompt's own part of the edits, whatever else is in the batch
        mine = [
            edits[0],
            Edit(edits[1].site, "add", each[i : i + 1]),
            Edit(edits[2].site, "add", 3 * each[i : i + 1], last[i : i + 1]),
            edits[3],
        ]
        assert text_subject.generate([prompt], 5, program, mine) == [made[i]]


@pytest.mark.parametrize("cached", [True, False])
def test_what_cannot_be_generated_is_refused_with_the_reason(
    subject_named: Callable[[str], Subject], cached: bool
) -> None:
    subject = subject_named("gpt2")

    def generate(prompts: Rows, n: int, *more: Any) -> Rows:
        return subject.generate(prompts, n, *more, cached=cached)

    assert len(generate([[5] * 30], 11)[0]) == 11  # 40 positions: the last token is never read
    with pytest.raises(SubjectError, match="need 41 tokens, more than the 40 positions"):
        generate([[5] * 30], 12)
    with pytest.raises(SubjectError, match="at least one token"):
        generate([[5], []], 3)
    with pytest.raises(ProgramError, match="0 to 3"):
        generate([[5]], 3, (0, 7))
    with pytest.raises(SiteError, match="heads 0 to 3"):
        generate([[5]], 3, None, [Edit(Site("decoder", 0, "attn.z"), "scale", torch.zeros(()), units=(9,))])
    assert generate([], 3) == []
    assert generate([[5], [6, 7]], 0) == [[], []]


def test_generation_leaves_the_model_as_it_was(text_subject: Subject, prompts: Rows) -> None:
    before = text_subject.generate(prompts, 5)
    text_subject.generate(prompts, 5, (3, 3, 0), [Edit(Site("decoder", 3, "mlp.act"), "scale", torch.zeros(()))])
    assert text_subject.generate(prompts, 5) == before
    modules = text_subject.model.modules()
    assert not any(m._forward_hooks or m._forward_pre_hooks or "forward" in m.__dict__ for m in modules)
