"""The researcher: loop, planners, report and command lines."""
