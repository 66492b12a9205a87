"""The built-in planner: a researcher's routine, without a language model."""

from agent.planners.systematic.planner import Systematic

__all__ = ["Systematic"]
