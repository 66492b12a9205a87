"""The readable views of a database in DuckDB's SQL, over the runs of many sources: each row says its source and its run."""

_LATEST = """
CREATE VIEW {name}_latest AS
    SELECT * FROM {name} QUALIFY revision = max(revision) OVER (PARTITION BY run, handle)
"""

VIEWS = (
    """
CREATE VIEW measurements_view AS
    SELECT m.source, m.run, 'E' || r.number AS experiment, x.tool, m.name, m.value, m.low, m.high, m.n, m.groups, m.unit,
        m.task, m.split, m.among, m.program, m.component, m.intervention, m.label, m.dose, m.token, m.variant, m.stack,
        m.block, m.part, m.unit_index, m.anchor, m.control_kind, m.control_value, m.control_low, m.control_high, m.control_n,
        m.difference, m.difference_low, m.difference_high, m.key
    FROM measurements m
        JOIN run_experiments r ON r.run = m.run AND r.result = m.result
        JOIN experiments x ON x.run = r.run AND x.id = r.experiment
""",
    """
CREATE VIEW experiments_view AS
    SELECT r.source, r.run, 'E' || r.number AS experiment, x.tool, x.args, s.status, r.cached, r.why,
        split_part(s.text, chr(10), 1) AS summary, coalesce(m.measurements, 0) AS measurements, s.wall_seconds, s.created
    FROM run_experiments r
        JOIN experiments x ON x.run = r.run AND x.id = r.experiment
        JOIN results s ON s.run = r.run AND s.id = r.result
        LEFT JOIN (SELECT run, result, count(*) AS measurements FROM measurements GROUP BY run, result) m
            ON m.run = r.run AND m.result = r.result
""",
    _LATEST.format(name="hypotheses"),
    _LATEST.format(name="assertions"),
    """
CREATE VIEW findings_view AS
    SELECT source, run, handle, body->>'$.statement.kind' AS kind, body->>'$.statement.task' AS task,
        body->>'$.statement.components' AS components, body->>'$.statement.path' AS path,
        (body->>'$.probability')::DOUBLE AS probability, (body->>'$.round')::BIGINT AS round,
        body->>'$.experiment' AS experiment, body->>'$.fate' AS fate, (body->>'$.p')::DOUBLE AS p,
        body->>'$.reason' AS reason, body->>'$.sentence' AS sentence, body->>'$.retracted' AS retracted
    FROM assertions_latest WHERE kind = 'Finding'
""",
    """
CREATE VIEW runs_view AS
    SELECT r.source, r.name, r.goal, r.subject, r.planner, r.status, r.reason, r.created, r.ended,
        coalesce(e.experiments, 0) AS experiments, coalesce(f.findings, 0) AS findings
    FROM runs r
        LEFT JOIN (SELECT run, count(*) AS experiments FROM run_experiments GROUP BY run) e ON e.run = r.name
        LEFT JOIN (SELECT run, count(*) AS findings FROM findings_view WHERE fate = 'confirmed' AND retracted = ''
            GROUP BY run) f ON f.run = r.name
""",
)
