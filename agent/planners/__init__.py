"""Planners: one file each; `make_planner` turns the command line's word into one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from agent.planners.base import Planner, PlannerError

DEFAULT_MODEL = "gpt-5"
KINDS = "systematic, openai:MODEL, local:FOLDER_OR_ID, random_valid[:SEED], scripted:FILE.jsonl"


class PlannerChoiceError(ValueError):
    """A planner that cannot be had; the message says which can."""


@dataclass(frozen=True)
class PlannerOptions:
    """How a language-model planner is asked; None leaves it to the environment, then to the server.

    timeout: seconds for one request. prices: a JSON file like prompts/prices.json that overrides it. planner_device,
    planner_dtype: where and in what type a model in process runs.
    """

    temperature: float | None = None
    reasoning_effort: str | None = None
    timeout: float | None = None
    prices: Path | None = None
    planner_device: str | None = None
    planner_dtype: str | None = None


NO_OPTIONS = PlannerOptions()


def make_planner(spec: str | None, *, environ: Mapping[str, str], options: PlannerOptions = NO_OPTIONS) -> Planner:
    """The planner a user means.

    None is an OpenAI model where OPENAI_API_KEY or OPENAI_BASE_URL is set, else the systematic planner. Options that are
    not given are read from OPENAI_TEMPERATURE, OPENAI_REASONING_EFFORT, OPENAI_TIMEOUT and LOCUS_PRICES.
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

            return OpenAIChat(
                rest,
                base_url=environ.get("OPENAI_BASE_URL"),
                api_key=environ.get("OPENAI_API_KEY"),
                temperature=_number(options.temperature, environ, "OPENAI_TEMPERATURE"),
                reasoning_effort=options.reasoning_effort or environ.get("OPENAI_REASONING_EFFORT"),
                timeout=_number(options.timeout, environ, "OPENAI_TIMEOUT") or 180.0,
                prices=read_prices(options.prices or _path(environ.get("LOCUS_PRICES"))),
            )
        case "local" if rest:
            if find_spec("llguidance") is None:
                raise PlannerChoiceError("a local planner needs llguidance: pip install 'locus-agent[local]'")
            from agent.planners.local import Local

            try:
                return Local.load(rest, device=options.planner_device or "cpu", dtype=options.planner_dtype or "auto")
            except PlannerError as error:
                raise PlannerChoiceError(str(error)) from None
        case "scripted" if rest:
            from agent.planners.scripted import Scripted

            try:
                return Scripted.from_file(Path(rest))
            except PlannerError as error:
                raise PlannerChoiceError(str(error)) from None
        case _:
            raise PlannerChoiceError(f"there is no planner {spec!r}; planners are {KINDS}")


def read_prices(override: Path | None = None) -> dict[str, dict[str, float]]:
    """Dollars per million tokens by model, from prompts/prices.json and a user's file of the same form over it."""
    found: dict[str, dict[str, float]] = {}
    shipped = (files("prompts") / "prices.json").read_text(encoding="utf-8")
    for text, where in ((shipped, "prompts/prices.json"), *([(_read(override), str(override))] if override else [])):
        try:
            for model, price in json.loads(text)["models"].items():
                found[model] = {kind: float(price[kind]) for kind in ("prompt", "completion")}
                if min(found[model].values()) < 0:
                    raise ValueError(model)
        except (ValueError, KeyError, TypeError, AttributeError):
            example = '{"models": {"MODEL": {"prompt": 1.0, "completion": 4.0}}}'
            raise PlannerChoiceError(
                f"{where} is no price table: write {example}, dollars per million tokens"
            ) from None
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlannerChoiceError(f"the price table {path} cannot be read: {error}") from None


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _number(given: float | None, environ: Mapping[str, str], name: str) -> float | None:
    """An option, or the environment's word for it."""
    text = environ.get(name)
    if given is not None or not text:
        return given
    try:
        return float(text)
    except ValueError:
        raise PlannerChoiceError(f"{name}={text!r} is no number") from None
