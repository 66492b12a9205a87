"""Tables, indices and readable views, as migrations: each is applied together with its record in one transaction."""

from sqlite_utils.migrations import Migrations

from experiments_db._sqlite import sqlite_utils
from experiments_db.legacy import OLD, take_over

migrations = Migrations("locus")

_TABLES = """
CREATE TABLE runs (
    name TEXT PRIMARY KEY, goal TEXT NOT NULL, subject TEXT NOT NULL, planner TEXT NOT NULL, settings TEXT NOT NULL,
    status TEXT NOT NULL, reason TEXT NOT NULL, created TEXT NOT NULL, ended TEXT);
CREATE TABLE experiments (
    id TEXT PRIMARY KEY, tool TEXT NOT NULL, args TEXT NOT NULL, subject TEXT NOT NULL, tasks TEXT NOT NULL,
    seed INTEGER NOT NULL, dtype TEXT NOT NULL, code TEXT NOT NULL, created TEXT NOT NULL);
CREATE TABLE results (
    id INTEGER PRIMARY KEY, experiment TEXT NOT NULL REFERENCES experiments(id), status TEXT NOT NULL,
    text TEXT NOT NULL, wall_seconds REAL NOT NULL, peak_memory_bytes INTEGER NOT NULL, provenance TEXT,
    sha TEXT NOT NULL, created TEXT NOT NULL);
CREATE TABLE measurements (
    id INTEGER PRIMARY KEY, result INTEGER NOT NULL REFERENCES results(id), name TEXT NOT NULL, value REAL NOT NULL,
    unit TEXT NOT NULL, n INTEGER NOT NULL, low REAL, high REAL,
    control_kind TEXT, control_value REAL, control_low REAL, control_high REAL, control_n INTEGER,
    task TEXT, split TEXT, program TEXT, site TEXT, layer INTEGER, head INTEGER, position TEXT, token TEXT,
    variant TEXT, key TEXT NOT NULL);
CREATE TABLE arrays (sha TEXT PRIMARY KEY, dtype TEXT NOT NULL, shape TEXT NOT NULL, data BLOB NOT NULL);
CREATE TABLE result_arrays (
    result INTEGER NOT NULL REFERENCES results(id), position INTEGER NOT NULL, name TEXT NOT NULL,
    array TEXT NOT NULL REFERENCES arrays(sha), axes TEXT NOT NULL, unit TEXT NOT NULL,
    PRIMARY KEY (result, position));
CREATE TABLE run_experiments (
    run TEXT NOT NULL REFERENCES runs(name), number INTEGER NOT NULL, experiment TEXT NOT NULL REFERENCES experiments(id),
    result INTEGER NOT NULL REFERENCES results(id), cached INTEGER NOT NULL, seq INTEGER NOT NULL, why TEXT NOT NULL,
    PRIMARY KEY (run, number));
CREATE TABLE events (
    run TEXT NOT NULL REFERENCES runs(name), seq INTEGER NOT NULL, kind TEXT NOT NULL, payload TEXT NOT NULL,
    time TEXT NOT NULL, PRIMARY KEY (run, seq));
CREATE TABLE notes (
    run TEXT NOT NULL REFERENCES runs(name), number INTEGER NOT NULL, text TEXT NOT NULL, experiments TEXT NOT NULL,
    seq INTEGER NOT NULL, PRIMARY KEY (run, number));
CREATE TABLE hypotheses (
    run TEXT NOT NULL REFERENCES runs(name), handle TEXT NOT NULL, revision INTEGER NOT NULL, statement TEXT NOT NULL,
    status TEXT NOT NULL, evidence_for TEXT NOT NULL, evidence_against TEXT NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (run, handle, revision));
CREATE TABLE predictions (
    run TEXT NOT NULL REFERENCES runs(name), handle TEXT NOT NULL, revision INTEGER NOT NULL, hypothesis TEXT NOT NULL,
    metric TEXT NOT NULL, comparison TEXT NOT NULL, threshold REAL NOT NULL, probability REAL NOT NULL,
    experiment TEXT, observed REAL, outcome INTEGER, seq INTEGER NOT NULL, PRIMARY KEY (run, handle, revision));
CREATE TABLE claims (
    run TEXT NOT NULL REFERENCES runs(name), number INTEGER NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL,
    sites TEXT NOT NULL, experiments TEXT NOT NULL, confidence REAL NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (run, number));
CREATE TABLE task_data (
    sha TEXT PRIMARY KEY, name TEXT NOT NULL, description TEXT NOT NULL, origin TEXT NOT NULL, examples TEXT NOT NULL);
CREATE TABLE run_tasks (
    run TEXT NOT NULL REFERENCES runs(name), name TEXT NOT NULL, sha TEXT NOT NULL REFERENCES task_data(sha),
    PRIMARY KEY (run, name));
CREATE INDEX measurements_result ON measurements(result);
CREATE INDEX measurements_name_task ON measurements(name, task);
CREATE INDEX results_experiment ON results(experiment);
CREATE INDEX run_experiments_result ON run_experiments(result);
CREATE VIEW measurements_view AS
    SELECT r.run, 'E' || r.number AS experiment, x.tool, m.name, m.value, m.low, m.high, m.n, m.unit, m.task, m.split,
        m.program, m.site, m.layer, m.head, m.position, m.token, m.variant, m.control_kind, m.control_value,
        m.control_low, m.control_high, m.control_n, m.key, m.id
    FROM run_experiments r JOIN experiments x ON x.id = r.experiment JOIN measurements m ON m.result = r.result;
CREATE VIEW experiments_view AS
    SELECT r.run, 'E' || r.number AS experiment, x.tool, x.args, s.status, r.cached, r.why,
        substr(s.text, 1, instr(s.text || char(10), char(10)) - 1) AS summary,
        (SELECT count(*) FROM measurements m WHERE m.result = r.result) AS measurements, s.wall_seconds, s.created
    FROM run_experiments r JOIN experiments x ON x.id = r.experiment JOIN results s ON s.id = r.result;
CREATE VIEW hypotheses_latest AS
    SELECT h.* FROM hypotheses h WHERE h.revision =
        (SELECT max(revision) FROM hypotheses o WHERE o.run = h.run AND o.handle = h.handle);
CREATE VIEW predictions_latest AS
    SELECT p.* FROM predictions p WHERE p.revision =
        (SELECT max(revision) FROM predictions o WHERE o.run = p.run AND o.handle = p.handle);
CREATE VIEW runs_view AS
    SELECT r.name, r.goal, r.subject, r.planner, r.status, r.reason, r.created, r.ended,
        (SELECT count(*) FROM run_experiments e WHERE e.run = r.name) AS experiments,
        (SELECT count(*) FROM claims c WHERE c.run = r.name) AS claims
    FROM runs r;
"""


@migrations()
def m001_first(db: sqlite_utils.Database) -> None:
    """Everything the first version keeps."""
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            db.execute(statement)


@migrations()
def m002_role(db: sqlite_utils.Database) -> None:
    """What a localisation means by its sites."""
    db.execute("ALTER TABLE claims ADD COLUMN role TEXT")


@migrations()
def m003_when_tasks_were_made(db: sqlite_utils.Database) -> None:
    """The event at which a run got a task, so that a branch from before it does without; and a run's turns by number."""
    db.execute("ALTER TABLE run_tasks ADD COLUMN seq INTEGER")
    db.execute("CREATE INDEX events_kind ON events(run, kind, seq)")


_NEW = {
    "groups": "INTEGER NOT NULL DEFAULT 0", "among": "TEXT", "component": "TEXT", "intervention": "TEXT", "label": "TEXT",
    "dose": "REAL", "difference": "REAL", "difference_low": "REAL", "difference_high": "REAL", "stack": "TEXT",
    "block": "INTEGER", "part": "TEXT", "unit_index": "INTEGER", "anchor": "TEXT",
}  # fmt: skip
_MEASUREMENTS_VIEW = """
CREATE VIEW measurements_view AS
    SELECT r.run, 'E' || r.number AS experiment, x.tool, m.name, m.value, m.low, m.high, m.n, m.groups, m.unit, m.task,
        m.split, m.among, m.program, m.component, m.intervention, m.label, m.dose, m.token, m.variant, m.stack, m.block,
        m.part, m.unit_index, m.anchor, m.control_kind, m.control_value, m.control_low, m.control_high, m.control_n,
        m.difference, m.difference_low, m.difference_high, m.key, m.id
    FROM run_experiments r JOIN experiments x ON x.id = r.experiment JOIN measurements m ON m.result = r.result
"""


@migrations()
def m004_places(db: sqlite_utils.Database) -> None:
    """Where a number was taken, in the language of places; the groups behind it, and what sets it apart from its control."""
    db.execute("DROP VIEW measurements_view")
    for name, kind in _NEW.items():
        db.execute(f"ALTER TABLE measurements ADD COLUMN {name} {kind}")
    take_over(db)
    for name in OLD:
        db.execute(f"ALTER TABLE measurements DROP COLUMN {name}")
    db.execute(_MEASUREMENTS_VIEW)


@migrations()
def m005_findings(db: sqlite_utils.Database) -> None:
    """Findings, claims, questions and conclusions as records with revisions; what version 0.1 claimed stays, as notes."""
    for statement in _FINDINGS.split(";\n"):
        if statement.strip():
            db.execute(statement)


_FINDINGS = """
INSERT INTO notes
    SELECT run, (SELECT coalesce(max(n.number), 0) FROM notes n WHERE n.run = c.run) + c.number,
        'Claimed under version 0.1 (' || c.kind || coalesce(', ' || c.role, '') || '): ' || c.text, c.experiments, c.seq
    FROM claims c ORDER BY c.run, c.number;
DROP VIEW runs_view;
DROP VIEW predictions_latest;
ALTER TABLE claims RENAME TO claims_of_0_1;
ALTER TABLE predictions RENAME TO predictions_of_0_1;
CREATE TABLE assertions (
    run TEXT NOT NULL REFERENCES runs(name), kind TEXT NOT NULL, handle TEXT NOT NULL, revision INTEGER NOT NULL,
    body TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (run, handle, revision));
CREATE VIEW assertions_latest AS
    SELECT a.* FROM assertions a WHERE a.revision =
        (SELECT max(revision) FROM assertions o WHERE o.run = a.run AND o.handle = a.handle);
CREATE VIEW findings_view AS
    SELECT run, handle, json_extract(body, '$.statement.kind') AS kind, json_extract(body, '$.statement.task') AS task,
        json_extract(body, '$.statement.components') AS components, json_extract(body, '$.statement.path') AS path,
        json_extract(body, '$.probability') AS probability, json_extract(body, '$.round') AS round,
        json_extract(body, '$.experiment') AS experiment, json_extract(body, '$.fate') AS fate,
        json_extract(body, '$.p') AS p, json_extract(body, '$.reason') AS reason,
        json_extract(body, '$.sentence') AS sentence, json_extract(body, '$.retracted') AS retracted
    FROM assertions_latest WHERE kind = 'Finding';
CREATE VIEW runs_view AS
    SELECT r.name, r.goal, r.subject, r.planner, r.status, r.reason, r.created, r.ended,
        (SELECT count(*) FROM run_experiments e WHERE e.run = r.name) AS experiments,
        (SELECT count(*) FROM findings_view f WHERE f.run = r.name AND f.fate = 'confirmed' AND f.retracted = '') AS findings
    FROM runs r;
"""


def known() -> frozenset[str]:
    """Names of all migrations above; a database with others is newer than this code."""
    return frozenset(m.name for m in migrations.pending(sqlite_utils.Database(memory=True)))
