"""Row 9: what the host model holds about its user, read beside the words alone, pinned, and shown beside a conversation."""

import random

import numpy as np
import pytest

from experiments_db.places import Component
from tools.methods.attributes import Probe, believed, last_word, words_of
from tools.methods.conversing import Dashboard, parsed_pins, prompt_of, say
from tools.methods.features import random_twin
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.tool import Context, ToolInputError, discover
from tools.subjects import load_subject
from tools.subjects.host import data
from tools.tasks import Example, get_task

USER = [f"user {a}" for a in data.USER]


@pytest.fixture(scope="module")
def host():
    return load_subject("host", device="cpu")


@pytest.fixture(scope="module")
def ctx(host):
    return Context(host, OfflineTasks([]), Nothing())


@pytest.fixture(scope="module")
def held(ctx):
    """The tool's answer on the last block."""
    t = discover()["user_model"]
    return t.run(t.parse({"task": "host", "components": ["*.2.resid_post@-1"], "examples": 400}), ctx)


def of(outcome, name, label):
    (found,) = [m for m in outcome.measurements if (m.name, m.label) == (name, label)]
    return found


def test_a_swapped_cue_has_the_same_words_and_means_the_opposite():
    rng = random.Random(0)
    for _ in range(50):
        talk = data.draw(rng, "explore")
        other = talk.turned(talk.turns)
        assert sorted(talk.text.split()) == sorted(other.text.split())
        assert {a for a in data.VALUES if talk.values[a] != other.values[a]} == {talk.turns}
        assert talk.answer != other.answer and talk.content == other.content


def test_conversations_that_were_held_out_are_in_no_document():
    rng, seen = random.Random(0), set()
    for _ in range(60):
        seen |= {d[0][0] for d in data.documents(rng)}
    assert not seen & {e.prompt for e in get_task("host").examples("confirm", 200)}


# -- what a probe is held against ----------------------------------------------------------------------------------


def spoken(n=160, seed=0):
    """Conversations in which the words tell the mood, the last word the tone, and nothing the age."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(n):
        mood, tone, age = rng.choice(["glad", "sad"]), rng.choice(["please", "now"]), rng.choice(["child", "adult"])
        labels = {"user mood": str(mood), "user tone": str(tone), "user age": str(age)}
        made.append(Example.of_text(f"user : i feel {mood} , say it {tone} ? host :", " x", group=str(i), labels=labels))
    return made[: n // 2], made[n // 2 :]


@pytest.mark.parametrize(
    ("label", "right", "says"),
    [
        ("user age", 1.0, "beyond the words alone"), ("user age", 0.5, "at chance"),
        ("user mood", 1.0, "reads no more than the words alone tell"),
        ("user tone", 1.0, "reads no more than the last word that the user said"),
    ],
)  # fmt: skip
def test_a_probe_is_believed_as_far_as_it_beats_the_words(label, right, says):
    fitted, tried = spoken()
    hits = (np.arange(len(tried)) % 2 < 2 * right - 1) | (np.arange(len(tried)) % 2 == 0) if right < 1 else np.ones(len(tried))
    assert believed(label, fitted, tried, np.asarray(hits, dtype=np.float64)).words == says


def test_the_last_word_is_the_users_and_not_the_name_of_who_answers():
    e = Example.of_text("user : say it please ? host :", " x")
    assert last_word(e) == "please" and "host" in words_of(e)


def test_a_pin_at_strength_one_lies_at_the_values_mean_and_at_none_half_way():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 5)).astype(np.float32)
    values = ["a" if i % 2 else "b" for i in range(80)]
    x[1::2, 0] += 4
    probe = Probe.fit("user age", Component.parse("decoder.0.resid_post@-1"), x, values)
    unit, target = probe.pin("a", 1.0)
    means = [float(x[np.array(values) == v].mean(0) @ unit) for v in ("a", "b")]
    assert target == pytest.approx(means[0], abs=1e-4)
    assert probe.pin("a", 0.0)[1] == pytest.approx(np.mean(means), abs=1e-4)
    with pytest.raises(ToolInputError, match="one of a, b"):
        probe.pin("c")


# -- the row's check -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", USER)
def test_a_held_out_probe_beats_the_bag_of_words_which_is_at_chance_as_cues_are_swapped(held, label):
    m = of(held, "read", label)
    assert m.value >= 0.85 and m.control and m.control.value <= 0.65 and m.control.difference_low > 0.1
    assert of(held, "read.beyond_random_init", label).low > 0.1


@pytest.mark.parametrize("label", USER)
def test_pinning_changes_the_answer_as_often_as_saying_otherwise_and_random_directions_do_not(held, label):
    pinned, expected = of(held, "pinned", label), of(held, "expected", label)
    assert pinned.value >= 0.85 * expected.value and expected.value >= 0.95
    assert pinned.control and pinned.control.value <= 0.25 and pinned.control.difference_low > 0.3


def test_a_probe_that_reads_the_last_word_alone_is_said_to(held):
    assert "user tone: reads no more than the last word" in held.text or "user tone: at chance" in held.text
    assert not of(held, "read.beyond_last_word", "user tone").low > 0


def test_of_a_model_of_random_weights_nothing_is_read_beyond_the_words(host):
    t = discover()["user_model"]
    ctx = Context(random_twin(host, 0), OfflineTasks([]), Nothing())
    found = t.run(t.parse({"task": "host", "components": ["*.2.resid_post@-1"], "examples": 300}), ctx)
    assert not any(of(found, "read", label).control.difference_low > 0 for label in USER)
    assert not any(m.control.difference_low > 0 for m in found.measurements if m.name == "pinned")


# -- a conversation --------------------------------------------------------------------------------------------------


def test_in_a_conversation_the_user_is_read_and_a_pin_changes_the_next_answer(ctx):
    board, rng, as_said = Dashboard.fit(ctx, "host", "*.2.resid_post", 400), random.Random(5), 0
    for _ in range(12):
        talk = data.draw(rng, "confirm")
        turn = say(ctx, board, talk.text, {}, 2.0, 4)
        assert turn.reply == turn.plain and turn.reply.startswith(talk.answer)
        for a in data.USER:
            chances = turn.chances[f"user {a}"]
            assert max(chances, key=lambda v: chances[v]) == talk.values[a]
        other = talk.turned(talk.turns)
        pinned = say(ctx, board, talk.text, {f"user {talk.turns}": other.values[talk.turns]}, 2.0, 4)
        assert pinned.plain == turn.plain != pinned.reply
        as_said += pinned.reply.startswith(other.answer)
    assert as_said >= 7  # chance is one in eight
    with pytest.raises(ToolInputError, match="attributes are"):
        say(ctx, board, talk.text, {"user height": "tall"}, 2.0, 4)


def test_what_is_wrong_in_a_turn_is_said():
    assert prompt_of("system : x .", "i am old .", "user : {} host :") == "system : x . user : i am old . host :"
    with pytest.raises(ToolInputError, match="one {} stands"):
        prompt_of("", "x", "user : host :")
    with pytest.raises(ToolInputError, match="attribute=value"):
        parsed_pins(["user age"])
    assert parsed_pins(["user age = child"]) == {"user age": "child"}


def test_a_task_without_attributes_is_refused(ctx):
    with pytest.raises(ToolInputError, match="begins with 'user '"):
        Dashboard.fit(Context(load_subject("demo", device="cpu"), OfflineTasks([]), Nothing()), "agreement", examples=64)
