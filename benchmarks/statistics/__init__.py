"""What the estimators and tests of tools/statistics promise, and keep: `python -m benchmarks.statistics`."""
