"""Estimators and tests whose unit is the independent group of examples; thin over scipy and statsmodels; no torch.

Use it as a module (`from tools import statistics`): `statistics.mean(values, groups)`. What each accepts and how well it keeps
its promise is shown by `python -m benchmarks.statistics`.
"""

from tools.statistics.calibration import (
    Bin,
    Calibration,
    brier,
    brier_skill,
    expected_calibration_error,
    fit,
    fit_platt,
    reliability,
)
from tools.statistics.clustering import Clusters, clusters, shuffled_silhouettes
from tools.statistics.estimate import MINIMUM, RARE, Estimate, Groups, Test, TooFewGroups, Undefined
from tools.statistics.means import (
    mean,
    means,
    paired_difference,
    paired_differences,
    proportion,
    proportions,
)
from tools.statistics.multiplicity import Decision, adjusted_in_round, holm, hommel, share
from tools.statistics.power import power, smallest_n_for
from tools.statistics.ranking import auroc, aurocs
from tools.statistics.ratios import correlation, correlations, r_squared, r_squareds, ratio, ratios
from tools.statistics.sequential import anytime
from tools.statistics.significance import test_difference_between, test_equivalent, test_exceeds, test_less

__all__ = [
    "MINIMUM", "RARE", "Bin", "Calibration", "Clusters", "Decision", "Estimate", "Groups", "Test", "TooFewGroups", "Undefined",
    "adjusted_in_round", "anytime", "auroc", "aurocs", "brier", "brier_skill", "clusters", "correlation", "correlations",
    "expected_calibration_error", "fit", "fit_platt", "holm", "hommel", "mean", "means", "paired_difference",
    "paired_differences", "power", "proportion", "proportions", "r_squared", "r_squareds", "ratio", "ratios",
    "reliability", "share", "shuffled_silhouettes", "smallest_n_for", "test_difference_between", "test_equivalent", "test_exceeds",
    "test_less",
]  # fmt: skip
