"""Multilingual translation: where the target language and the meaning lie, what lies between two languages, and how alike
parallel sentences are, on two translators whose answers are known, and nothing of it on random ones of the same class.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.report.plots import main_plots, plots
from experiments_db.findings import Statement
from experiments_db.records import Result
from tools.findings.examining import examine
from tools.methods.features import random_twin
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.similarity import cka, jackknifed, retrieve, same_cell, shuffled_within
from tools.methods.tool import Context, ToolInputError, discover
from tools.statistics import Groups
from tools.subjects import load_subject

TOOLS = discover()
NAMES = ("translator", "translator-front")


@pytest.fixture(scope="module")
def bench():
    """Contexts by the subject's name: the translator, the one told in front, and a random model of the same class."""
    tasks = OfflineTasks([])
    subjects = {name: load_subject(name, device="cpu") for name in NAMES}
    subjects["random"] = random_twin(subjects["translator"], 5)
    return {name: Context(subject, tasks, Nothing()) for name, subject in subjects.items()}


def call(ctx, tool, **arguments):
    return TOOLS[tool].run(TOOLS[tool].parse(arguments), ctx)


def value(outcome, name, **where):
    (found,) = [m for m in outcome.measurements if m.name == name and m.agrees({k: str(v) for k, v in where.items()})]
    return found


# -- the measures -----------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**31), st.floats(0.01, 100))
def test_a_rotated_scaled_and_shifted_representation_is_the_same_to_cka(seed, scale):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(40, 6))
    turn, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    assert cka(x, scale * x @ turn + rng.normal(size=6)) == pytest.approx(1.0, abs=1e-9)


def test_cka_of_random_representations_is_0_however_wide_they_are():
    rng = np.random.default_rng(0)
    for width in (2, 200):
        found = [cka(rng.normal(size=(60, width)), rng.normal(size=(60, width))) for _ in range(30)]
        assert abs(np.mean(found)) < 0.03


def test_a_part_that_is_shared_gives_the_share_of_variance_that_it_has():
    rng = np.random.default_rng(1)
    shared, a, b = (rng.normal(size=(2000, 4)) for _ in range(3))
    # four of eight equal directions in common: <K, M> / |K||M| = 4 / 8
    assert cka(np.hstack([shared, a]), np.hstack([shared, b])) == pytest.approx(0.5, abs=0.02)


def test_retrieval_is_1_for_the_same_chance_for_random_and_chance_where_nothing_differs():
    rng = np.random.default_rng(2)
    x, cells = rng.normal(size=(400, 16)), [i % 80 for i in range(400)]
    candidates = same_cell(cells)
    assert retrieve(x, x + 5.0, candidates).both.mean() == 1.0
    unrelated = retrieve(x, rng.normal(size=(400, 16)), candidates)
    assert unrelated.both.mean() == pytest.approx(0.2, abs=0.06)
    assert unrelated.chance.mean() == pytest.approx(0.2)
    assert retrieve(np.ones((400, 16)), np.ones((400, 16)), candidates).both.mean() == pytest.approx(0.2)


def test_what_tells_lengths_alone_retrieves_at_chance_among_candidates_of_one_length():
    cells = np.repeat(np.arange(8), 10)
    lengths = np.eye(8)[cells]
    among_all, among_its_own = (retrieve(lengths, lengths, same_cell(c)) for c in ([0] * 80, cells.tolist()))
    assert among_all.both.mean() == pytest.approx(among_its_own.both.mean()) == pytest.approx(0.1)
    noisy = lengths + 0.01 * np.random.default_rng(0).normal(size=lengths.shape)
    assert retrieve(noisy, noisy[shuffled_within(cells.tolist(), 0)], same_cell(cells.tolist())).both.mean() < 0.3
    alone = retrieve(lengths, lengths, same_cell(range(80)))
    assert len(alone.both) == 0  # without a negative there is nothing to find


def test_a_shuffled_pairing_keeps_cells_and_no_partner():
    cells = [i % 7 for i in range(50)]
    order = shuffled_within(cells, 3)
    assert [cells[j] for j in order] == cells
    assert not (order == np.arange(50)).any()


def test_the_jackknife_of_a_mean_is_its_usual_interval():
    x = np.random.default_rng(0).normal(size=32)
    (found,) = jackknifed(lambda kept: np.array([x[kept].mean()]), Groups.of(range(32)))
    assert found.high - found.value == pytest.approx(2.0395 * x.std(ddof=1) / 32**0.5, rel=1e-3)


# -- parallel sentences -----------------------------------------------------------------------------------------------


def languages(target, *sources):
    return [f"translation:source={s},target={target}" for s in sources]


@pytest.mark.parametrize("name", NAMES)
def test_parallel_sentences_find_each_other_in_both_translators_and_not_in_a_random_one(bench, name):
    found = call(
        bench[name],
        "rep_similarity",
        tasks=languages("kel", "sor", "tiv"),
        components=["encoder.2.resid_post@all"],
        examples=96,
    )
    retrieval, similar = (
        value(found, q, task=" and ".join(languages("kel", "sor", "tiv"))) for q in ("retrieval", "cka")
    )
    chance = value(found, "retrieval.chance").value
    assert retrieval.low > 0.7
    assert retrieval.control.value < chance + 0.1 < 0.4
    assert retrieval.control.difference_low > 0.5
    assert similar.value > 0.7 > value(found, "cka.shuffled").value
    assert value(found, "retrieval.shuffled").value < chance


def test_a_random_model_of_the_class_has_no_more_than_its_control(bench):
    found = call(
        bench["random"],
        "rep_similarity",
        tasks=languages("kel", "sor", "tiv"),
        components=["encoder.0,2.resid_post@all"],
        examples=96,
    )
    for m in found.measurements:
        if m.name == "retrieval":
            assert m.control.difference_low < 0 < m.control.difference_high
            assert m.value < 0.35
        if m.name == "cka":
            assert abs(m.control.difference) < 0.15


def test_two_tasks_without_a_problem_in_common_or_with_the_same_inputs_are_refused(bench):
    with pytest.raises(ToolInputError, match="same problems"):
        call(bench["translator"], "rep_similarity", tasks=languages("kel", "sor") * 2)
    with pytest.raises(ToolInputError, match="the same inputs"):
        same = ["translation:source=kel,target=mun", "translation:source=kel,target=mun,twin=language"]
        call(bench["translator"], "rep_similarity", tasks=same, examples=32)


def test_options_hold_the_same_meanings_in_one_order(bench):
    a, b = (bench["translator"].tasks.get(t).examples("explore", 40, 3) for t in languages("kel", "sor", "tiv"))
    assert [e.group for e in a] == [e.group for e in b]
    assert [e.target for e in a] == [e.target for e in b]
    assert not {e.inputs["source"] for e in a} & {e.inputs["source"] for e in b}


# -- the target language and the meaning ------------------------------------------------------------------------------

TOKEN = {"translator": "decoder.0.resid_pre@-1", "translator-front": "encoder.0.resid_pre@0"}
ENCODER, DECODER = "encoder.2.resid_post@all", "decoder.0.resid_pre@-1"


def recovered(ctx, twin, components):
    out = call(ctx, "patch", task=f"translation:twin={twin}", components=components, examples=32)
    return {m.component: m for m in out.measurements if m.name == "recovered"}


@pytest.mark.parametrize("name", NAMES)
def test_the_language_lies_where_it_is_told_and_the_meaning_in_the_encoder(bench, name):
    language = recovered(bench[name], "language", ["encoder.*.resid_post@-1", ENCODER, TOKEN[name], DECODER])
    meaning = recovered(bench[name], "meaning", [ENCODER, DECODER, TOKEN[name]])
    told = language[TOKEN[name]]
    assert told.value == pytest.approx(1.0, abs=0.01)
    assert told.control.value < 0.2
    by_encoder = language[ENCODER.removesuffix("@all")].value
    assert by_encoder == pytest.approx(1.0 if name == "translator-front" else 0.0, abs=0.01)
    assert language["encoder.2.resid_post@-1"].value == pytest.approx(0.0, abs=0.05)  # not at the end of the source
    assert meaning[ENCODER.removesuffix("@all")].value == pytest.approx(1.0, abs=0.01)
    assert meaning[DECODER].value == meaning[TOKEN[name]].value == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_between_two_languages_a_translation_goes_over_all_at_once(bench, name):
    weights = [0.0, 0.25, 0.5, 0.75, 1.0]
    out = call(
        bench[name],
        "patch",
        task="translation:twin=language",
        components=[TOKEN[name]],
        weights=weights,
        written=True,
        examples=24,
    )

    def of(quantity):
        return [value(out, quantity, dose=w, component=TOKEN[name]).value for w in ("0", "0.25", "0.5", "0.75", "1")]

    own, twin, mixed, moved = (of(q) for q in ("writes.own", "writes.twin", "writes.mixed", "recovered"))
    assert (own[0], twin[0], mixed[0]) == (1.0, 0.0, 0.0)
    assert (own[-1], twin[-1]) == (0.0, 1.0)
    assert moved[0] == pytest.approx(0.0, abs=1e-5)
    assert moved[-1] == pytest.approx(1.0, abs=1e-3)
    assert moved == sorted(moved)
    assert own == sorted(own, reverse=True)
    assert own[1] > 0.8
    assert twin[3] > 0.8


def test_mixing_does_nothing_to_a_random_model(bench):
    out = call(
        bench["random"],
        "patch",
        task="translation:twin=language",
        components=[TOKEN["translator"]],
        weights=[0.5],
        written=True,
        examples=16,
    )
    assert value(out, "writes.own").value == value(out, "writes.twin").value == 0.0


def test_cross_attention_is_patched_ablated_and_drawn_like_self_attention(bench):
    """The meaning of a sentence reaches the decoder through cross-attention alone, most of it in the last block."""
    out = call(bench["translator"], "patch", task="translation:twin=meaning", components=["decoder.*.cross.out@answer"], examples=24)
    by_block = [value(out, "recovered", component=f"decoder.{b}.cross.out@answer") for b in range(3)]
    all_at_once = call(
        bench["translator"], "patch", task="translation:twin=meaning", components=["decoder.*.cross.out@answer"], mode="together",
        examples=24,
    )  # fmt: skip
    (whole,) = (m for m in all_at_once.measurements if m.name == "recovered")
    assert whole.value > 0.99
    assert by_block[2].value > 0.7 > 0.3 > max(m.value for m in by_block[:2])
    own = recovered(bench["translator"], "meaning", ["decoder.*.attn.out@answer"])
    assert max(m.value for m in own.values()) < 0.3  # what its own words decide is decided by the meaning that they were made of
    places = ["decoder.*.cross.out@answer", "decoder.*.cross.z[*]@answer"]
    gone = call(bench["translator"], "ablate", task="translation", components=places, intervention="zero", examples=24)
    assert value(gone, "accuracy", component="decoder.2.cross.out@answer").value < 0.5
    assert value(gone, "accuracy", component="decoder.2.cross.z[0]@answer").value > 0.9
    asked = {"task": "translation:source=kel,target=sor", "components": ["decoder.*.cross.pattern[*]"], "at": "answer.first"}
    elsewhere, looks = (call(bench["translator"], "attention", **asked, keys=[key], examples=24) for key in ("object", "verb"))
    verb, other = (
        sorted(m.value for m in seen.measurements if m.name == "attention" and m.component.startswith("decoder.2."))
        for seen in (looks, elsewhere)
    )
    assert verb[-2] > 0.25 > 0.15 > other[-1]  # a sentence of sor begins with its verb: two heads look there, none at the object
    for tool, found, wanted in (("patch", out, ("",)), ("ablate", gone, ("", "0", "1", "2", "3")), ("attention", looks, ("0", "1", "2", "3"))):
        result = Result(status="ok", text="", measurements=found.measurements, wall_seconds=0.0, peak_memory_bytes=0, provenance=None)
        drawn = main_plots(tool, plots(tool, result))
        assert drawn
        assert all(p.rows == ("0", "1", "2") or p.columns == ("0.cross.out", "1.cross.out", "2.cross.out") for p in drawn)
        assert any(p.columns == wanted or wanted == ("",) for p in drawn)


# -- the pair that was never trained ----------------------------------------------------------------------------------


def test_the_unseen_pair_is_translated_where_the_encoder_is_not_told_the_language(bench):
    tasks = languages("tiv", "kel", "mun", "sor") + languages("sor", "tiv")
    exact, wer = {}, {}
    for name in NAMES:
        out = call(
            bench[name], "layer_program", tasks=tasks, operation="keep", blocks=[0, 1, 2], written=True, examples=96
        )
        for task in tasks:
            exact[name, task] = value(out, "exact", task=task, program="intact").value
            wer[name, task] = value(out, "wer", task=task, program="intact").value
    unseen = (languages("tiv", "sor")[0], languages("sor", "tiv")[0])
    for name in NAMES:
        assert all(exact[name, t] > 0.97 and wer[name, t] < 0.01 for t in tasks if t not in unseen)
    told, front = (np.mean([exact[name, t] for t in unseen]) for name in NAMES)
    assert told > 0.95 > 0.4 > front
    assert np.mean([wer["translator", t] for t in unseen]) < np.mean([wer["translator-front", t] for t in unseen])


def test_how_alike_parallel_sentences_are_does_not_tell_who_translates_the_unseen_pair(bench):
    """Both encoders bring sor and tiv together; what the one that is told in front lacks is not a common form."""
    for tasks in (languages("kel", "sor", "tiv"), languages("tiv", "sor", "kel")):
        out = [call(bench[n], "rep_similarity", tasks=tasks, components=[ENCODER], examples=96) for n in NAMES]
        found = [value(o, "retrieval", task=" and ".join(tasks)).value for o in out]
        assert min(found) > 0.85
        assert abs(found[0] - found[1]) < 0.1


# -- as a finding -----------------------------------------------------------------------------------------------------


def test_that_parallel_sentences_are_alike_is_confirmed_of_the_translator_and_not_of_a_random_one(bench):
    first, second = languages("kel", "sor", "tiv")
    made = Statement(
        kind="similar", task=first, other_task=second, components=ENCODER.removesuffix("@all"), examples=96
    )
    fates = {
        n: max(m.value for m in examine(made, bench[n]).measurements if m.name == "probability")
        for n in ("translator", "random")
    }
    assert fates["translator"] > 0.5 > 0.2 > fates["random"]


def test_a_removal_that_leaves_a_share_of_what_was_there_is_no_removal(bench):
    made = Statement(
        kind="necessary", task="translation", components="encoder.0.mlp.out", interventions=("resample(donor, 0.01)",)
    )
    with pytest.raises(ToolInputError, match="not tested under"):
        examine(made, bench["translator"])
