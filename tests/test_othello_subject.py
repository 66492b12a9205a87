"""Othello: the rules are right, held-out games are unseen, and the subject makes legal moves that it was never told the rules of."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tools.subjects import load_subject
from tools.subjects.othello import data, train
from tools.subjects.othello.rules import Rules, random_games, replayed
from tools.tasks import chance_level, get_task

FOLDER = Path(train.__file__).parent
PERFT = {8: [4, 12, 56, 244, 1396, 8200]}  # how many games of so many moves there are, as every Othello program counts them


def squares(rules, *names):
    bits = np.zeros((1, rules.squares), bool)
    bits[0, [rules.names.index(n) for n in names]] = True
    return rules.pack(bits)


def names(rules, bits):
    return {rules.names[i] for i in np.flatnonzero(rules.unpack(bits)[0])}


def test_there_are_as_many_games_of_each_length_as_the_rules_allow():
    rules = Rules(8)
    own, other = rules.start(1)
    for known in PERFT[8]:
        game, square = np.nonzero(rules.unpack(rules.legal(own, other)))
        assert len(game) == known
        own, other = rules.play(own[game], other[game], np.uint64(1) << square.astype(np.uint64))
        own, other = other, own


def test_the_first_moves_are_the_four_beside_the_centre_and_turn_one_piece():
    rules = Rules(6)
    black, white = rules.start(1)
    assert names(rules, white) == {"c3", "d4"} and names(rules, black) == {"d3", "c4"}
    assert names(rules, rules.legal(black, white)) == {"c2", "b3", "e4", "d5"}
    black, white = rules.play(black, white, squares(rules, "c2"))
    assert names(rules, black) == {"c2", "c3", "d3", "c4"} and names(rules, white) == {"d4"}


@pytest.mark.parametrize(
    ("own", "other", "move", "turns"),
    [
        (("a1", "f1"), ("b1", "c1", "d1"), "e1", {"b1", "c1", "d1"}),  # a row closed on both sides
        (("c1",), ("a1", "b1", "c3"), "c5", set()),  # nothing of ours beyond the run
        (("f6",), ("b2", "c3", "d4", "e5"), "a1", {"b2", "c3", "d4", "e5"}),  # the longest diagonal
        (("f2",), ("f1", "a2"), "e1", set()),  # a run does not go on in the next row
    ],
)  # fmt: skip
def test_a_move_turns_the_runs_that_it_closes_and_no_others(own, other, move, turns):
    rules = Rules(6)
    mine, theirs = squares(rules, *own), squares(rules, *other)
    after, left = rules.play(mine, theirs, squares(rules, move))
    assert names(rules, after) == {*own, move, *turns}
    assert names(rules, left) == {*other} - turns
    assert (move in names(rules, rules.legal(mine, theirs))) == bool(turns)


def test_random_games_follow_the_rules_passes_included_and_a_wrong_move_is_named():
    rules = Rules(6)
    games = random_games(rules, 400, np.random.default_rng(0))
    again = replayed(rules, games.moves)
    assert (again.black[:, :32] == games.black).all() and (again.legal[:, :32] == games.legal).all()
    played = games.moves >= 0
    assert (games.blacks_turn != (np.arange(32) % 2 == 0))[played].any()  # somebody had to pass
    assert not (games.black & games.white).any()
    with pytest.raises(ValueError, match="move 2, a1, is not allowed"):
        replayed(rules, np.array([[rules.names.index("c2"), 0]]))


def test_what_another_colour_would_allow_is_what_the_rules_say_of_that_board():
    games = data.games("explore", 20, np.random.default_rng(1))
    found = data.positions(games, np.full(20, 12))
    rules = data.RULES
    for i, s in ((0, 14), (3, 20), (7, 15)):
        assert found.board[i, s] != 0
        board = found.sides[i].copy()
        board[s] *= -1
        own, other = (rules.pack(board[None] == v) for v in (1, -1))
        assert (rules.unpack(rules.legal(own, other))[0] == found.flipped[i, s]).all()
    empty = np.argwhere(found.board == 0)
    assert all((found.flipped[i, s] == found.legal[i]).all() for i, s in empty)


def test_no_position_of_a_held_out_split_begins_like_a_game_of_another():
    opening = {
        split: {tuple(m) for m in data.games(split, 200, np.random.default_rng(0)).moves[:, : data.OPENING].tolist()}
        for split in ("train", "explore", "confirm")
    }  # fmt: skip
    assert not opening["train"] & opening["explore"] and not opening["train"] & opening["confirm"]
    assert not opening["explore"] & opening["confirm"]


def test_examples_say_what_stands_on_the_board_and_what_is_right_if_a_square_had_the_other_colour():
    task = get_task("othello")
    examples = task.examples("explore", 40)
    rules = data.RULES
    for e in examples:
        moves = np.array([[rules.names.index(m) for m in e.prompt.split()]])
        end = replayed(rules, moves)
        assert {f" {n}" for n in names(rules, end.legal[:, -1])} == set(e.accepted)
        black, mine = names(rules, end.black[:, -1]), end.black if end.blacks_turn[0, -1] else end.white
        assert {n for n in rules.names if e.labels[f"colour.{n}"] == "black"} == black
        assert {n for n in rules.names if e.labels[f"side.{n}"] == "mine"} == names(rules, mine[:, -1])
        assert e.foil not in e.accepted and len(e.twin.split()) == len(e.prompt.split())
        (c,) = e.counterfactuals
        assert set(c.answers) != set(e.accepted)
        assert all(e.labels[name] != value for name, value in c.labels.items())
        assert e.supposing(c).rights[0] in c.answers
    assert 0.3 < chance_level(examples) < 0.6


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()


def test_the_subject_makes_legal_moves_and_one_of_random_weights_does_not(model):
    from transformers import GPT2LMHeadModel

    games = data.games("confirm", 200, np.random.default_rng(5))
    legal, mass = train.legality(model, games)
    assert legal >= 0.9 and mass >= 0.8  # four in five is what a world model is asked for
    torch.manual_seed(0)
    assert train.legality(GPT2LMHeadModel(model.config).eval(), games)[0] < 0.6


def test_its_tokenizer_reads_a_square_as_one_token_after_the_one_that_begins_a_game():
    subject = load_subject("othello")
    assert subject.tokens("c2 b2") == [0, *(len(data.SPECIAL) + data.RULES.names.index(n) for n in ("c2", "b2"))]
    assert subject.max_positions >= 33
