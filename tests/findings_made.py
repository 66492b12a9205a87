"""Runs with findings, written as the loop writes them: measured by hand, settled and said by the program."""

from experiments_db.findings import Conclusion, Finding, Question, Statement
from experiments_db.records import Control, Experiment, Hypothesis, Measurement, Note, Result, Run
from experiments_db.store import Store
from tools.findings.settling import settle

BOTH = ("resample(donor)", "zero")
SETTINGS = {"seed": 0, "dtype": "float32", "fingerprint": "f" * 64, "device": "cpu"}
QUESTIONS = (
    Question(handle="Q1", asks="whether", text="Can the model do addition?", tasks=("addition",)),
    Question(handle="Q2", asks="where", text="Where is addition done?", tasks=("addition",)),
    Question(handle="Q3", asks="compare", text="Is subtraction done elsewhere?", tasks=("addition", "subtraction")),
)


def rows(
    s: Statement,
    split: str,
    effects: dict[str, float],
    p: float,
    *,
    half=0.08,
    n=128,
    groups=81,
    control=0.1,
    **decided,
):
    """The measurements of an `examine` experiment: one effect an intervention, with its control, and what decides."""
    where = {"task": s.task, "split": split, "among": s.among or None, "n": n, "groups": groups}
    share = "share of examples"
    out = [
        Measurement(name="accuracy", unit=share, value=0.97, low=0.93, high=0.99, program="intact", **where),
        Measurement(name="chance", unit=share, value=0.05, **where),
        Measurement(name="smallest", unit=share, value=s.smallest or 0.09, **where),
    ]
    place = s.components or s.path or None
    for how, value in effects.items():
        beside = Control(kind="a random vector of the same size", value=control, n=n) if control is not None else None
        at = {"component": place, "intervention": how or None, **where}
        out.append(
            Measurement(
                name="effect", unit=share, value=value, low=value - half, high=value + half, control=beside, **at
            )
        )
        out.append(Measurement(name="p", unit="p value", value=p, **at))
    for name in ("p_contradicted", "p_absent"):
        out.append(Measurement(name=name, unit="p value", value=decided.get(name, 1.0), **where))
    return tuple(out)


class Investigation:
    """A run in a store to which findings are added; every experiment has an identity of its own."""

    def __init__(
        self,
        store: Store,
        name: str,
        goal="where does the demo model do addition?",
        questions=QUESTIONS,
        planner="scripted",
    ):
        self.store, self.name, self.count = store, name, 0
        store.put_run(Run(name=name, goal=goal, subject="demo", planner=planner, settings=SETTINGS))
        store.put_event(name, "start", {"goal": goal, "subject": "demo", "planner": planner})
        for q in questions:
            store.put_entry(name, 1, q)

    def experiment(self, measured, tool="examine", why="", text="measured", status="ok", **args) -> str:
        """An experiment with these measurements; its handle."""
        self.count += 1
        asked = Experiment(
            tool=tool,
            args={"number": self.count, "run": self.name, **args},
            subject="f",
            seed=0,
            dtype="float32",
            code="c",
        )
        result = self.store.put_result(asked, Result(status=status, text=text, measurements=measured))
        return self.store.link_experiment(self.name, asked.id, result, cached=False, seq=1, why=why)

    def predicted(
        self, kind="necessary", components="", task="addition", probability=0.9, hypothesis=None, **more
    ) -> Finding:
        """A sealed finding, from an experiment on explore examples."""
        kinds = {"interventions": BOTH} if components else {}
        s = Statement(kind=kind, task=task, components=components, **{**kinds, **more})
        seen = self.experiment(rows(s, "explore", dict.fromkeys(s.interventions or ("",), 0.5), 0.001), kind=kind)
        number = len(self.store.findings(self.name)) + 1
        f = Finding(
            handle=f"F{number}",
            statement=s,
            hypothesis=hypothesis,
            seen=seen,
            smallest=s.smallest or 0.09,
            stricter=s.smallest is not None,
            probability=probability,
            power=0.8,
        )
        self.store.put_entry(self.name, 1, f)
        return f

    def settled(self, f: Finding, effects, p=1e-6, round_=1, reused=False, **more) -> Finding:
        """The finding, put to unseen examples. effects: one number for all interventions, one for each, or a reason."""
        if isinstance(effects, str):
            return self._keep(f, "", effects, round_)
        how = f.statement.interventions or ("",)
        each = effects if isinstance(effects, dict) else dict.fromkeys(how, effects)
        measured = rows(f.statement, "confirm", each, p, **more)
        return self._keep(f, self.experiment(measured, split="confirm"), measured, round_, [f.handle] if reused else [])

    def _keep(self, f, handle, measured, round_, reused=()):
        (done,) = settle([(f, handle, measured)], round_, reused)
        self.store.put_entry(self.name, 2, done)
        return done

    def confirmed(self, kind="necessary", components="", effects=0.6, **more) -> Finding:
        """A finding that unseen examples confirmed."""
        return self.settled(self.predicted(kind, components, **more), effects)

    def end(self, answer="found", words="") -> str:
        """Finish the run; its name."""
        self.store.put_entry(self.name, 3, Conclusion(answer=answer, words=words))
        self.store.put_event(self.name, "end", {"status": "finished", "reason": answer})
        self.store.update_run(self.name, "finished", answer)
        return self.name


def typical(store: Store, name="typical") -> str:
    """A run with every fate, a hypothesis and a note, and one of its questions unanswered."""
    i = Investigation(store, name)
    store.put_entry(name, 1, Hypothesis(handle="H1", statement="Block 0 adds."))
    i.confirmed("capability", effects=0.92)
    i.confirmed("necessary", "decoder.0.mlp.out@answer", {"resample(donor)": 0.71, "zero": 0.46}, hypothesis="H1")
    i.confirmed("jointly_necessary", "decoder.0.attn.z[0,3]@answer", 0.33)
    i.confirmed("carries", "decoder.1.resid_pre@answer", 0.81, interventions=())
    i.settled(i.predicted("not_needed", "decoder.4.mlp.out@answer"), 0.01, control=None)
    i.settled(i.predicted("necessary", "decoder.5.mlp.out@answer", hypothesis="H1"), -0.3, p=1.0, p_contradicted=1e-6)
    i.settled(i.predicted("necessary", "decoder.3.mlp.out@answer"), 0.0, p=1.0, p_absent=1e-6, round_=2)
    i.settled(i.predicted("necessary", "decoder.2.mlp.out@answer"), 0.12, p=0.4, round_=2)
    i.settled(
        i.predicted("differs", "decoder.2.mlp.out@answer", other_task="subtraction"),
        "there are too few examples",
        round_=2,
    )
    store.put_entry(name, 2, Note(text="Block 0 looks like {{E4.effect[intervention=zero]}}."))
    return i.end("found", "It seems to add where the operands meet.")
