"""What a person sees while a run is under way."""

import re

import scripts

from agent import run


def test_the_console_counts_every_experiment_those_that_settle_findings_too(tmp_path, capsys):
    script = scripts.write(tmp_path / "s.jsonl")
    argv = ["--goal", "where is addition done", "--planner", f"scripted:{script}", "--device", "cpu"]
    assert run.main([*argv, "--db", str(tmp_path / "e.db"), "--out", str(tmp_path / "t"), "--max-experiments", "9"]) == 0
    lines = capsys.readouterr().out.splitlines()
    counted = [(m[1], int(m[2])) for line in lines if (m := re.match(r" +(\w+): .*; (\d+)/9 experiments", line))]
    assert counted[-2:] == [("examine", counted[-1][1] - 1), ("confirm", counted[-1][1])]
    assert [n for _, n in counted] == list(range(1, len(counted) + 1))
