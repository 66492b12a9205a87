"""Run a planner's code on a model in a process that can do nothing but compute and answer."""

from tools.sandbox.process import (
    CodeError,
    Edited,
    Function,
    Job,
    Limits,
    Returned,
    Rows,
    Sandbox,
    SandboxError,
    function_of,
    unavailable,
)

__all__ = [
    "CodeError",
    "Edited",
    "Function",
    "Job",
    "Limits",
    "Returned",
    "Rows",
    "Sandbox",
    "SandboxError",
    "function_of",
    "unavailable",
]
