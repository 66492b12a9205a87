"""A run in which every text that a model, a prompt or a user could write tries to be more than text."""

import numpy as np

from experiments_db.findings import Claim, Conclusion, Finding, Question, Statement
from experiments_db.records import Array, Axis, Experiment, Hypothesis, Measurement, Note, Result, Run
from experiments_db.store import Store

EVIL = (
    "<script>window.pwned=1</script><img src=x onerror='window.pwned=1'> \x1b[31mred\x1b[0m \x07 "
    "[click](javascript:window.pwned=1) ![x](http://evil.example/x.png) </pre></script><b class='evil'>bold</b> "
    "`code` | pipe {{E1.nothing}} \u202egnp.exe"
)
TOKENS = ("\n", "<script>window.pwned=1</script>", " ", "", "\x1b[31m", "</script>", "&amp;", "$x$", "a|b", "`")


def hostile_run(store: Store, name: str) -> None:
    """Write it as a finished run with one experiment, E1."""
    store.put_run(
        Run(
            name=name,
            goal=EVIL,
            subject=EVIL,
            planner=EVIL,
            settings={"seed": 0, "dtype": "float32", "fingerprint": EVIL},
        )
    )
    store.put_event(name, "start", {"goal": EVIL, EVIL: EVIL})
    call = {"id": "c1", "name": EVIL, "arguments": EVIL}
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "cost": 0.0}
    store.put_event(name, "turn", {"calls": [call], "text": EVIL, "usage": usage, "minutes": 0})
    measured = tuple(
        Measurement(
            name="top1",
            value=0.1 * i,
            unit="probability",
            n=1,
            component=f"decoder.{i % 2}.resid_pre@{i // 2 - 5}",
            token=t,
            variant="norm",
        )
        for i, t in enumerate(TOKENS)
    )
    odd = Measurement(name="accuracy", value=0.5, unit=EVIL, n=3, task=EVIL, label=EVIL)
    labels = tuple(f"{i} {t}" for i, t in zip(range(-5, 0), TOKENS, strict=False))
    array = Array(
        name="top_token",
        dtype="int64",
        shape=(2, 5, 1),
        data=np.zeros(10, "<i8").tobytes(),
        axes=(
            Axis(name="depth", labels=("0", "1")),
            Axis(name="position", labels=labels),
            Axis(name="place", labels=("0",)),
        ),
    )
    asked = Experiment(
        tool="lens",
        args={"prompt": EVIL, "task": None},
        subject=EVIL,
        tasks={EVIL: EVIL},
        seed=0,
        dtype="float32",
        code=EVIL,
    )
    result = store.put_result(asked, Result(status="ok", text=EVIL, measurements=(*measured, odd), arrays=(array,)))
    store.link_experiment(name, asked.id, result, cached=False, seq=3, why=EVIL)
    store.put_event(name, "answer", {"call_id": "c1", "text": EVIL, "status": "ok", "handle": "E1"})
    store.put_entry(name, 3, Hypothesis(handle="H1", statement=EVIL, evidence_for=("E1",)))
    store.put_entry(name, 3, Question(handle="Q1", asks="open", text=EVIL, tasks=(EVIL,)))
    statement = Statement(
        kind=EVIL, task=EVIL, among=EVIL, label=EVIL, program=EVIL, components="decoder.0.mlp.out@answer"
    )
    sealed = Finding(
        handle="F1", statement=statement, hypothesis="H1", seen="E1", smallest=0.1, probability=0.5, power=0.5
    )
    decided = {"round": 1, "experiment": "E1", "reason": EVIL, "sentence": EVIL}
    for handle, fate in (("F1", "confirmed"), ("F2", "void")):
        store.put_entry(name, 3, sealed.model_copy(update={"handle": handle, "fate": fate, **decided}))
    store.put_entry(
        name, 4, sealed.model_copy(update={"handle": "F3", "fate": "confirmed", "retracted": EVIL, **decided})
    )
    store.put_entry(name, 3, Note(text=EVIL))
    store.put_entry(name, 3, Claim(finding="F1", question="Q1", interpretation=EVIL))
    store.put_entry(name, 4, Conclusion(answer="found", words=EVIL))
    store.put_event(name, "end", {"status": "finished", "reason": "found"})
    store.update_run(name, "finished", "found")
