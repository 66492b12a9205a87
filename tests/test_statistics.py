"""Intervals: known values, invariances, and how often they hold what they promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.statistics import intervals as stats

SAMPLES = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40).map(np.array)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3 (the score method without continuity correction)
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_are_those_in_newcombes_table(successes: int, n: int, low: float, high: float) -> None:
    estimate = stats.proportion(np.arange(n) < successes)
    assert estimate.value == successes / n
    assert estimate.n == n
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=5e-5)


@given(st.lists(st.booleans(), min_size=1, max_size=300).map(np.array))
def test_a_proportion_lies_in_its_interval_which_never_collapses_nor_leaves_0_to_1(successes: np.ndarray) -> None:
    estimate = stats.proportion(successes)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert estimate.high - estimate.low > 0.005
    other = stats.proportion(~successes)
    assert (other.low, other.high) == pytest.approx((1 - estimate.high, 1 - estimate.low))


def test_proportions_and_means_of_nothing_are_errors() -> None:
    with pytest.raises(ValueError, match="no examples"):
        stats.proportion(np.zeros(0, bool))
    with pytest.raises(ValueError, match="no examples"):
        stats.mean(np.zeros(0))


@given(SAMPLES, st.integers(0, 2**32 - 1))
def test_a_bootstrap_interval_stays_within_the_data_and_repeats_with_its_seed(values: np.ndarray, seed: int) -> None:
    estimate = stats.mean(values, seed)
    assert estimate.n == len(values)
    assert estimate.value == pytest.approx(values.mean(), abs=1e-9)
    assert values.min() - 1e-9 <= estimate.low <= estimate.high <= values.max() + 1e-9
    assert stats.mean(values, seed) == estimate


@given(SAMPLES, st.floats(-3, 3), st.floats(-10, 10))
def test_the_interval_of_an_affine_image_is_the_image_of_the_interval(
    values: np.ndarray, factor: float, shift: float
) -> None:
    plain, image = stats.mean(values), stats.mean(factor * values + shift)
    ends = sorted((factor * plain.low + shift, factor * plain.high + shift))
    assert [image.low, image.high] == pytest.approx(ends, abs=1e-6)


@pytest.mark.parametrize("draw", ["standard_normal", "standard_exponential"])
def test_95_percent_intervals_hold_the_true_mean_about_95_times_in_a_hundred(draw: str) -> None:
    rng = np.random.default_rng(1)
    truth = {"standard_normal": 0.0, "standard_exponential": 1.0}[draw]
    hits = 0
    for trial in range(300):
        estimate = stats.mean(getattr(rng, draw)(50), seed=trial)
        hits += estimate.low <= truth <= estimate.high
    assert 0.90 <= hits / 300 <= 0.99


def test_wilson_intervals_hold_the_true_share_about_95_times_in_a_hundred() -> None:
    rng = np.random.default_rng(2)
    estimates = [stats.proportion(rng.random(40) < 0.2) for _ in range(1000)]
    assert 0.92 <= np.mean([e.low <= 0.2 <= e.high for e in estimates]) <= 0.98


def test_for_many_examples_the_bootstrap_is_as_wide_as_normal_theory_says() -> None:
    values = np.random.default_rng(3).standard_normal(3000)
    estimate = stats.mean(values)
    expected = 2 * 1.959964 * values.std() / np.sqrt(len(values))
    assert estimate.high - estimate.low == pytest.approx(expected, rel=0.06)


def test_columns_are_resampled_together() -> None:
    x = np.random.default_rng(4).standard_normal(30)
    low, high = stats.bootstrap(np.stack([x, -x, x + 1], axis=1))
    np.testing.assert_allclose(low[1], -high[0])
    np.testing.assert_allclose([low[2], high[2]], [low[0] + 1, high[0] + 1])


def test_a_constant_difference_is_known_exactly_however_much_the_examples_vary() -> None:
    baseline = np.random.default_rng(5).integers(-500, 500, 60).astype(float)
    estimate = stats.paired_difference(baseline + 0.25, baseline)
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (0.25, 0.25, 0.25, 60)


@given(SAMPLES)
def test_a_difference_changes_sign_with_its_direction(values: np.ndarray) -> None:
    there, back = stats.paired_difference(values, values[::-1]), stats.paired_difference(values[::-1], values)
    assert back.value == pytest.approx(-there.value, abs=1e-9)
    assert [back.low, back.high] == pytest.approx([-there.high, -there.low], abs=1e-9)


def test_holm_adjusts_as_in_a_worked_example() -> None:
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 is 0.02, 0.03, 0.06, 0.04; made monotone 0.02, 0.03, 0.06, 0.06.
    assert stats.holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30).map(np.array))
def test_holm_never_lowers_a_p_value_nor_changes_their_order(p: np.ndarray) -> None:
    q = stats.holm(p)
    assert np.all(q >= p)
    assert np.all(q <= 1)
    assert np.all(np.diff(q[np.argsort(p, kind="stable")]) >= 0)


def test_p_values_and_intervals_say_the_same() -> None:
    assert stats.p_from_interval(stats.Estimate(1.0, 0.0, 2.0, 9)) == pytest.approx(0.05, abs=1e-9)
    assert stats.p_from_interval(stats.Estimate(1.0, 1.0, 1.0, 9)) == 0
    assert stats.p_from_interval(stats.Estimate(0.0, 0.0, 0.0, 9)) == 1


def test_auroc_and_r_squared_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import r2_score, roc_auc_score

    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=80).round(1), rng.random(80) < 0.3
    found = stats.auroc(scores, labels)
    assert found.value == pytest.approx(roc_auc_score(labels, scores))
    assert found.low < found.value < found.high
    y = rng.normal(size=60)
    guess = y + rng.normal(size=60)
    r2 = stats.r_squared(y, guess)
    assert r2.value == pytest.approx(r2_score(y, guess))
    assert r2.low < r2.value < r2.high
    with pytest.raises(ValueError, match="positives and negatives"):
        stats.auroc(scores, np.ones(80, dtype=bool))
