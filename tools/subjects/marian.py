"""Marian (Junczys-Dowmunt et al. 2018; OPUS-MT): an encoder of the source and a decoder that attends to it, both post-norm."""

from typing import Any

from torch import Tensor

from tools.engine.kernels import QuickLinear
from tools.subjects._bart import reads_source, stacks, writes_answer
from tools.subjects.family import Family


class _Head(QuickLinear):
    """The output embeddings, and added to their logits, so that low precision rounds as in the model, its final bias."""

    def __init__(self, model: Any) -> None:
        vocabulary, width = model.lm_head.weight.shape
        super().__init__(width, vocabulary, bias=False, device="meta")
        self.weight = model.lm_head.weight
        self._added: Tensor = model.final_logits_bias

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # the parent's name
        return super().forward(input) + self._added


FAMILY = Family(
    name="marian",
    architectures=("MarianMTModel",),
    stacks=stacks(reads_source, writes_answer, norm_first=False),
    head=_Head,
    port="translation",
    told="source",
    refusals=(("next_token", "a translator's decoder needs a source: prompt and answer tasks have none"),),
)
