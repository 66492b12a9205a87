"""Findings, questions and what follows from them, for the pages: texts with links, numbers with the way to their rows."""

from collections.abc import Sequence
from typing import Any

from agent.loop.record import Reading
from agent.report.conclusion import Concluded
from agent.report.headline import Sentence
from agent.report.null_twins import nulls_words
from agent.report.opening import classes_said, legend, stays_open, sure, tested_how, without_headline
from agent.report.tested import Tested, controls, effect_words
from agent.review.texts import Links, Part, Texts
from experiments_db.findings import Claim

Context = dict[str, Any]


class Cards:
    """What the pages of one run show of its findings."""

    def __init__(self, record: Reading, texts: Texts, links: Links) -> None:
        self.record, self.texts, self.links = record, texts, links

    def handles(self, handles: Sequence[str]) -> list[Part]:
        """Handles with their links."""
        return [Part("handle", h, self.links.handle(self.record.run, h)) for h in handles]

    def answer(self, c: Concluded) -> Context:
        """The first screen: headline, questions, contradictions, how sure, what stays open."""
        run = self.record.store.run(self.record.run)
        whole = next((i for i in c.interpretations if not i.finding), None)
        return {
            "brief": [self._said(s) for s in c.headline if s.leads],
            "also": [self._said(s) for s in c.headline if not s.leads],
            "tested": " ".join(tested_how(c)),
            "legend": f"{legend(run, plain=True) if c.headline else ''} {classes_said(self.record, c)}".strip(),
            "instead": without_headline(run, self.record, c),
            "contradictions": [{"of": self.handles([a, b]), "why": why} for a, b, why in c.contradictions],
            "questions": [
                {"q": a.question, "parts": self.texts.parts(a.question.text), "by": self.handles(a.by), "how": a.how,
                 "why": self.texts.parts(a.why)} for a in c.questions
            ],
            "sure": f"{sure(c.sureness)} {nulls_words(c.nulls)}".rstrip(),
            "open": self.texts.parts(stays_open(c)),
            "interpretation": self.texts.parts(whole.words) if whole else None,
            "beside": self.texts.parts(whole.beside) if whole else None,
        }  # fmt: skip

    def claims(self) -> list[Context]:
        """Findings that were adopted as answers, with what the planner makes of them."""
        return [self._claim(f"C{i}", c) for i, c in enumerate(self.record.claims(), 1)]

    def _claim(self, handle: str, c: Claim) -> Context:
        words = self.texts.parts(c.interpretation) if c.interpretation else None
        about = [h for h in (c.finding, c.question) if h is not None and self.texts.exists(h)]
        return {"handle": handle, "about": self.handles(about), "interpretation": words}

    def _said(self, s: Sentence) -> dict[str, Any]:
        return {"parts": self.texts.parts(s.text), "findings": self.handles(s.findings)}

    def finding(self, t: Tested) -> Context:
        """One finding with the numbers that decided it."""
        f = t.finding
        handle = str(f.experiment)
        effects = [
            {"how": how, "part": self.texts.number(handle, m, text)} for m, how, text in effect_words(t)
        ]  # fmt: skip
        return {
            "f": f, "run": self.record.run, "handle": f.handle, "words": t.words, "fate": f.fate or "open",
            "sentence": self.texts.parts(f.sentence) if f.sentence else None, "effects": effects,
            "controls": controls(t), "sample": t.sample,
            "rests": self.handles([h for h in (f.seen, f.experiment) if h is not None and self.texts.exists(h)]),
            "retracted": self.texts.parts(f.retracted) if f.retracted else None,
        }  # fmt: skip
