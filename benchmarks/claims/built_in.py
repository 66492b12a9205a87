"""Claims about the built-in models that are not so, of kinds that compiled programs do not show: wrong place, order, label."""

import random
from collections.abc import Iterator

from benchmarks.claims.case import Case
from benchmarks.claims.kinds import Table, made
from benchmarks.claims.worlds import Worlds

HEAD = ["decoder.0.attn.pattern[3]"]
ALIGNS = Table(
    "demo", {"task": "copying", "components": HEAD, "label": "token"},
    [
        {"components": ["decoder.0.attn.pattern[0]"]}, {"label": "position"}, {"label": "role"}, {"label": "colour"},
        {"components": ["decoder.5.attn.pattern[3]"]}, {"components": ["decoder.9.attn.pattern[3]"]}, {"label": None},
        {"components": ["decoder.0.attn.z[3]@answer"]}, {"components": [*HEAD, "decoder.0.attn.pattern[0]"]}, {"smallest": 1.5},
    ],
    64,
)  # fmt: skip
TREE = ["encoder.0.resid_post"]
ENCODES = Table(
    "masked", {"task": "trees", "components": TREE},
    [
        {"components": ["encoder.3.resid_post"]}, {"components": ["encoder.0.resid_post@word1"]}, {"task": "gap_agreement"},
        {"components": [*TREE, "encoder.1.resid_post"]}, {"components": ["encoder.9.resid_post"]}, {"components": None},
        {"components": ["decoder.0.resid_post"]}, {"components": ["encoder.0.attn.pattern[0]"]}, {"smallest": 2.5},
        {"label": "head"},
    ],
    128,
)  # fmt: skip
WRONG = "shape:decoys=wrong"
DECIDES = Table(
    "shapes", {"task": WRONG, "label": "object"},
    [
        {"label": "decoy"}, {"task": "shape", "label": "decoy"}, {"label": "sky"}, {"label": None}, {"smallest": 1.5},
        {"components": ["encoder.0.mlp.out"]}, {"label": "object, decoy"}, {"among": "shape=pentagram"}, {"task": "addition"},
        {"label": "-1"},
    ],
    40,
)  # fmt: skip
BOARD = "decoder.2.resid_post@-1"
USED = Table(
    "othello", {"task": "othello", "components": [BOARD], "label": "side.*"},
    [
        {"label": "colour.*"}, {"label": "side.z9"}, {"label": "mood.*"}, {"label": None},
        {"components": ["decoder.0.resid_pre@-1"]}, {"components": ["decoder.99.resid_post@-1"]},
        {"components": [BOARD, "decoder.0.resid_pre@-1"]}, {"smallest": 99.0},
        {"components": [BOARD.replace("@-1", "@nobody")]}, {"components": None},
    ],
    128,
)  # fmt: skip
READS = Table(
    "othello", {"task": "othello", "components": [BOARD], "label": "side.*, colour.*"},
    [
        {"label": "colour.*, side.*"}, {"label": "side.*, side.*"}, {"label": "side.*"}, {"label": "side.*, mood.*"},
        {"label": None}, {"components": ["decoder.99.resid_post@-1"]},
        {"components": [BOARD, "decoder.0.resid_pre@-1"]}, {"smallest": 1.5},
        {"components": [BOARD.replace("@-1", "@nobody")]}, {"components": None},
    ],
    128,
)  # fmt: skip
HEADS = [f"decoder.{b}.attn.z[{h}]@answer" for b, h in ((1, 3), (2, 0), (2, 3), (2, 5), (3, 0), (4, 0), (4, 3), (4, 4))]
OTHERS = [f"decoder.{b}.attn.z[{h}]@answer" for b, h in ((0, 0), (0, 1), (0, 2), (0, 3), (0, 5), (0, 6), (1, 0), (1, 1))]
ELICITS = Table(
    "candid", {"task": "candid", "components": HEADS, "interventions": ["add(truth, 4)"]},
    [
        {"interventions": ["add(truth, -4)"]}, {"components": OTHERS}, {"interventions": ["add(truth, 0)"]}, {"smallest": 1.5},
        {"interventions": ["zero"]}, {"interventions": ["add(random, 4)"]}, {"components": ["decoder.0.mlp.out@answer"]},
        {"components": [h.replace("@answer", "@animal") for h in HEADS]}, {"components": ["decoder.9.attn.z[0]@answer"]},
        {"components": None},
    ],
    120,
)  # fmt: skip
KINDS = {"aligns": ALIGNS, "decides": DECIDES, "encodes_tree": ENCODES, "used": USED, "reads_better": READS, "elicits": ELICITS}


def built_in(worlds: Worlds, rng: random.Random, n: int) -> Iterator[Case]:
    """The kinds in turn."""
    each = [made(kind, kind, [table], worlds, rng, n) for kind, table in KINDS.items()]
    for i in range(n):
        yield next(each[i % len(each)])


CLASSES = (built_in,)
