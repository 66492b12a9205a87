"""The workbench's server: the review's pages over the same store, and the page from which experiments are run."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route

from agent.loop.session import InputError
from agent.report.tested import tested
from agent.review import render
from agent.review.app import HEADERS, make_app
from agent.review.finding_cards import Cards
from agent.review.pages import Pages
from agent.review.texts import Links, Texts, arguments_text, first_line
from agent.review.workbench.bench import Bench, BusyError
from agent.review.workbench.forms import arguments, fields_of
from agent.review.workbench.guard import Guard, Keys, TooLargeError
from agent.review.workbench.views import offered
from tools.findings.kind import kinds
from tools.methods.one_example import ILLUSTRATIONS
from tools.methods.tool import ToolInputError, discover
from tools.subjects import SubjectError
from tools.tasks import TaskError

LATEST = 40  # experiments that the page lists
STATIC = {
    "workbench.css": "text/css",
    "workbench.js": "text/javascript",
    "drawings.js": "text/javascript",
    "conversing.js": "text/javascript",
    "checking.js": "text/javascript",
}
FREE = ("examine", "predict", "confirm", "claim", "note", "hypothesis", "retract", "finish")
Data = dict[str, Any]


def bench_app(bench: Bench, keys: Keys) -> Starlette:
    """The application. Only who holds the keys is let in."""
    links = Links(workbench=True)
    pages = Pages(bench.store, links)

    def page(_request: Request) -> Response:
        tools, reasons = discover(), bench.reasons()
        data = {
            **offered(bench.subject, bench.run), "tasks": bench.task_names(), "csrf": keys.csrf,
            "tools": [(n, t.description.split("\n")[0], t.kind, reasons[n]) for n, t in tools.items() if n not in ILLUSTRATIONS],
            "free": FREE, "kinds": list(kinds()), "conversations": bench.conversations(),
        }  # fmt: skip
        return HTMLResponse(render.page("workbench.html", links, d=data), headers=HEADERS)

    def state(_request: Request) -> Response:
        return JSONResponse(bench.state(), headers=HEADERS)

    def form(request: Request) -> Response:
        tool = bench.tool(request.path_params["tool"])
        given = _object(request.query_params.get("given", "{}"))
        data = {
            "tool": tool, "fields": fields_of(tool, given), "about": tool.description.split("\n"),
            "example": json.dumps(tool.example, ensure_ascii=False),
        }  # fmt: skip
        return HTMLResponse(render.page("_workbench_form.html", links, d=data), headers=HEADERS)

    def record(_request: Request) -> Response:
        return HTMLResponse(
            render.page("_workbench_record.html", links, d=_record(bench, pages, links)), headers=HEADERS
        )

    def examples(request: Request) -> Response:
        spec = request.query_params.get("task", "")
        return JSONResponse({"examples": bench.examples(spec), "labels": bench.labels(spec)}, headers=HEADERS)

    def checked(request: Request) -> Response:
        data = {"checked": bench.checked(request.query_params.get("task", ""))}
        return HTMLResponse(render.page("_workbench_checked.html", links, d=data), headers=HEADERS)

    def conversation(request: Request) -> Response:
        asked = (request.query_params.get(name, "") for name in ("task", "at"))
        return JSONResponse(bench.conversation(*asked), headers=HEADERS)

    def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in STATIC:
            return Response(status_code=404, headers=HEADERS)
        return Response(render.static(name), media_type=STATIC[name], headers=HEADERS)

    def look(given: Data) -> Data:
        return bench.look(given)

    def converse(given: Data) -> Data:
        return bench.converse(given)

    def begin(given: Data) -> Data:
        return {"run": bench.begin(str(given.get("question", "")))}

    def call(given: Data) -> Data:
        name = str(given.get("tool", ""))
        tool, filled = bench.tool(name), given.get("filled")
        bench.call(name, arguments(tool, _mapping(filled)) if filled is not None else _mapping(given.get("args", {})))
        return bench.state()

    def cancel(_given: Data) -> Data:
        bench.cancel()
        return bench.state()

    return Starlette(
        routes=[
            Route("/workbench", page),
            Route("/workbench/state.json", state),
            Route("/workbench/forms/{tool}", form),
            Route("/workbench/record.html", record),
            Route("/workbench/examples.json", examples),
            Route("/workbench/checked.html", checked),
            Route("/workbench/conversation.json", conversation),
            Route("/workbench/static/{name}", static),
            *(
                Route(f"/workbench/{name}", _posted(act), methods=["POST"])
                for name, act in (
                    ("look", look),
                    ("converse", converse),
                    ("begin", begin),
                    ("call", call),
                    ("cancel", cancel),
                )
            ),
            Mount("/", app=make_app(bench.store, links)),
        ],
        middleware=[Middleware(Guard, keys=keys)],
        exception_handlers={
            ToolInputError: _explained,
            SubjectError: _explained,
            TaskError: _explained,
            InputError: _explained,
            BusyError: _busy,
        },
    )


def _posted(act: Callable[[Data], Data]) -> Callable[[Request], Any]:
    """A change: JSON in, JSON out; what is wrong is said, with what would be valid."""

    async def answer(request: Request) -> Response:
        try:
            given = _object((await request.body()).decode("utf-8"))
        except TooLargeError as error:
            return JSONResponse({"error": str(error)}, status_code=413, headers=HEADERS)
        except UnicodeDecodeError:
            return JSONResponse({"error": "the request is no UTF-8 text"}, status_code=400, headers=HEADERS)
        return JSONResponse(await asyncio.to_thread(act, given), headers=HEADERS)

    return answer


def _object(text: str) -> Data:
    try:
        return _mapping(json.loads(text))
    except (ValueError, RecursionError):
        raise ToolInputError("the request is no JSON object") from None


def _mapping(value: Any) -> Data:
    if not isinstance(value, Mapping):
        raise ToolInputError("the request is no JSON object")
    return {str(k): v for k, v in value.items()}


async def _explained(_request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=422, headers=HEADERS)


async def _busy(_request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=409, headers=HEADERS)


def _record(bench: Bench, pages: Pages, links: Links) -> Data:
    """What the run has on record so far, the newest experiments first."""
    name = bench.run_name
    if name is None:
        return {"run": None}
    reading = pages.reading(name)
    texts = Texts(reading, links)
    cards = Cards(reading, texts, links)
    rows = reading.experiments()
    claimed = {c.finding for c in reading.claims()}
    predicted = {f.seen for f in reading.findings()}
    shown: list[Data] = []
    for row in rows[: -LATEST - 1 : -1]:
        result = bench.store.result(row.result_id, arrays=False, measurements=())
        x = row.experiment
        told = " · ".join(result.text.splitlines()[1:3]) if x.tool in ILLUSTRATIONS else first_line(result.text)
        shown.append(
            {
                "handle": row.handle, "tool": x.tool, "status": result.status, "text": told,
                "args": arguments_text(x.args), "href": links.experiment(name, row.handle),
                "illustration": x.tool in ILLUSTRATIONS,
                "predicts": x.tool == "examine" and x.args.get("split") != "confirm" and row.handle not in predicted,
            }
        )  # fmt: skip
    findings = [{"card": cards.finding(tested(reading, f)), "claimed": f.handle in claimed} for f in reading.findings()]
    return {
        "run": bench.run, "ended": bench.hand is None or bench.hand.ended, "questions": reading.questions(), "rows": shown,
        "more": max(0, len(rows) - LATEST), "findings": findings, "hypotheses": reading.hypotheses(),
        "notes": [(f"N{i}", texts.parts(n.text)) for i, n in enumerate(reading.notes(), 1)], "total": len(rows),
    }  # fmt: skip
