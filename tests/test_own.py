"""Code of a planner: what it can measure, what it cannot reach, and what may be said of it."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import scripts

from agent import replay, run
from agent.loop.own_code import ALLOW
from experiments_db.store import Store
from tools.findings.kind import kind_of
from tools.findings.null_twins import null_twin
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.own import OFF, address, ask
from tools.methods.tool import Context, ToolInputError, discover
from tools.sandbox import CodeError, Limits, Sandbox, SandboxError, function_of, unavailable
from tools.subjects import load_subject

pytestmark = pytest.mark.skipif(bool(unavailable()), reason=unavailable())

MEAN = """
def edits(subject, batch, components):
    return [{"component": c, "op": "set", "value": batch.fitting.states(c).mean(0)} for c in components]
"""
FEATURES = "def features(subject, batch, components):\n    return batch.states(components[0])\n"
PLACE = "decoder.0.mlp.out@answer"


@pytest.fixture(scope="module")
def subject():
    return load_subject("demo")


@pytest.fixture(scope="module")
def box():
    with Sandbox(Limits(seconds=3.0, memory=2**29, output=2**20)) as made:
        yield made


@pytest.fixture(scope="module")
def ctx(subject, box):
    return Context(subject, OfflineTasks([]), Nothing(), sandbox=box)


@pytest.fixture(scope="module")
def asked(ctx, subject):
    """What code returns for eight examples, with eight others to fit on."""
    examples = ctx.tasks.get("addition").examples("explore", 16, 0)

    def of(code, on=subject, components=(PLACE,)):
        return ask(ctx, on, code, list(components), examples[:8], examples[8:])

    return of


def values(body):
    """Code whose function does something and returns eight numbers."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return f"def values(subject, batch, components):\n{lines}\n    return np.zeros(batch.n)\n"


# -- escapes -----------------------------------------------------------------------------------------------------------

REFUSED = {
    "reads a file": "open('/etc/passwd').read()",
    "reads itself": "open('/proc/self/environ').read()",
    "reads the parent": "import os\nopen(f'/proc/{os.getppid()}/environ').read()",
    "reads a database": "import sqlite3\nsqlite3.connect('file:/tmp/experiments.db?mode=ro', uri=True).execute('select 1')",
    "lists a folder": "import os\nos.listdir('/')",
    "follows a link": "import os\nos.readlink('/proc/self/exe')",
    "makes a link": "import os\nos.symlink('/etc/passwd', '/tmp/locus-link')",
    "writes a file": "open('/tmp/locus-written', 'w').write('x')",
    "makes a folder": "import os\nos.mkdir('/tmp/locus-folder')",
    "deletes a file": "import os\nos.unlink('/tmp/locus-canary')",
    "changes a file's rights": "import os\nos.chmod('/tmp/locus-canary', 0o777)",
    "opens a socket": "import socket\nsocket.socket()",
    "resolves a name": "import socket\nsocket.create_connection(('127.0.0.1', 80))",
    "starts a program": "import subprocess\nsubprocess.run(['/bin/true'])",
    "starts a shell": "import os\nassert os.system('true') == 0",
    "forks": "import os\nos.fork()",
    "is a fork bomb": "import os\nwhile True:\n    os.fork()",
    "starts a thread": "import threading\nthreading.Thread(target=print).start()",
    "kills its parent": "import os\nos.kill(os.getppid(), 9)",
    "traces its parent": (
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "assert libc.ptrace(16, os.getppid(), 0, 0) == 0, ctypes.get_errno()"
    ),
    "reads the parent's memory": (
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "assert libc.syscall(310, os.getppid(), 0, 0, 0, 0, 0) >= 0, ctypes.get_errno()"
    ),
    "opens a file by system call": (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "assert libc.open(b'/etc/passwd', 0) >= 0, ctypes.get_errno()"
    ),
    "takes off the filter": (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nassert libc.prctl(22, 0, 0, 0, 0) == 0, ctypes.get_errno()"
    ),
    "raises its limits": "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))",
    "uses what it inherits": "import os\nassert any(_open(fd) for fd in range(3, 200))".replace(
        "_open(fd)", "(fd != 0 and os.lseek(fd, 0, 1) >= 0)"
    ),
    "unpickles a program": (
        "import pickle\npickle.loads(b\"cposix\\nsystem\\n(S'touch /tmp/locus-written'\\ntR.\")\nraise RuntimeError('refused')"
    ),
    "imports our tasks": "import tools.tasks.user\ntools.tasks.user.read_jsonl('/tmp/task.jsonl')",
    "takes too much memory": "x = [torch.ones(2**27) for _ in range(100)]",
    "takes too much memory in Python": "x = []\nwhile True:\n    x.append(bytearray(2**24))",
    "returns too much": "import sys\nraise SystemExit('x' * 2**22)",
    "exits": "raise SystemExit(0)",
    "has a stack without end": "def f():\n    f()\nf()",
}
ENDED = {
    "never ends": (values("while True:\n    pass"), "ran longer than 3 seconds"),
    "sleeps": (values("import time\ntime.sleep(60)"), "ran longer than 3 seconds"),
    "leaves": (values("import os\nos._exit(0)"), "without an answer"),
    "crashes": (values("import ctypes\nctypes.string_at(0)"), "signal 11"),
    "returns a flood": ("def features(s, b, c):\n    return np.zeros((b.n, 4000)) * 1.0 + np.arange(4000)\nimport os\nfor fd in range(3, 50):\n    try:\n        while True: os.write(fd, b'x' * 65536)\n    except OSError: pass\n", "more than 1048576 bytes"),
    "answers for us": ("import os\nfor fd in range(3, 50):\n    try: os.write(fd, b'{\"edits\": 3}\\n')\n    except OSError: pass\nos._exit(0)\ndef edits(s, b, c): pass\n", "returns|return"),
    "answers with rubbish": ("import os\nfor fd in range(3, 50):\n    try: os.write(fd, b'\\x80\\x04rubbish')\n    except OSError: pass\nos._exit(0)\ndef values(s, b, c): pass\n", "no answer"),
}  # fmt: skip


@pytest.fixture(scope="module")
def canary():
    """A file that must stay as it is, and a place where nothing may appear."""
    os.environ["LOCUS_CANARY"] = "secret"
    for name in ("locus-written", "locus-link", "locus-folder"):
        Path("/tmp", name).unlink(missing_ok=True)
    Path("/tmp/locus-canary").write_text("alive")
    yield
    kept = Path("/tmp/locus-canary").read_text()
    made = [n for n in ("locus-written", "locus-link", "locus-folder") if os.path.lexists(f"/tmp/{n}")]
    Path("/tmp/locus-canary").unlink()
    del os.environ["LOCUS_CANARY"]
    assert (kept, made) == ("alive", [])


@pytest.mark.parametrize("what", REFUSED)
def test_what_code_may_not_do_fails_in_its_own_process(asked, canary, what):
    with pytest.raises(CodeError, match=r"line \d+: |returned more|no answer|ended its process"):
        asked(values(REFUSED[what]))


@pytest.mark.parametrize("what", ENDED)
def test_code_that_does_not_answer_is_ended(asked, what):
    code, says = ENDED[what]
    with pytest.raises(CodeError, match=says):
        asked(code)


def test_no_secret_is_in_reach(asked, canary):
    """Neither the environment nor anything that holds answers: what the code finds it would have to raise."""
    look = (
        "import os, gc, sys\n"
        "assert 'LOCUS_CANARY' not in os.environ, 'environment'\n"
        "assert subject.tokenizer is None\n"
        "held = {type(o).__name__ for o in gc.get_objects()}\n"
        "assert not held & {'Example', 'Task', 'RunRecord', 'Bench'}, held\n"
        "assert max(map(len, batch.inputs.fields['input_ids'])) == max(batch.prompt)"
    )
    assert asked(values(look)).rows.shape == (8, 1)


def test_the_sandbox_works_on_after_all_of_that(asked):
    assert asked(FEATURES).rows.shape[0] == 8


# -- what code is given, and what it returns ---------------------------------------------------------------------------


def test_states_are_those_of_the_program(asked, subject, ctx):
    from experiments_db.places import Component
    from tools.methods.features import collect

    place = Component.parse(PLACE)
    examples = ctx.tasks.get("addition").examples("explore", 16, 0)[:8]
    mine = collect(subject, examples, [place], 2048)[place]
    assert np.allclose(asked(FEATURES).rows, mine, atol=1e-4)
    twin = null_twin(subject)
    assert np.allclose(asked(FEATURES, twin).rows, collect(twin, examples, [place], 2048)[place], atol=1e-4)


WRONG = {
    "def values(s, b, c):\n    return [1.0]": r"shape \(8,\)",
    "def values(s, b, c):\n    return np.full(b.n, np.nan)": "not finite",
    "def features(s, b, c):\n    return np.zeros((b.n, 0))": r"\(8, d\)",
    "def features(s, b, c):\n    return 'nothing'": "line|ValueError",
    "def edits(s, b, c):\n    return []": "list of 1 to 64",
    "def edits(s, b, c):\n    return [3]": "AttributeError",
    "def values(s, b, c):\n    return torch.full((b.n,), __import__('time').time_ns() % 10**6)": "answered differently",
    "def values(s, b, c):\n    return b.states('decoder.9.mlp.out@answer')": "line 2: ",
    "def values(s, b, c):\n    return b.states('decoder.0.mlp.out@nowhere')": "line 2: ValueError: anchor nowhere: there are answer",
}


@pytest.mark.parametrize("code", WRONG, ids=range(len(WRONG)))
def test_what_cannot_be_used_says_why(asked, code):
    with pytest.raises(CodeError, match=WRONG[code]):
        asked(code)


EDITS = {
    "{'component': 'decoder.0.mlp.out@answer', 'op': 'set', 'value': [1.0, 2.0]}": "channels, and the value 2",
    "{'component': 'decoder.0.mlp.out@answer', 'op': 'explode'}": "zero takes no value",
    "{'component': 'decoder.99.mlp.out@answer', 'op': 'zero'}": "does not exist",
    "{'component': 'rubbish', 'op': 'zero'}": "edit 0: ",
    "{'component': 'decoder.0.mlp.out@answer', 'op': 'scale', 'value': 1e9}": "edit 0: ",
}


@pytest.mark.parametrize("edit", EDITS, ids=range(len(EDITS)))
def test_an_edit_that_cannot_be_made_is_a_failed_result(ctx, edit):
    tool = discover()["experiment"]
    code = f"def edits(subject, batch, components):\n    return [{edit}]\n"
    found = tool.run(tool.parse({"task": "addition", "code": code, "examples": 40}), ctx)
    assert found.status == "failed"
    assert EDITS[edit] in found.text


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("def other(): pass", "it defines none"),
        ("def edits(", "no Python"),
        (MEAN + FEATURES, "edits, features"),
        ("x" * 20_001, "20000"),
    ],
    ids=range(4),
)
def test_code_that_defines_no_one_function_goes_back(ctx, code, says):
    with pytest.raises(CodeError, match=says):
        function_of(code)
    tool = discover()["experiment"]
    with pytest.raises(ToolInputError, match=says):
        tool.run(tool.parse({"task": "addition", "code": code}), ctx)


def test_the_own_mean_ablates_as_the_program_does(ctx):
    """The edit that sets the mean of other examples is the mean ablation, up to whose mean it is."""
    tools = discover()
    own = tools["experiment"]
    found = own.run(own.parse({"task": "addition", "code": MEAN, "components": [PLACE]}), ctx)
    other = tools["ablate"].run(
        tools["ablate"].parse({"task": "addition", "components": [PLACE], "intervention": "mean", "examples": 256}), ctx
    )
    mine, theirs = (next(m for m in f.measurements if m.name == "accuracy.delta") for f in (found, other))
    assert abs(mine.value - theirs.value) < 0.15
    assert mine.control.value > mine.value + 0.3
    nothing = [m.value for m in found.measurements if m.name.startswith("accuracy.delta.")]
    assert nothing == [0.0, 0.0]  # on the random-init twin, and against other problems' answers


def test_without_permission_there_is_no_such_tool(subject):
    off = Context(subject, OfflineTasks([]), Nothing())
    tool = discover()["experiment"]
    assert not tool.fits(subject.capabilities)
    with pytest.raises(ToolInputError) as refused:
        tool.run(tool.parse(tool.example), off)
    assert str(refused.value) == OFF
    assert "own(" not in discover()["list_kinds"].run(discover()["list_kinds"].parse({}), off).text


def test_where_nothing_confines_the_tool_is_refused_with_the_reason(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("tools.sandbox.confining.MODULES", ())
    assert "python3-seccomp" in unavailable()
    with pytest.raises(SandboxError, match="pyseccomp"):
        Sandbox()
    argv = [
        "--goal",
        "where is addition done",
        "--db",
        str(tmp_path / "e.db"),
        "--out",
        str(tmp_path / "t"),
        "--quiet",
        ALLOW,
    ]
    assert run.main([*argv, "--device", "cpu"]) == 2
    assert "pyseccomp" in capsys.readouterr().err
    assert not (tmp_path / "e.db").exists()


# -- a run -------------------------------------------------------------------------------------------------------------

DECODES_PROMPTS = """
def features(subject, batch, components):
    ids, at = batch.inputs.fields["input_ids"], torch.cat([batch.positions("operand1"), batch.positions("operand2")], 1)
    return torch.nn.functional.one_hot(ids.gather(1, at), subject.model.config.vocab_size).flatten(1).float()
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    c, kind = scripts.call, {"task": "addition", "examples": 64}
    on = {"task": "addition", "components": [PLACE], "examples": 64}
    calls = [
        c("loss", tasks=["addition"], examples=64),
        c("experiment", code=MEAN, **on),
        c("experiment", code=FEATURES, label="carry", **on),
        c("experiment", code=values("1 / 0"), **kind),
        c("experiment", code=DECODES_PROMPTS, label="carry", **kind),
        c("examine", kind="own", program=address(MEAN), **on),
        c("examine", kind="own", program=address(FEATURES), label="carry", **on),
        c("examine", kind="own", program=address(DECODES_PROMPTS), label="carry", **kind),
        c("examine", kind="own", program="code:0123456789abcdef", **on),
        c("examine", kind="own", program=address(MEAN), label="carry", **on),
        *(c("predict", experiment=f"E{i}") for i in (4, 6, 7)),
        c("confirm"),
        c("finish", answer="unclear"),
    ]
    script = scripts.write(folder / "s.jsonl", [{"text": "", "calls": calls}])
    argv = [
        "--goal",
        "where is addition done",
        "--planner",
        f"scripted:{script}",
        "--db",
        str(folder / "e.db"),
        "--device",
        "cpu",
    ]
    assert run.main([*argv, "--out", str(folder / "t"), "--quiet", ALLOW]) == 0
    store = Store(folder / "e.db")
    return folder, store, store.runs()[0]


def test_a_run_records_every_outcome_and_verifies(made):
    _, store, name = made
    assert store.verify() == []
    status = [store.result(r.result_id).status for r in store.experiments(name)]
    assert status == ["ok", "ok", "ok", "failed", *["ok"] * 6]
    failed = store.result(store.experiment(name, "E4").result_id)
    assert "line 2: ZeroDivisionError" in failed.text
    refused = [
        e.payload["text"] for e in store.events(name) if e.kind == "answer" and e.payload["status"] == "rejected"
    ]
    assert "there is no code 'code:0123456789abcdef' on record" in refused[0]
    assert "none where it gives edits" in refused[1]
    assert "E4 is experiment" in refused[2]


def test_only_what_goes_beyond_random_weights_and_shuffled_labels_is_confirmed(made):
    _, store, name = made
    effect, read = store.findings(name)
    assert (effect.fate, read.fate) == ("confirmed", "confirmed")
    faked = store.measurements(store.experiment(name, "E8").result_id)  # what prompts say, they say to random weights too
    p = {m.variant: m.value for m in faked if m.name == "p"}
    assert p["against the mean of 3 models with random weights"] > 0.05
    assert p["against shuffled labels"] < 0.05
    assert address(MEAN) in effect.sentence
    assert "random-init twins" in effect.sentence
    assert store.run(name).settings["allow_code"] is True


def test_the_report_shows_the_code_folded_and_by_its_address(made):
    folder, _, name = made
    text = (folder / "t" / name / "report.md").read_text()
    assert f"<summary>{address(MEAN)}, in E2</summary>" in text
    assert "batch.fitting.states(c).mean(0)} for c in components]" in text
    assert f"code={address(MEAN)}" in text


def test_a_replay_asks_for_permission_and_then_gives_the_same(made, capsys):
    folder, store, name = made
    argv = [name, "--db", str(store.path)]
    assert replay.main([*argv, "--experiment", "E2"]) == 1
    said = capsys.readouterr().out
    assert "skipped" in said
    assert ALLOW in said
    settled = store.findings(name)[0].experiment
    assert replay.main([*argv, "--experiment", settled, ALLOW]) == 0, capsys.readouterr().out
    assert "to the last bit" in capsys.readouterr().out


def test_a_run_goes_on_only_under_the_same_permission(made, capsys):
    folder, store, name = made
    store.update_run(name, "stopped", "interrupted")
    argv = ["--resume", name, "--db", str(store.path), "--out", str(folder / "t"), "--quiet"]
    assert run.main(argv) == 2
    assert f"give {ALLOW} again" in capsys.readouterr().err
    store.update_run(name, "finished", "unclear")


def test_the_schema_of_the_tool_is_short():
    tool = discover()["experiment"]
    assert len(json.dumps({"d": tool.description.split("\n")[0], "p": tool.schema()})) / 4 < 400


def test_what_the_kind_says_of_code_is_made_by_the_program():
    with pytest.raises(ToolInputError, match="its address"):
        kind_of("own").check(
            __import__("experiments_db.findings", fromlist=["Statement"]).Statement(
                kind="own", task="a", program="skip 2"
            )
        )
