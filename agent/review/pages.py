"""What each page shows, read from the store; every query is bounded, so that a page stays fast whatever the store holds."""

import json
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

from markupsafe import Markup

from agent.loop.history import spending
from agent.loop.record import Reading
from agent.loop.repeats import group_named, groups
from agent.report.bearing import beside
from agent.report.build import integrity
from agent.report.circuit import caption_of, circuits
from agent.report.circuit_figure import circuit_svg
from agent.report.conclusion import Concluded, conclude, sureness, verdict
from agent.report.findings_table import rank
from agent.report.limits import limits
from agent.report.opening import sure
from agent.report.repeated import ALPHA, combined
from agent.report.summary import headline
from agent.report.tested import came_to, tested
from agent.report.worked import Worked, told, worked, worked_of
from agent.review.experiment import figure_of
from agent.review.finding_cards import Cards
from agent.review.texts import Links, Texts, arguments_text, first_line, offset, page_numbers
from agent.review.timeline import timeline
from experiments_db.records import Result, Run
from experiments_db.store import ExperimentRow, Store, StoreError

RUNS, TURNS, ROWS, RESULTS = 50, 25, 50, 256
WORDS = 20  # of a search
LETTERS = 200  # of a word that is searched for
SORTS = {
    "number": "r.number", "tool": "x.tool", "status": "s.status", "seconds": "s.wall_seconds",
}  # fmt: skip
SEARCHED = (
    "(name || ' ' || goal || ' ' || subject || ' ' || planner || ' ' || coalesce((SELECT group_concat("
    "coalesce(json_extract(a.body, '$.sentence'), '') || ' ' || coalesce(json_extract(a.body, '$.interpretation'), ''), ' ') "
    "FROM assertions_latest a WHERE a.run = name AND a.kind IN ('Finding', 'Claim')), ''))"
)
Context = dict[str, Any]


class NotFound(ValueError):
    """There is no such run, experiment or page; the message says what there is."""


class Pages:
    """Contexts of the pages' templates."""

    def __init__(self, store: Store, links: Links) -> None:
        self.store, self.links = store, links
        self._measurements = lru_cache(RESULTS)(store.measurements)  # a result never changes
        self._verdicts = lru_cache(RESULTS)(lambda name, _status, _seq: verdict(self.reading(name)))
        self._answers = lru_cache(RESULTS)(lambda name, _status, _seq: answer_of(self.reading(name)))

    def reading(self, name: str) -> Reading:
        """A run's record for one page."""
        return Reading(self.store, name, self._measurements)

    # -- runs ---------------------------------------------------------------------------------------------------------

    def runs(self, query: str = "", page: int = 1) -> Context:
        """The newest runs first with their answers; those that have every word of a query in question, findings or claims."""
        words = [w[:LETTERS] for w in query.split()[:WORDS]]
        where = " AND ".join(f"{SEARCHED} LIKE ? ESCAPE '\\'" for _ in words)
        like = [f"%{_escaped(w)}%" for w in words]
        total = self._count(f"SELECT count(*) AS n FROM runs {'WHERE ' + where if words else ''}", *like)
        rows = self.store.rows(
            f"SELECT * FROM runs_view {'WHERE ' + where if words else ''} ORDER BY created DESC, name DESC LIMIT ? OFFSET ?",
            *like, RUNS, offset(page, total, RUNS),
        )  # fmt: skip
        for r in rows:
            r["verdict"], r["answer"] = self._answers(r["name"], r["status"], self.store.last_seq(r["name"]))
            r["repeat"] = self.store.run(r["name"]).settings.get("repeat")
        return {"rows": rows, "query": query, **page_numbers(page, total, RUNS)}

    def head(self, name: str) -> Context:
        """What stands above every page of a run."""
        run = self._run(name)
        return {
            "run": run,
            "verdict": self._verdicts(name, run.status, self.store.last_seq(name)),
            "seq": self.store.last_seq(name),
            "experiments": self._count("SELECT count(*) AS n FROM run_experiments WHERE run = ?", name),
            "database": "" if self.store.path.name == "experiments.db" else f" --db {self.store.path.name}",
        }

    def repeats(self, name: str) -> Context:
        """What the runs of one repeated question share, and what varied between them."""
        found = group_named(self.store, name)
        if found is None:
            raise NotFound(
                f"there is no group of repeated runs {name!r}; there are {', '.join(groups(self.store)) or 'none'}"
            )
        c = combined(self.store, found)
        return {"c": c, "name": found, "runs": {r.number: r.name for r in c.runs}, "alpha": ALPHA}

    # -- report -------------------------------------------------------------------------------------------------------

    def report(self, name: str, figures: int = 8) -> Context:
        """What was found, how sure that is and what stays open; findings, notes, what was tried, limits."""
        head = self.head(name)
        run: Run = head["run"]
        record = self.reading(name)
        texts, concluded = Texts(record, self.links), conclude(record)
        cards = Cards(record, texts, self.links)
        cited = _cited(concluded, record.handles("E"))
        evidence: list[Context] = []
        for h in [*cited, *record.handles("E")]:
            if len(evidence) < figures and not any(h in e["handles"] for e in evidence):
                evidence += [{**e, "search": h not in cited} for e in figure_of(self, record, h)]
        return {
            **head,
            "answer": cards.answer(concluded),
            "example": _example(worked_of(concluded, record)),
            "circuit": self._circuit(record, concluded),
            "findings": [cards.finding(t) for t in sorted(concluded.findings, key=rank)],
            "claims": cards.claims(),
            "integrity": integrity(record),
            "nulls": concluded.nulls,
            "evidence": evidence,
            "more": cards.handles([h for h in cited if h not in {h for e in evidence for h in e["handles"]}]),
            "notes": [(f"N{i}", texts.parts(n.text)) for i, n in enumerate(record.notes(), 1)],
            "tried": self.store.rows(
                "SELECT x.tool, count(*) AS n, sum(s.status != 'ok') AS without, sum(r.cached) AS known, "
                "sum(s.wall_seconds) AS seconds FROM run_experiments r JOIN experiments x ON x.id = r.experiment "
                "JOIN results s ON s.id = r.result WHERE r.run = ? GROUP BY x.tool ORDER BY n DESC",
                name,
            ),
            "limits": limits(record, run),
            "facts": self._facts(run, record),
        }

    def _circuit(self, record: Reading, concluded: Concluded) -> Context | None:
        """The picture that sums the findings up: SVG text in which every letter is escaped, and its caption."""
        found = circuits(concluded.findings, partial(worked, record))
        if not found:
            return None
        link = partial(self.links.handle, record.run)
        drawn = Markup(circuit_svg(found, link))  # noqa: S704  # every letter in it is escaped
        return {"svg": drawn, "caption": caption_of(found)}

    def _facts(self, run: Run, record: Reading) -> list[tuple[str, str]]:
        s, spent = run.settings, spending(record, run)
        place = s.get("provenance", {})
        versions = ", ".join(f"{k} {v}" for k, v in place.get("versions", {}).items())
        facts = [
            ("subject", f"{run.subject}, fingerprint {str(s.get('fingerprint', ''))[:16]}"),
            ("planner", run.planner),
            ("begun", run.created),
            (
                "computed on",
                f"{place.get('device', '?')}, {s.get('dtype')}, {place.get('threads', '?')} threads, {place.get('cpu', '')}",
            ),
            ("libraries", versions),
            ("seed, code", f"{s.get('seed')}, {s.get('code')}"),
        ]
        if spent.tokens:
            facts.append(
                ("planner's tokens", f"{spent.tokens:,}" + (f", {spent.cost:.2f} dollars" if spent.cost else ""))
            )
        if s.get("branch"):
            facts.append(("goes on from", f"{s['branch']['run']} after turn {s['branch']['turn']}"))
        return facts

    # -- hypotheses ---------------------------------------------------------------------------------------------------

    def hypotheses(self, name: str) -> Context:
        """Each hypothesis with evidence for and against, and its findings with what they came to."""
        record = self.reading(name)
        texts, findings = Texts(record, self.links), record.findings()
        cards = Cards(record, texts, self.links)
        rows = [
            {
                "h": h, "came_to": came_to(h, findings), "beside": beside(h, findings), "parts": texts.parts(h.statement),
                "for": cards.handles(h.evidence_for), "against": cards.handles(h.evidence_against),
                "findings": [cards.finding(tested(record, f)) for f in findings if f.hypothesis == h.handle],
            }
            for h in record.hypotheses()
        ]  # fmt: skip
        return {**self.head(name), "rows": rows, "sure": sure(sureness(findings)) if findings else ""}

    # -- timeline -----------------------------------------------------------------------------------------------------

    def timeline(self, name: str, page: int | None = None, size: int = TURNS) -> Context:
        """A page of turns in order; without a page, the last turns while the run is under way, else the first page."""
        head = self.head(name)
        total = self._count("SELECT count(*) AS n FROM events WHERE run = ? AND kind = 'turn'", name)
        live = page is None and head["run"].status == "running"
        before = max(0, total - size) if live else offset(page or 1, total, size)
        texts = Texts(self.reading(name), self.links)
        turns = timeline(self.store, texts, self.links, before, size)
        numbers = page_numbers(-(-total // size) if live else page or 1, total, size)
        return {
            **head,
            "turns": turns,
            "first": before + 1,
            "until": min(total, before + size),
            "live": live,
            **numbers,
        }

    # -- experiments --------------------------------------------------------------------------------------------------

    def experiments(
        self, name: str, tool: str = "", status: str = "", query: str = "", sort: str = "number", down: bool = False,
        page: int = 1,
    ) -> Context:  # fmt: skip
        """A run's experiments, filtered and sorted, a page of them."""
        if sort not in SORTS:
            raise NotFound(f"experiments are sorted by {', '.join(SORTS)}, not {sort!r}")
        tables = "run_experiments r JOIN experiments x ON x.id = r.experiment JOIN results s ON s.id = r.result"
        tests, values = ["r.run = ?"], [name]
        for column, value in (("x.tool", tool), ("s.status", status)):
            if value:
                tests.append(f"{column} = ?")
                values.append(value)
        for word in (w[:LETTERS] for w in query.split()[:WORDS]):
            tests.append("(x.tool || ' ' || x.args || ' ' || r.why || ' ' || s.text) LIKE ? ESCAPE '\\'")
            values.append(f"%{_escaped(word)}%")
        where = " AND ".join(tests)
        head = self.head(name)
        total = (
            self._count(f"SELECT count(*) AS n FROM {tables} WHERE {where}", *values)
            if len(tests) > 1
            else head["experiments"]
        )
        rows = self.store.rows(
            "SELECT 'E' || r.number AS handle, x.tool, x.args, s.status, r.cached, r.why, substr(s.text, 1, 400) AS text, "
            "(SELECT count(*) FROM measurements m WHERE m.result = r.result) AS measurements, s.wall_seconds AS seconds "
            f"FROM {tables} WHERE {where} ORDER BY {SORTS[sort]} {'DESC' if down else 'ASC'}, r.number LIMIT ? OFFSET ?",
            *values, ROWS, offset(page, total, ROWS),
        )  # fmt: skip
        for r in rows:
            r["href"], r["text"], r["args"] = (
                self.links.experiment(name, r["handle"]),
                first_line(r["text"]),
                arguments_text(json.loads(r["args"])),
            )
        tools = self.store.rows(
            "SELECT DISTINCT x.tool FROM run_experiments r JOIN experiments x ON x.id = r.experiment WHERE r.run = ? ORDER BY 1",
            name,
        )
        asked = {"tool": tool, "status": status, "q": query, "sort": sort, "down": down}
        return {
            **head,
            "rows": rows,
            "tools": [t["tool"] for t in tools],
            "asked": asked,
            **page_numbers(page, total, ROWS),
        }

    # -- parts --------------------------------------------------------------------------------------------------------

    def result(self, name: str, handle: str) -> tuple[ExperimentRow, Result]:
        """An experiment and what came of it; NotFound says which there are."""
        try:
            row = self.store.experiment(name, handle)
        except StoreError as error:
            raise NotFound(str(error)) from None
        return row, self.store.result(row.result_id, measurements=self._measurements(row.result_id))

    def _run(self, name: str) -> Run:
        try:
            return self.store.run(name)
        except StoreError as error:
            raise NotFound(str(error)) from None

    def resolve(self, word: str) -> str:
        """The run that a name, a prefix or `latest` means."""
        try:
            return self.store.resolve_run(word)
        except StoreError as error:
            raise NotFound(str(error)) from None

    def names(self) -> list[str]:
        """The newest runs."""
        return [r["name"] for r in self.store.rows("SELECT name FROM runs ORDER BY created DESC LIMIT 200")]

    def _count(self, sql: str, *values: Any) -> int:
        return int(self.store.rows(sql, *values)[0]["n"])


def _example(found: Worked | None) -> Context | None:
    return None if found is None else {"e": found, "stretches": found.stretches(), "told": told(found)}


def _cited(c: Concluded, known: Sequence[str]) -> list[str]:
    """Experiments that standing findings rest on: where each was settled first, then where it was examined."""
    standing = [t.finding for t in c.findings if t.finding.stands]
    every = [*(f.experiment for f in standing), *(f.seen for f in standing)]
    there = set(known)
    return list(dict.fromkeys(h for h in every if h is not None and h in there))


def answer_of(record: Reading) -> tuple[str, str]:
    """A run's verdict and its answer in plain words."""
    found = conclude(record)
    return found.verdict, headline(record, found, brief=True)


def _escaped(word: str) -> str:
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
