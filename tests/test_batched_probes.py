"""Many probes in one solve say what one at a time would; codes are short where there is something to learn; what is erased is gone."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV

from tools.methods.batched_probes import PENALTIES, Labels, code_length, fit
from tools.methods.erasing import leace, random_eraser

PLACES, ROWS, CUT, CHANNELS, LABELS = 3, 420, 300, 24, 5


@pytest.fixture(scope="module")
def planted():
    """States at three places, and labels of three classes that are linear in those of the first place, with noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(PLACES, ROWS, CHANNELS))
    y = np.digitize(x[0] @ rng.normal(size=(CHANNELS, LABELS)) + rng.normal(size=(ROWS, LABELS)), [-2.5, 2.5])
    labels = Labels.of({f"s.{k}": [("a", "b", "c")[v] for v in y[:, k]] for k in range(LABELS)})
    return torch.from_numpy(x).float(), labels


def right(states, labels, model):
    fitted = fit(states[:, :CUT], labels.rows(slice(CUT)), model)
    return (fitted.read(states[:, CUT:]) == labels.codes[CUT:]).mean((1, 2))


def test_ridge_at_all_places_of_all_labels_reads_what_scikit_learn_reads_one_by_one(planted):
    states, labels = planted
    read = fit(states[:, :CUT], labels.rows(slice(CUT)), "ridge").read(states[:, CUT:])
    for p in range(PLACES):
        x = states[p].double().numpy()
        x = (x - x[:CUT].mean(0)) / x[:CUT].std(0)
        for k in range(LABELS):
            one = RidgeClassifierCV(PENALTIES).fit(x[:CUT], labels.codes[:CUT, k])
            assert (one.predict(x[CUT:]) == read[p, :, k]).all()


@pytest.mark.parametrize("model", ["ridge", "mass_mean", "logistic", "sparse", "mlp"])
def test_every_model_reads_where_the_labels_are_and_none_reads_where_they_are_not(planted, model):
    states, labels = planted
    found = right(states, labels, model)
    assert found[0] > 0.65
    assert max(found[1:]) < 0.55


def test_an_mlp_reads_a_product_that_no_linear_probe_can():
    x = torch.randn(1, 700, 6, generator=torch.Generator().manual_seed(0))
    labels = Labels.of({"same": [str(bool(v)) for v in (x[0, :, 0] * x[0, :, 1] > 0)]})
    assert right(x, labels, "mlp")[0] > 0.85
    assert right(x, labels, "ridge")[0] < 0.65


def test_a_sparse_probe_reads_from_few_channels(planted):
    rng = np.random.default_rng(1)
    x = torch.from_numpy(rng.normal(size=(1, ROWS, CHANNELS))).float()
    labels = Labels.of({"one": [str(bool(v)) for v in x[0, :, 3] > 0]})
    used = {m: (fit(x, labels, m).layers[0][0].abs() > 1e-3).any(-1).sum() for m in ("sparse", "logistic")}
    assert used["sparse"] <= 4 < used["logistic"] == CHANNELS


def test_a_probe_of_a_place_does_not_depend_on_the_others_fitted_with_it(planted):
    states, labels = planted
    for model in ("ridge", "mlp"):
        whole, alone = fit(states, labels, model, seed=3), fit(states[1:2], labels, model, seed=3)
        assert torch.allclose(whole.at(1).scores(states[1:2]), alone.scores(states[1:2]), atol=1e-3)


def test_a_code_that_learns_is_shorter_than_even_odds_where_there_is_something_to_learn(planted):
    states, labels = planted
    bits = code_length(states, labels, "logistic", 0).mean(1)
    assert bits[0] < np.log2(3) < min(bits[1:])


def test_after_erasure_nothing_is_read_and_after_random_erasure_it_still_is(planted):
    states, labels = planted
    one = Labels.of({"s": [labels.values[0][c] for c in labels.codes[:, 0]]})
    x, y = states[0], one.codes[:, 0]
    eraser = leace(x, one.one_hot())
    assert eraser.rank == 2  # three classes
    often = np.bincount(y).max() / len(y)
    kept = random_eraser(x, eraser.rank, torch.Generator().manual_seed(0))

    def read(z):
        return LogisticRegression(C=1e4, max_iter=3000).fit(z.numpy(), y).score(z.numpy(), y)

    assert read(x) > 0.9 and read(kept(x)) > 0.75
    assert read(eraser(x)) == pytest.approx(often, abs=0.01)
    assert torch.linalg.matrix_rank(eraser(x) - eraser(x).mean(0)) == CHANNELS - 2
    assert (eraser(x) - x).norm() < x.norm()
