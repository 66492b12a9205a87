"""Intervals and tests over independent groups: closed forms, invariances, refusals, and known libraries' answers."""

import inspect
import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from benchmarks.statistics import __main__ as benchmark
from tools import statistics as s
from tools.statistics import gaffke, skewed

SEEDS = st.integers(0, 2**32 - 1)


def alone(n: int) -> np.ndarray:
    return np.arange(n)


def sample(seed: int, n: int = 80) -> np.ndarray:
    return np.random.default_rng(seed).standard_gamma(2.0, n) - 1.0


def ends(e: s.Estimate) -> tuple[float, float]:
    return e.low, e.high


# Means


def test_of_symmetric_values_the_interval_is_students() -> None:
    x = sample(0)
    x = np.concatenate([x, -x])
    known = scipy_stats.ttest_1samp(x, 0.0).confidence_interval(0.95)
    assert ends(s.mean(x, alone(len(x)))) == pytest.approx((known.low, known.high))


@given(SEEDS)
def test_the_interval_contains_students_and_reaches_further_towards_the_long_tail(seed: int) -> None:
    x = np.exp(np.random.default_rng(seed).standard_normal(64))
    known = scipy_stats.ttest_1samp(x, 0.0).confidence_interval(0.95)
    e = s.mean(x, alone(64))
    assert e.low <= known.low + 1e-12
    assert e.high > known.high


@given(SEEDS, st.floats(0.01, 100), st.floats(-100, 100))
def test_the_interval_of_an_affine_image_is_the_image_of_the_interval(seed: int, factor: float, shift: float) -> None:
    x = sample(seed)
    plain, image, turned = (s.mean(v, alone(80)) for v in (x, factor * x + shift, -x))
    assert ends(image) == pytest.approx((factor * plain.low + shift, factor * plain.high + shift))
    assert ends(turned) == pytest.approx((-plain.high, -plain.low))


@given(SEEDS, st.integers(2, 5))
@settings(max_examples=15)
def test_copies_of_a_problem_add_nothing(seed: int, copies: int) -> None:
    x = sample(seed)
    once, again = s.mean(x, alone(80)), s.mean(np.repeat(x, copies), np.repeat(alone(80), copies))
    assert (again.value, *ends(again)) == pytest.approx((once.value, *ends(once)))
    assert (again.n, again.groups) == (80 * copies, 80)
    for estimate in (
        lambda v, g: s.proportion(v > 0, g),
        lambda v, g: s.paired_difference(v > 0, np.zeros_like(v), g),
        lambda v, g: s.ratio(v, 3 + v, g),
        lambda v, g: s.auroc(v, np.arange(len(v)) < len(v) // 2, g),
        lambda v, g: s.mean(np.tanh(v), g, bounds=(-1, 1)),
    ):
        one, many = estimate(x, alone(80)), estimate(np.repeat(x, copies), np.repeat(alone(80), copies))
        assert ends(many) == pytest.approx(ends(one), rel=0.03, abs=1e-3)


@given(SEEDS)
def test_the_order_of_examples_and_the_names_of_groups_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, code = sample(seed, 200), rng.integers(0, 90, 200)
    order = rng.permutation(200)
    e, other = s.mean(x, code), s.mean(x[order], [f"problem {c}" for c in code[order]])
    assert (e.value, *ends(e), e.groups) == pytest.approx((other.value, *ends(other), other.groups))


def test_the_error_of_clustered_means_is_the_cluster_robust_one_of_statsmodels() -> None:
    import statsmodels.api as sm

    rng = np.random.default_rng(3)
    code = rng.integers(0, 100, 300)
    x = rng.standard_normal(100)[code] + rng.standard_normal(300)
    g = s.Groups.of(code)
    from tools.statistics.means import linearised, summed

    found = float(skewed.moments(linearised(*summed(x[None], g, None))[1])[0][0])
    fit = sm.OLS(x, np.ones(300)).fit(cov_type="cluster", cov_kwds={"groups": g.codes})
    correction = (
        299 / 300
    )  # statsmodels has (n - 1) / (n - 1) * G / (G - 1); the residuals' n - k is the same for one column
    assert found == pytest.approx(float(fit.bse[0]), rel=1 - correction)


def test_a_weighted_mean_is_the_ratio_of_sums() -> None:
    rng = np.random.default_rng(4)
    words, errors = rng.integers(3, 30, 100).astype(float), rng.integers(0, 4, 100)
    e = s.mean(errors / words, alone(100), weights=words)
    assert e.value == pytest.approx(errors.sum() / words.sum())
    as_ratio = s.ratio(errors, words, alone(100))
    assert as_ratio.value == pytest.approx(e.value)
    assert ends(as_ratio) == pytest.approx(ends(e), rel=0.06)  # Fieller's against Taylor's


@given(SEEDS)
@settings(max_examples=10)
def test_rows_are_estimated_as_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, code = rng.standard_normal((3, 150)), rng.integers(0, 100, 150)
    y = x[0] + rng.standard_normal(150)
    label = y > 0
    pairs = [
        (s.means(x, code), [s.mean(r, code) for r in x]),
        (s.means(np.tanh(x), code, bounds=(-1, 1)), [s.mean(np.tanh(r), code, bounds=(-1, 1)) for r in x]),
        (s.proportions(x > 0, code), [s.proportion(r > 0, code) for r in x]),
        (s.paired_differences(x, y, code), [s.paired_difference(r, y, code) for r in x]),
        (s.paired_differences(x > 0, label, code), [s.paired_difference(r > 0, label, code) for r in x]),
        (s.ratios(x, y + 9, code), [s.ratio(r, y + 9, code) for r in x]),
        (s.correlations(x, y, code), [s.correlation(r, y, code) for r in x]),
        (s.r_squareds(y, x, code), [s.r_squared(y, r, code) for r in x]),
        (s.aurocs(x, label, code), [s.auroc(r, label, code) for r in x]),
    ]
    for together, single in pairs:
        for a, b in zip(together, single, strict=True):
            assert (a.value, *ends(a)) == pytest.approx((b.value, *ends(b)))


def test_equal_values_say_nothing_without_bounds_and_something_with_them() -> None:
    x = np.full(100, 0.3)
    assert ends(s.mean(x, alone(100))) == (-math.inf, math.inf)
    assert s.mean(x, alone(100)).method.endswith("unknown")
    e = s.mean(x, alone(100), bounds=(0, 1))
    assert 0.27 < e.low < 0.3 < e.high < 0.34
    assert s.test_exceeds(x, alone(100), 0.0).p == 1.0
    assert s.test_exceeds(x, alone(100), 0.2, bounds=(0, 1)).p < 0.01
    assert ends(s.correlation(sample(0), 2 * sample(0), alone(80))) == (-1, 1)
    assert ends(s.r_squared(sample(0), sample(0), alone(80))) == (-math.inf, 1)


# Shares


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (1, 29), (15, 148), (81, 263), (40, 40)])
def test_shares_have_the_exact_interval_of_scipy(hits: int, n: int) -> None:
    known = scipy_stats.binomtest(hits, n).proportion_ci(method="exact")
    e = s.proportion(np.arange(n) < hits, alone(n))
    assert (e.value, *ends(e)) == pytest.approx((hits / n, known.low, known.high))


@given(st.lists(st.booleans(), min_size=5, max_size=200).map(np.array))
def test_a_share_and_its_complement_mirror_one_another(hits: np.ndarray) -> None:
    e, other = s.proportion(hits, alone(len(hits))), s.proportion(~hits, alone(len(hits)))
    assert 0 <= e.low <= e.value <= e.high <= 1
    assert e.high - e.low > 0.01
    assert ends(other) == pytest.approx((1 - e.high, 1 - e.low))


@pytest.mark.parametrize(("gained", "lost", "n"), [(0, 0, 30), (5, 0, 30), (9, 4, 50), (30, 0, 30)])
def test_differences_of_pairs_follow_bonett_and_price(gained: int, lost: int, n: int) -> None:
    a, b = np.arange(n) < gained, (np.arange(n) >= gained) & (np.arange(n) < gained + lost)
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = scipy_stats.t.ppf(0.975, n - 1) * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    e = s.paired_difference(a, b, alone(n))
    assert e.value == pytest.approx((gained - lost) / n)
    assert ends(e) == pytest.approx((max(-1, up - down - half), min(1, up - down + half)))
    assert e.low < e.high


def test_what_pairs_have_in_common_is_not_in_the_interval_of_their_difference() -> None:
    common, own = 50 * sample(0, 128), sample(1, 128)
    for a, b in ((common + own, common), (common > 0, (common > 0) ^ (np.arange(128) == 5))):
        e, alone_ = s.paired_difference(a, b, alone(128)), s.mean(a, alone(128))
        assert e.high - e.low < 0.5 * (alone_.high - alone_.low)


def test_differences_of_pairs_keep_to_their_level_whatever_the_rates() -> None:
    """Exactly, by the sum over all outcomes of 16 pairs."""
    n, worst = 16, 1.0
    gained, lost = (v[np.add.outer(np.arange(n + 1), np.arange(n + 1)) <= n] for v in np.indices((n + 1, n + 1)))
    order = np.arange(n)
    after, before = order < gained[:, None], (order >= gained[:, None]) & (order < (gained + lost)[:, None])
    low, high = np.array([ends(e) for e in s.paired_differences(after, before, alone(n))]).T
    for p in (0.0, 0.01, 0.1, 0.3, 0.5, 0.8, 0.95):
        for q in (0.0, 0.01, 0.1, 0.3, 0.5):
            if p + q <= 1:
                weight = scipy_stats.multinomial.pmf(
                    np.stack([gained, lost, n - gained - lost], -1), n, [p, q, 1 - p - q]
                )
                worst = min(worst, float(weight[(low <= p - q + 1e-12) & (p - q <= high + 1e-12)].sum()))
    assert worst >= 0.93


# Bounded means


@pytest.mark.parametrize("hits", [0, 1, 5, 19, 20])
@pytest.mark.parametrize("bound", [0.05, 0.3, 0.9])
def test_of_0_and_1_the_exact_test_is_the_binomial_one(hits: int, bound: float) -> None:
    values = (np.arange(20) < hits).astype(float)
    known = scipy_stats.binomtest(hits, 20, bound, alternative="greater").pvalue
    assert s.test_exceeds(values, alone(20), bound, bounds=(0, 1)).p == pytest.approx(known, rel=1e-6)


@pytest.mark.parametrize(("gained", "lost"), [(8, 1), (3, 3), (20, 12), (0, 4)])
def test_of_signs_at_0_the_exact_test_is_mcnemars(gained: int, lost: int) -> None:
    values = np.concatenate([np.ones(gained), -np.ones(lost), np.zeros(30)])
    known = scipy_stats.binomtest(gained, gained + lost, 0.5, alternative="greater").pvalue
    assert s.test_exceeds(values, alone(len(values))).p == pytest.approx(known, rel=1e-6)
    assert s.test_less(-values, alone(len(values))).p == pytest.approx(known, rel=1e-6)


@given(SEEDS, st.integers(5, 60), st.floats(-0.5, 0.8))
@settings(max_examples=25)
def test_the_exact_tests_integral_is_the_share_of_draws(seed: int, n: int, bound: float) -> None:
    rng = np.random.default_rng(seed)
    sums, weights = rng.uniform(-1, 1, n), rng.integers(1, 4, n).astype(float)
    drawn = rng.standard_exponential((20000, n + 1))
    total = drawn[:, 1:] @ (sums - bound * weights) + drawn[:, 0] * (-1 - bound) * weights.max()
    share = float(np.mean(total <= 0))
    assert gaffke.p_above(sums, weights, (-1, 1), bound) == pytest.approx(
        share, abs=5 * math.sqrt(share * (1 - share) / 20000) + 1e-3
    )


@given(SEEDS, st.integers(5, 100))
@settings(max_examples=25)
def test_the_bounded_interval_ends_where_the_exact_test_says_2_and_a_half_percent(seed: int, n: int) -> None:
    x = np.random.default_rng(seed).beta(0.5, 1.0, n)
    e = s.mean(x, alone(n), bounds=(0, 1))
    assert s.test_exceeds(x, alone(n), e.low, bounds=(0, 1)).p == pytest.approx(0.025, abs=0.015)
    assert s.test_less(x, alone(n), e.high, bounds=(0, 1)).p == pytest.approx(0.025, abs=0.015)


def test_wider_bounds_never_say_more() -> None:
    x = np.random.default_rng(5).uniform(0.2, 0.4, 40)
    p = [s.test_exceeds(x, alone(40), 0.25, bounds=(-wide, 1)).p for wide in (0.0, 0.5, 2.0, 10.0)]
    assert p == sorted(p)
    with pytest.raises(ValueError, match="outside their bounds"):
        s.mean(x, alone(40), bounds=(0.3, 1))


# Ratios, correlation, explained variance, ranking


def test_for_symmetric_data_the_ratio_has_fiellers_interval() -> None:
    rng = np.random.default_rng(6)
    b, t = rng.standard_normal(100), rng.standard_normal(100)
    top, bottom = np.concatenate([2 + t, 2 - t]), np.concatenate([5 + b, 5 - b])  # no skewness of any combination
    e = s.ratio(top, bottom, alone(200))
    q2 = scipy_stats.t.ppf(0.975, 199) ** 2
    vt, vb, c = np.var(top, ddof=1) / 200, np.var(bottom, ddof=1) / 200, np.cov(top, bottom)[0, 1] / 200
    mt, mb = top.mean(), bottom.mean()
    roots = np.roots([mb**2 - q2 * vb, -2 * (mt * mb - q2 * c), mt**2 - q2 * vt])
    assert ends(e) == pytest.approx(sorted(roots.real))


def test_a_ratio_is_refused_where_its_denominator_may_be_0() -> None:
    x = sample(7)
    with pytest.raises(s.Undefined, match="may be 0"):
        s.ratio(x, x - x.mean() + 0.05, alone(80))
    assert s.ratio(x, np.full(80, 2.0), alone(80)).high == pytest.approx(s.mean(x / 2, alone(80)).high)


def test_of_many_ratios_those_whose_denominator_may_be_0_are_unknown() -> None:
    x, gap = sample(7), 6 + sample(8)
    good, bad = s.ratios(np.stack([x, x]), np.stack([gap, x - x.mean() + 0.05]), alone(80))
    assert good == s.ratio(x, gap, alone(80))
    assert (*ends(bad), bad.method.endswith("unknown")) == (-math.inf, math.inf, True)
    assert bad.value == pytest.approx(x.mean() / 0.05)


@given(SEEDS, st.floats(0.1, 10))
@settings(max_examples=20)
def test_a_ratio_keeps_its_meaning_when_scaled_or_turned(seed: int, factor: float) -> None:
    top, bottom = sample(seed), 6 + sample(seed + 1)
    e, scaled, turned = (s.ratio(t, b, alone(80)) for t, b in ((top, bottom), (factor * top, bottom), (top, -bottom)))
    assert ends(scaled) == pytest.approx((factor * e.low, factor * e.high))
    assert ends(turned) == pytest.approx((-e.high, -e.low))


def test_values_are_those_of_scipy_and_scikit_learn() -> None:
    from sklearn.metrics import r2_score, roc_auc_score

    rng = np.random.default_rng(8)
    x = rng.standard_normal(120)
    y = x + rng.standard_normal(120)
    r = s.correlation(x, y, alone(120))
    known = scipy_stats.pearsonr(x, y)
    assert r.value == pytest.approx(known.statistic)
    assert ends(r) == pytest.approx(tuple(known.confidence_interval()), abs=0.05)
    e = s.r_squared(y, x, alone(120))
    assert e.value == pytest.approx(r2_score(y, x))
    assert e.low < e.value < e.high < 1
    scores, label = y.round(1), x > 0.5
    a = s.auroc(scores, label, alone(120))
    assert a.value == pytest.approx(roc_auc_score(label, scores))
    assert a.low < a.value < a.high


def test_squares_of_heavy_tails_get_no_interval() -> None:
    x = np.exp(np.random.default_rng(9).standard_normal((2, 200)))
    for e in (s.correlation(x[0], x[1] + x[0], alone(200)), s.r_squared(x[0] + x[1], x[0], alone(200))):
        assert e.method.endswith("unknown")
        assert e.low in (-1, -math.inf)
        assert e.high in (1, math.inf)
        assert math.isfinite(e.value)


@given(SEEDS)
def test_a_ranking_does_not_depend_on_the_scale_and_turns_with_the_labels(seed: int) -> None:
    x, label = sample(seed), alone(80) % 3 == 0
    e = s.auroc(x, label, alone(80))
    assert ends(s.auroc(np.exp(x), label, alone(80))) == ends(e)
    assert ends(s.auroc(x, ~label, alone(80))) == pytest.approx((1 - e.high, 1 - e.low), abs=1e-6)


def test_separated_classes_are_not_certain_to_be_separated() -> None:
    for n in (10, 40, 160):
        e = s.auroc(alone(n), alone(n) >= n // 2, alone(n))
        assert e.value == e.high == 1
        assert 0.4 < e.low < 1 - 0.9 / n


@pytest.mark.parametrize("spread", [1, 3])
def test_the_error_of_a_ranking_is_delongs(spread: int) -> None:
    """For untied scores: the variance of placements in each class (DeLong et al. 1988)."""
    rng = np.random.default_rng(10)
    x, label = rng.standard_normal(200), alone(200) < 100
    x = x * np.where(label, spread, 1) + label
    e = s.auroc(x, label, alone(200))
    above = np.array([np.mean(x[~label] < v) for v in x[label]])
    below = np.array([np.mean(x[label] > v) for v in x[~label]])
    error = math.sqrt(above.var(ddof=1) / 100 + below.var(ddof=1) / 100)
    assert (e.high - e.low) / (2 * 1.984) == pytest.approx(error, rel=0.05)


# Refusals


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("mean", lambda n: s.mean(sample(0, n), alone(n))),
        ("bounded mean", lambda n: s.mean(np.tanh(sample(0, n)), alone(n), bounds=(-1, 1))),
        ("proportion", lambda n: s.proportion(sample(0, n) > 0, alone(n))),
        ("paired_difference", lambda n: s.paired_difference(sample(0, n), sample(1, n), alone(n))),
        ("paired_difference of 0/1", lambda n: s.paired_difference(sample(0, n) > 0, sample(1, n) > 0, alone(n))),
        ("ratio", lambda n: s.ratio(sample(0, n), 9 + sample(1, n), alone(n))),
        ("correlation", lambda n: s.correlation(sample(0, n), sample(1, n), alone(n))),
        ("r_squared", lambda n: s.r_squared(sample(0, n), sample(1, n), alone(n))),
        ("test", lambda n: s.test_exceeds(sample(0, n), alone(n))),
        ("test of bounded", lambda n: s.test_exceeds(np.sign(sample(0, n)), alone(n))),
    ],
)
def test_fewer_groups_than_the_minimum_are_refused_with_the_minimum(name: str, call) -> None:
    least = s.MINIMUM[name]
    call(least)
    with pytest.raises(s.TooFewGroups, match=f"at least {least} groups of examples, not {least - 1}") as refused:
        call(least - 1)
    assert (refused.value.minimum, refused.value.groups) == (least, least - 1)


def test_many_examples_of_few_groups_are_few() -> None:
    with pytest.raises(s.TooFewGroups, match="not 7"):
        s.mean(sample(0, 128), alone(128) % 7)
    with pytest.raises(s.TooFewGroups, match="each class"):
        s.auroc(sample(0, 80), alone(80) < 4, alone(80))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    x = sample(0)
    x[3] = bad
    for call in (s.mean, s.test_exceeds, s.test_less):
        with pytest.raises(s.Undefined, match="not finite"):
            call(x, alone(80))
    with pytest.raises(s.Undefined, match="not finite"):
        s.mean(sample(0), alone(80), weights=x)


def test_wrong_shapes_are_errors() -> None:
    with pytest.raises(ValueError, match="for 80 examples"):
        s.mean(sample(0, 79), alone(80))
    with pytest.raises(ValueError, match="one label an example"):
        s.mean(sample(0), np.zeros((80, 2)))
    with pytest.raises(s.Undefined, match="positives and negatives"):
        s.auroc(sample(0), np.ones(80), alone(80))


# Tests


@given(SEEDS, st.floats(-0.3, 0.3))
def test_a_p_value_says_on_which_side_of_the_bound_the_interval_lies(seed: int, bound: float) -> None:
    x = sample(seed, 128)
    e, p = s.mean(x, alone(128)), s.test_exceeds(x, alone(128), e_bound := 1 + bound).p
    assert (p <= 0.025) == (e.low >= e_bound)
    assert (s.test_less(x, alone(128), e_bound).p <= 0.025) == (e.high <= e_bound)


@given(SEEDS)
def test_students_p_value_is_never_undercut(seed: int) -> None:
    x = sample(seed, 100)
    p = s.test_exceeds(x, alone(100), 0.9).p
    assert p >= scipy_stats.ttest_1samp(x, 0.9, alternative="greater").pvalue - 1e-12


@pytest.mark.parametrize("sign", [1, -1])
def test_tests_of_lognormal_means_err_no_more_often_than_they_say(sign: int) -> None:
    x = sign * (np.exp(np.random.default_rng(16).standard_normal((6000, 96))) - math.exp(0.5))
    centre = x.mean(1)
    p = skewed.p_above(centre, x - centre[:, None])
    for alpha in (0.05, 0.025, 0.01):
        assert np.mean(p <= alpha) <= alpha + 2 * math.sqrt(alpha / 6000)


def test_few_groups_count_for_less_than_as_many_single_examples() -> None:
    """Independent examples in 10 groups of 8: no copies, but the error is known from 10 values only."""
    hits = np.tile([1, 0, 0, 1, 0, 0, 1, 0], 10)
    wide, narrow = s.proportion(hits, np.arange(80) // 8), s.proportion(hits, alone(80))
    assert wide.high - wide.low > 1.1 * (narrow.high - narrow.low)
    rare = np.arange(256) % 64 == 0  # four hits in four pairs: pairs may be copies, for all that is known
    assert s.proportion(rare, np.arange(256) // 2).high > 1.3 * s.proportion(rare, alone(256)).high


def test_without_bounds_no_p_value_is_lower_than_the_chance_of_missing_a_twentieth_of_all_groups() -> None:
    for n in (64, 128):
        assert s.test_exceeds(sample(0, n) + 1000, alone(n)).p == pytest.approx(0.95**n)
    assert s.test_exceeds(np.ones(64), alone(64), 0.5).p < 1e-6


def test_equivalence_asks_for_both_sides() -> None:
    x = sample(0, 200) - sample(0, 200).mean()
    below, above = s.test_less(x, alone(200), 0.5), s.test_exceeds(x, alone(200), -0.5)
    assert s.test_equivalent(x, alone(200), 0.5).p == max(below.p, above.p) < 0.01
    assert s.test_equivalent(x + 0.49, alone(200), 0.5).p > 0.3
    with pytest.raises(ValueError, match="above 0"):
        s.test_equivalent(x, alone(200), 0.0)


def test_of_symmetric_values_the_test_between_tasks_is_welchs() -> None:
    rng = np.random.default_rng(12)
    a, b = rng.standard_normal(50), 3 * rng.standard_normal(80)
    a, b = np.concatenate([a, -a]) + 0.5, np.concatenate([b, -b])
    p = s.test_difference_between(a, alone(100), b, alone(160)).p
    assert p == pytest.approx(scipy_stats.ttest_ind(a, b, equal_var=False, alternative="greater").pvalue)


def test_skewness_of_both_sides_counts() -> None:
    """A long upper tail of a is as good as a long lower tail of b, and both sides alike cancel."""
    x, even = np.exp(sample(20, 100)), np.linspace(-1, 1, 100)
    x = (x - x.mean()) / x.std()

    def p(a: np.ndarray, b: np.ndarray) -> float:
        return s.test_difference_between(a, alone(100), b, alone(100), -0.25).p

    assert p(x, even) == pytest.approx(p(even, -x))
    assert p(-x, even) > 1.5 * p(x, even)
    assert p(x, x) == pytest.approx(p(-x, -x))
    assert p(x, x) < p(-x, x)


@pytest.mark.parametrize(("first", "second"), [((18, 20), (11, 20)), ((30, 40), (10, 30)), ((3, 10), (3, 12))])
def test_of_0_and_1_the_test_between_tasks_is_fishers(first: tuple[int, int], second: tuple[int, int]) -> None:
    (x, n), (y, m) = first, second
    known = scipy_stats.fisher_exact([[x, n - x], [y, m - y]], alternative="greater").pvalue
    p = s.test_difference_between(np.arange(n) < x, alone(n), np.arange(m) < y, alone(m), bounds=(0, 1)).p
    assert p == pytest.approx(known, rel=0.1, abs=1e-4)


# Power


def test_power_is_that_of_statsmodels_t_test() -> None:
    from statsmodels.stats.power import TTestPower

    known = TTestPower().power(effect_size=0.3, nobs=100, alpha=0.025, alternative="larger")
    assert s.power(0.5, 1.0, 100, bound=0.2, alpha=0.025) == pytest.approx(known, abs=1e-6)


def test_there_is_no_power_where_the_test_refuses_or_cannot_be_that_certain() -> None:
    assert s.power(10.0, 1.0, 63) == 0
    assert s.power(10.0, 1.0, 64, alpha=0.01) == 0
    assert s.power(10.0, 1.0, 90, alpha=0.01) == pytest.approx(1)


def test_the_power_of_the_exact_test_is_its_share_of_small_p_values() -> None:
    rng = np.random.default_rng(13)
    p = [s.test_exceeds(rng.choice([1.0, -1.0, 0.0], 40, p=[0.4, 0.1, 0.5]), alone(40), 0.1).p for _ in range(400)]
    sd = math.sqrt(0.5 - 0.09)
    assert s.power(0.3, sd, 40, 0.1, bounds=(-1, 1)) == pytest.approx(np.mean(np.array(p) <= 0.05), abs=0.1)


def test_the_smallest_n_is_the_first_that_has_the_power() -> None:
    n = s.smallest_n_for(0.8, effect=0.3, spread=1.0, alpha=0.025)
    assert n is not None
    assert s.power(0.3, 1.0, n, alpha=0.025) >= 0.8 > s.power(0.3, 1.0, n - 1, alpha=0.025)
    assert s.smallest_n_for(0.8, effect=0.0, spread=1.0) is None


# Many hypotheses


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_adjusts_by_the_number_of_hypotheses_left(p: list[float]) -> None:
    smallest_first = sorted(range(len(p)), key=lambda i: p[i])
    expected, so_far = [0.0] * len(p), 0.0
    for left, i in zip(range(len(p), 0, -1), smallest_first):
        so_far = max(so_far, min(1.0, left * p[i]))
        expected[i] = so_far
    assert s.holm(p) == pytest.approx(expected)


def test_holm_is_that_of_statsmodels_and_hommel_is_never_weaker() -> None:
    from statsmodels.stats.multitest import multipletests

    p = np.random.default_rng(11).beta(0.2, 1.0, 25)
    assert s.holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert np.all(s.hommel(p) <= s.holm(p))
    assert np.any(s.hommel(p) < s.holm(p))


def test_all_rounds_together_spend_alpha() -> None:
    assert sum(s.share(r) for r in range(1, 60)) == pytest.approx(0.05)
    with pytest.raises(ValueError, match="counted from 1"):
        s.share(0)


def test_a_round_is_settled_by_holm_at_its_own_share() -> None:
    found = s.adjusted_in_round([0.004, 0.011, 0.02, math.nan], 1)
    assert [d.rejected for d in found] == [True, False, False, False]
    assert [d.threshold for d in found] == pytest.approx([0.025 / 4, 0.025 / 3, 0.025 / 2, 0.025])
    assert found[3].p == 1.0
    assert [d.rejected for d in s.adjusted_in_round([0.004, 0.008, 0.012, 0.024], 1)] == [True] * 4
    assert not s.adjusted_in_round([0.004], 4)[0].rejected
    assert s.adjusted_in_round([], 1) == []


# Calibration


def test_scores_of_probabilities_have_their_closed_forms() -> None:
    p, y = np.array([0.9, 0.9, 0.1, 0.1]), np.array([1, 1, 0, 1])
    assert s.brier(p, y) == pytest.approx((0.01 * 3 + 0.81) / 4)
    assert s.brier_skill(p, y) == pytest.approx(1 - 0.21 / 0.1875)
    assert s.brier_skill(np.full(4, 0.75), y) == pytest.approx(0)
    assert [(b.n, b.predicted, b.observed) for b in s.reliability(p, y, 2)] == [
        (2, pytest.approx(0.1), 0.5),
        (2, pytest.approx(0.9), 1.0),
    ]
    assert s.expected_calibration_error(p, y, 2) == pytest.approx((0.4 + 0.1) / 2)
    with pytest.raises(s.Undefined, match="no error"):
        s.brier_skill(p, np.ones(4))


@given(SEEDS, st.integers(1, 15))
def test_bins_hold_each_prediction_once_and_part_no_equal_ones(seed: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.integers(0, 11, 100) / 10
    found = s.reliability(p, rng.random(100) < p, bins)
    assert sum(b.n for b in found) == 100
    assert len(found) <= bins
    assert all(a.predicted < b.predicted for a, b in itertools.pairwise(found))


def test_the_fit_is_scikit_learns_and_survives_json() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(14)
    x = rng.standard_normal((200, 2)) * [1, 50] + [0, 7]
    y = rng.random(200) < 1 / (1 + np.exp(-x[:, 0] - 0.02 * x[:, 1]))
    made = s.fit(x, y, ("effect", "width"), penalty=2.0)
    z = (x - x.mean(0)) / x.std(0)
    known = LogisticRegression(C=0.5, tol=1e-10).fit(z, y).predict_proba(z)[:, 1]
    np.testing.assert_allclose(made.probability(x), known, atol=1e-5)
    again = s.Calibration.from_json(json.loads(json.dumps(made.to_json())))
    assert again == made


def test_platts_sigmoid_recovers_the_one_that_made_the_outcomes_and_never_runs_off() -> None:
    rng = np.random.default_rng(15)
    score = rng.standard_normal(20000) * 3
    made = s.fit_platt(score, rng.random(20000) < 1 / (1 + np.exp(-0.7 * score + 1)))
    assert made.coefficients[0] == pytest.approx(0.7, abs=0.05)
    assert made.bias == pytest.approx(-1, abs=0.1)
    separated = s.fit_platt(np.arange(10), np.arange(10) >= 5).probability(np.arange(10)[:, None])
    assert 0.02 < separated.min() < separated.max() < 0.98
    with pytest.raises(s.Undefined, match="both kinds"):
        s.fit_platt(score, np.ones(20000))


# The package


def test_nothing_here_needs_torch() -> None:
    import subprocess
    import sys

    code = "import sys, tools.statistics; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_every_public_name_is_documented() -> None:
    for name in s.__all__:
        assert not callable(getattr(s, name)) or inspect.getdoc(getattr(s, name)), name


def test_the_benchmark_goes_on_where_it_was_stopped_and_reports_a_broken_promise(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(
        "sys.argv", ["statistics", "--repeats", "20", "--results", str(tmp_path / "r.jsonl"), "--seed", "3"]
    )
    from benchmarks.statistics import coverage, errors, stops, streams

    monkeypatch.setattr(coverage, "CASES", {"mean": {"normal": coverage.CASES["mean"]["normal"]}})
    monkeypatch.setattr(errors, "CASES", {})
    monkeypatch.setattr(streams, "streams", lambda: iter(()))
    monkeypatch.setattr(stops, "sequences", lambda: iter(()))
    assert benchmark.main() == 0
    first = capsys.readouterr().out
    lines = (tmp_path / "r.jsonl").read_text().splitlines()
    assert len(lines) == 3
    (tmp_path / "r.jsonl").write_text("".join(line + "\n" for line in lines[:1]))
    assert benchmark.main() == 0
    assert capsys.readouterr().out == first
    assert (tmp_path / "r.jsonl").read_text().splitlines() == lines
    changed = [json.loads(line) | {"value": [0.5, 0.0]} for line in lines]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(c) + "\n" for c in changed))
    assert benchmark.main() == 1
    assert "**0.500**" in capsys.readouterr().out
