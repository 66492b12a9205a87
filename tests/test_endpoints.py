"""Every address of the review and the workbench, as the routes themselves list them, under what a page on the web could send."""

from types import SimpleNamespace

import pytest
from hostile import hostile_run
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from agent.review.app import make_app
from agent.review.workbench.app import bench_app
from agent.review.workbench.guard import Keys
from experiments_db.store import Store

HOST = "http://127.0.0.1:8643"
TRAVERSALS = (
    "..%2f..%2f..%2f..%2fetc%2fpasswd", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "....//....//etc/passwd", "..%5c..%5cetc%5cpasswd", "%00", "/etc/passwd",
    "file:%2f%2f%2fetc%2fpasswd", "..", "%252e%252e%252fetc%252fpasswd",
)  # fmt: skip
REBOUND = (
    "evil.example", "evil.example:8643", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example#127.0.0.1", "127.0.0.1@evil.example", "",
    "2130706433", "0.0.0.0:8643", "[::ffff:127.0.0.1]:8643",
)  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = Store(tmp_path_factory.mktemp("endpoints") / "e.db")
    hostile_run(made, "hostile")
    return made


@pytest.fixture(scope="module")
def review(store):
    return TestClient(make_app(store), base_url=HOST, follow_redirects=False)


@pytest.fixture(scope="module")
def keys():
    return Keys(8643)


@pytest.fixture(scope="module")
def bench(store, keys):
    """The workbench's application over a bench that has a store and nothing else: what gets past its guard would fall over it."""
    return lambda **more: TestClient(bench_app(SimpleNamespace(store=store), keys), base_url=HOST, follow_redirects=False, **more)


def addresses(app):
    """(method, path with its places) of every route, those of what is mounted too."""
    for route in app.routes:
        if isinstance(route, Mount):
            yield from addresses(route.app)
        elif isinstance(route, Route):
            for method in sorted((route.methods or set()) - {"HEAD"}):
                yield method, route.path


def filled(path, **values):
    known = {"run": "hostile", "tab": "report", "handle": "E1", "group": "g", "name": "review.css", "tool": "loss", **values}
    for key, value in known.items():
        path = path.replace("{" + key + "}", value)
    assert "{" not in path, f"say what stands for a place in {path}"
    return path


def test_the_routes_are_all_here(review, bench):
    assert len(list(addresses(review.app))) >= 10
    assert len({p for m, p in addresses(bench().app) if m == "POST"}) >= 5


def test_a_name_that_somebody_made_point_here_is_refused_at_every_address(review, bench, keys):
    for host in REBOUND:
        for method, path in addresses(review.app):
            assert review.request(method, filled(path), headers={"host": host}).status_code == 400, (host, path)
        inside = bench(headers={"origin": HOST, "x-csrf-token": keys.csrf}, cookies={keys.cookie: keys.token})
        for method, path in addresses(inside.app):
            assert inside.request(method, filled(path), headers={"host": host}).status_code == 421, (host, path)


def test_another_sites_page_reads_nothing_and_changes_nothing(review, bench, keys, store):
    before = [store.last_seq(r) for r in store.runs()]
    for method, path in addresses(review.app):
        answer = review.request(method, filled(path), headers={"origin": "https://evil.example"})
        assert not [h for h in answer.headers if h.startswith("access-control")], path
        assert review.request("OPTIONS", filled(path), headers={"origin": "https://evil.example"}).status_code == 405
        for other in ("POST", "PUT", "DELETE", "PATCH"):
            assert review.request(other, filled(path), content="x").status_code == 405, path
    for held in ({}, {keys.cookie: "guessed"}, {keys.cookie: keys.token}):
        client = bench(cookies=held)
        for method, path in addresses(client.app):
            if method == "POST" or held.get(keys.cookie) != keys.token:
                answer = client.request(method, filled(path), headers={"origin": "https://evil.example"}, content="{}" if method == "POST" else None)
                assert answer.status_code == 403, path
                assert not [h for h in answer.headers if h.startswith("access-control")]
                assert keys.token not in answer.text
                assert keys.csrf not in answer.text
    assert [store.last_seq(r) for r in store.runs()] == before


def test_no_place_of_an_address_leads_to_a_file(review):
    for _, path in addresses(review.app):
        for place in [part for part in path.replace(".", "/").split("/") if part.startswith("{")]:
            for value in TRAVERSALS:
                answer = review.get(filled(path, **{place.strip("{}"): value}))
                assert answer.status_code in (200, 302, 307, 404), (path, value)
                assert "root:" not in answer.text
                assert "content-security-policy" in answer.headers or answer.status_code != 200


def test_a_huge_query_is_answered_at_every_address(review):
    huge = "a" * 60_000
    for _, path in addresses(review.app):
        for query in (f"q={huge}", f"page={'9' * 60_000}", "&".join(f"run={i}" for i in range(3000)), f"sort={huge[:30_000]}&tool={huge[:30_000]}", "%" * 2000, "q=%ff%fe%00"):
            answer = review.get(f"{filled(path)}?{query}")
            assert answer.status_code in (200, 302, 307, 404), (path, query[:20])
            assert len(answer.content) < 3_000_000


def test_every_page_forbids_scripts_of_others_frames_and_sniffing(review):
    for _, path in addresses(review.app):
        answer = review.get(filled(path))
        if answer.status_code == 200 and not path.endswith("export.html"):
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["x-content-type-options"] == "nosniff"
