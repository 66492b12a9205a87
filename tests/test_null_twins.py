"""Nulls: what each keeps, what it loses, and what the report makes of what was confirmed there."""

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments_db.findings import Statement
from tools.findings.examining import examine
from tools.findings.null_report import KINDS, NullTrial, NullTwinReport
from tools.findings.null_tests import null_statement, null_subject, null_tasks
from tools.findings.null_twins import group_of, null_twin, shuffled_answers
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.tool import Context, DeadlineReached
from tools.subjects import Subject, load_subject
from tools.tasks import Example, get_task


def test_a_random_twin_has_the_shape_and_none_of_the_weights_and_the_same_seed_gives_the_same(
    text_subject: Subject,
) -> None:
    state = torch.get_rng_state()
    twin, again, other = (null_twin(text_subject, "random_init", seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert len({twin.fingerprint, other.fingerprint, text_subject.fingerprint}) == 3
    assert twin.fingerprint == again.fingerprint
    mine, drawn = text_subject.model.state_dict(), twin.model.state_dict()
    assert {k: v.shape for k, v in mine.items()} == {k: v.shape for k, v in drawn.items()}
    for key, value in drawn.items():
        assert torch.equal(value, again.model.state_dict()[key])
        if value.dim() > 1:
            assert not torch.equal(value, mine[key])
            assert not torch.equal(value, other.model.state_dict()[key])


def test_a_random_twin_refuses_what_its_model_refuses_and_keeps_its_deadline() -> None:
    def over() -> None:
        raise DeadlineReached

    subject = load_subject("demo").without({"decoder": {"attn.out": "for a reason"}}).watched(over)
    twin = null_twin(subject)
    assert "attn.out" not in twin.spec().kinds
    with pytest.raises(DeadlineReached):
        twin.run(twin.inputs([[5, 6]]))


def test_a_twin_of_another_kind_is_refused(subject_named: Callable[[str], Subject]) -> None:
    with pytest.raises(ValueError, match="there is random_init"):
        null_twin(subject_named("gpt2"), "random", 0)


@given(n=st.integers(2, 40), seed=st.integers(0, 5))
def test_shuffled_answers_keep_prompts_and_answers_with_their_foils_and_no_problem_its_own(n: int, seed: int) -> None:
    examples = [Example.of_text(f"p{i}", f"a{i}", f"f{i}", f"t{i}", (f"a{i}", f"f{i}"), {"i": i}) for i in range(n)]
    shuffled = shuffled_answers(examples, seed)
    assert [(e.prompt, e.twin, e.metadata) for e in shuffled] == [(e.prompt, e.twin, e.metadata) for e in examples]
    came = {(e.answer, e.foil, e.candidates) for e in examples}
    assert Counter((e.answer, e.foil, e.candidates) for e in shuffled) == dict.fromkeys(came, 1)
    assert all(a.answer != b.answer for a, b in zip(examples, shuffled, strict=True))
    assert shuffled == shuffled_answers(examples, seed)


def test_shuffled_answers_differ_by_seed_and_need_two_problems() -> None:
    examples = get_task("addition").examples("explore", 32)
    assert shuffled_answers(examples, 1) != shuffled_answers(examples, 2)
    with pytest.raises(ValueError, match="at least two"):
        shuffled_answers(examples[:1])


def test_two_formats_of_one_problem_get_the_same_other_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.findings.null_twins.group_of", lambda e: str(e.metadata["problem"]))
    examples = [Example.of_text(f"{form} {i}", f"a{i}", metadata={"problem": i}) for i in range(8) for form in ("one", "two")]
    shuffled = shuffled_answers(examples, 3)
    for one, two in zip(shuffled[::2], shuffled[1::2], strict=True):
        assert one.answer == two.answer != f"a{one.metadata['problem']}"


def test_a_group_is_the_examples_own_or_its_prompt_and_answer() -> None:
    a = Example.of_text("p", "a")
    assert group_of(a) == group_of(Example.of_text("p", "a", "f"))
    assert group_of(a) != group_of(Example.of_text("p", "b"))


def test_the_share_confirmed_on_nulls_counts_each_null_once() -> None:
    alone = NullTwinReport(tuple(NullTrial("random_init", s, 1, ("F1",) if s == 0 else ()) for s in range(20)))
    together = NullTwinReport(
        tuple(NullTrial("random_init", s, 10, tuple(f"F{i}" for i in range(10)) if s == 0 else ()) for s in range(20))
    )
    assert alone.share == together.share == pytest.approx(0.05)
    assert alone.interval is not None
    assert together.interval is not None
    low, high = alone.interval
    assert low == pytest.approx(0.00127, abs=1e-4)  # Clopper and Pearson, 1 of 20
    assert high == pytest.approx(0.2487, abs=1e-3)
    assert together.interval[1] >= high - 1e-9  # ten tests of one null are no ten nulls
    assert "10 of 200 tests" in together.line()
    assert together.rows()[0][-1].startswith("F0, F1, F2")


def test_few_nulls_give_no_interval_and_none_are_explained() -> None:
    few = NullTwinReport((NullTrial("shuffled_answers", 0, 3), NullTrial("random_init", 0, 3, ("F2",))))
    assert few.interval is None
    assert "too few for an interval" in few.line()
    assert [row[1:] for row in few.rows()] == [("1", "3", "1", "F2"), ("1", "3", "0", "")]
    assert NullTwinReport(skipped="the model is large").line() == "no null twins: the model is large"
    assert NullTwinReport().share is None
    assert NullTwinReport.read([]) is None


@pytest.mark.parametrize(("kind", "tried", "confirmed"), [("other", 1, ()), ("random_init", 1, ("F1", "F2"))])
def test_a_trial_that_cannot_be_is_refused(kind: str, tried: int, confirmed: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"no kind of null|cannot be confirmed"):
        NullTrial(kind, 0, tried, confirmed)


LISTENS = {  # subject -> a task of its own, and a place that carries its answer
    "translator": ("translation:twin=language", "decoder.0.resid_pre@-1"),
    "speech": ("transcription", "decoder.3.resid_post"),
    "masked": ("gap_agreement", "encoder.0.resid_pre@controller"),
    "shapes": ("shape", "encoder.0.resid_pre@object"),
}


@pytest.mark.parametrize("name", LISTENS)
def test_what_is_true_of_a_model_of_any_port_is_tested_on_its_nulls_and_confirmed_on_none(name: str) -> None:
    subject, (task, place) = load_subject(name), LISTENS[name]
    made = Statement(kind="carries", task=task, components=place, examples=40)
    found = {"itself": examine(made, Context(subject, OfflineTasks([]), Nothing()))}
    for null in KINDS:
        other, tasks = null_subject(subject, null, 0), null_tasks(OfflineTasks([]), null, 0)
        found[null] = examine(null_statement(made), Context(other, tasks, Nothing(), lifted=True))
    sure = {k: next(m.value for m in reversed(o.measurements) if m.name == "p") for k, o in found.items()}
    assert sure["itself"] < 0.001
    assert all(sure[null] > 0.05 for null in KINDS)
