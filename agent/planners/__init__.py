"""Planners: one file each; `make_planner` turns the command line's word into one."""

from collections.abc import Mapping
from pathlib import Path

from agent.planners._base import Planner, PlannerError

DEFAULT_MODEL = "gpt-5"
KINDS = "systematic, openai:MODEL, random_valid[:SEED], scripted:FILE.jsonl"


class PlannerChoiceError(ValueError):
    """A planner that cannot be had; the message says which can."""


def make_planner(spec: str | None, *, environ: Mapping[str, str]) -> Planner:
    """The planner a user means.

    None is an OpenAI model where OPENAI_API_KEY or OPENAI_BASE_URL is set, else the systematic planner.
    """
    endpoint = bool(environ.get("OPENAI_API_KEY") or environ.get("OPENAI_BASE_URL"))
    if spec is None:
        spec = f"openai:{environ.get('OPENAI_MODEL') or DEFAULT_MODEL}" if endpoint else "systematic"
    kind, _, rest = spec.partition(":")
    match kind:
        case "systematic" if not rest:
            from agent.planners.systematic import Systematic

            return Systematic()
        case "random_valid" if not rest or rest.isdecimal():
            from agent.planners.random_valid import RandomValid

            return RandomValid(int(rest or 0))
        case "openai" if rest:
            if not endpoint:
                raise PlannerChoiceError(
                    f"--planner {spec} needs OPENAI_API_KEY, or OPENAI_BASE_URL for a server of your own; "
                    "--planner systematic needs neither"
                )
            from agent.planners.openai_chat import OpenAIChat

            return OpenAIChat(rest, base_url=environ.get("OPENAI_BASE_URL"), api_key=environ.get("OPENAI_API_KEY"))
        case "scripted" if rest:
            from agent.planners.scripted import Scripted

            try:
                return Scripted.from_file(Path(rest))
            except PlannerError as error:
                raise PlannerChoiceError(str(error)) from None
        case _:
            raise PlannerChoiceError(f"there is no planner {spec!r}; planners are {KINDS}")
