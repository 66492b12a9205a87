"""Templates to HTML. Whatever is put into a page is made inert first: control characters as escapes, markup as text."""

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any, cast

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from agent.report.numbers import value_text
from agent.report.text import inert
from agent.review.experiment import experiment_page
from agent.review.pages import Pages
from agent.review.texts import Links
from experiments_db.store import Store


@cache
def environment() -> Environment:
    """Jinja with escaping always on, unknown names an error, and every text inert."""
    made = Environment(
        loader=PackageLoader("agent.review"), autoescape=True, undefined=StrictUndefined, finalize=_finalize, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    cast("dict[str, Any]", made.filters).update(json=_json, value=_value)
    return made


def _value(value: float | None, unit: str) -> str:
    return "" if value is None else value_text(value, unit)


def _finalize(value: Any) -> Any:
    if value is None:
        return ""
    return inert(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _json(value: Any) -> Markup:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704 - escaped just here


def page(template: str, links: Links, **context: Any) -> str:
    """One page as HTML."""
    return environment().get_template(template).render(links=links, **context)


def static(name: str) -> str:
    """A style sheet or script of the package."""
    return (files("agent.review") / "static" / name).read_text(encoding="utf-8")


def export(store: Store, run: str) -> str:
    """A whole run as one HTML file that needs no network and runs no script but its own."""
    links = Links(single_file=True)
    pages = Pages(store, links)
    handles = [e.handle for e in store.experiments(run)]
    style, script = static("review.css"), static("review.js")
    return page(
        "export.html",
        links,
        report=pages.report(run, figures=4),
        hypotheses=pages.hypotheses(run),
        timeline=pages.timeline(run, 1, size=1_000_000),
        experiments=[experiment_page(pages, run, h, size=None) for h in handles],
        style=Markup(style),  # noqa: S704 - ours
        script=Markup(script),  # noqa: S704 - ours
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def _hash(text: str) -> Markup:
    """A content security policy's name for an inline text."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Markup(f"sha256-{digest}")  # noqa: S704 - base64
