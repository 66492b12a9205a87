"""The local server: pages from the store, read-only, for this machine alone."""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from agent.review import render
from agent.review.comparing import compare
from agent.review.experiment import experiment_page
from agent.review.pages import Context, NotFound, Pages
from agent.review.points import points_of
from agent.review.texts import Links
from experiments_db.store import Store

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; media-src data:; "
    "connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
LOOPBACK = ["127.0.0.1", "localhost", "::1", "[::1]"]


def make_app(store: Store, links: Links | None = None) -> Starlette:
    """The application over a store. Hosts other than this machine's names are refused, so that no web page can read it."""
    links = links or Links()
    pages = Pages(store, links)

    def show(template: str, data: Context, **more: Any) -> HTMLResponse:
        return HTMLResponse(render.page(template, links, d=data, **more), headers=HEADERS)

    def runs(request: Request) -> Response:
        return show("runs.html", pages.runs(request.query_params.get("q", ""), _page(request) or 1))

    def repeats(request: Request) -> Response:
        return show("repeats.html", pages.repeats(request.path_params["group"]))

    def home(request: Request) -> Response:
        return RedirectResponse(links.run(request.path_params["run"]), headers=HEADERS)

    def tab(request: Request) -> Response:
        run, name, q = request.path_params["run"], request.path_params["tab"], request.query_params
        match name:
            case "report":
                data = pages.report(run)
            case "hypotheses":
                data = pages.hypotheses(run)
            case "timeline":
                data = pages.timeline(run, _page(request))
            case "experiments":
                data = pages.experiments(
                    run, q.get("tool", ""), q.get("status", ""), q.get("q", ""), q.get("sort", "number"), q.get("down") == "1",
                    _page(request) or 1,
                )  # fmt: skip
            case _:
                raise NotFound(f"a run has a report, hypotheses, a timeline and experiments, no {name!r}")
        return show("run.html", data, tab=name)

    def experiment(request: Request) -> Response:
        run, handle, q = request.path_params["run"], request.path_params["handle"], request.query_params
        data = experiment_page(
            pages, run, handle, _page(request) or 1, under=_number(q.get("under", "")), quantity=q.get("quantity", "")
        )
        return show("run.html", data, tab="experiment")

    def points(request: Request) -> Response:
        _, result = pages.result(request.path_params["run"], request.path_params["handle"])
        found = points_of(result)
        if found is None:
            raise NotFound("this experiment keeps no map of queries and keys")
        return JSONResponse(found, headers=HEADERS)

    def state(request: Request) -> Response:
        head = pages.head(request.path_params["run"])
        return JSONResponse({"seq": head["seq"], "status": head["run"].status}, headers=HEADERS)

    def export(request: Request) -> Response:
        run = pages.head(request.path_params["run"])["run"].name
        return HTMLResponse(
            render.export(store, run), headers={"Content-Disposition": f'attachment; filename="{run}.html"'}
        )

    def compared(request: Request) -> Response:
        q = request.query_params
        asked = [*q.getlist("run"), q.get("a", ""), q.get("b", "")]
        return show("compare.html", compare(pages, [a.strip() for a in asked if a.strip()]))

    def static(request: Request) -> Response:
        kinds = {"review.css": "text/css", "review.js": "text/javascript", "points.js": "text/javascript"}
        name = request.path_params["name"]
        if name not in kinds:
            raise NotFound(f"there is no {name!r}")
        return Response(render.static(name), media_type=kinds[name], headers=HEADERS)

    async def missing(_request: Request, error: Exception) -> Response:
        message = str(error) if isinstance(error, NotFound) else "There is no such page."
        return HTMLResponse(
            render.page("problem.html", links, d={"message": message}), status_code=404, headers=HEADERS
        )

    handlers: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {NotFound: missing, 404: missing}
    return Starlette(
        routes=[
            Route("/", runs),
            Route("/compare", compared),
            Route("/repeats/{group}", repeats),
            Route("/static/{name}", static),
            Route("/runs/{run}", home),
            Route("/runs/{run}/state.json", state),
            Route("/runs/{run}/export.html", export),
            Route("/runs/{run}/{tab}", tab),
            Route("/runs/{run}/experiments/{handle}", experiment),
            Route("/runs/{run}/experiments/{handle}/points.json", points),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK, www_redirect=False)],
        exception_handlers=handlers,
    )


def _page(request: Request) -> int | None:
    """The page that was asked for; anything that is no number counts as none."""
    return _number(request.query_params.get("page", ""))


def _number(text: str) -> int | None:
    return max(1, int(text)) if text.isdecimal() and len(text) < 9 else None
