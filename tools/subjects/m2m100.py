"""M2M-100 (Fan et al. 2020) and NLLB: an encoder of the source and a decoder that attends to it, both pre-norm."""

from tools.subjects._bart import reads_source, stacks, writes_answer
from tools.subjects.family import Family

FAMILY = Family(
    name="m2m100",
    architectures=("M2M100ForConditionalGeneration",),
    stacks=stacks(reads_source, writes_answer),
    head="lm_head",
    port="translation",
    refusals=(("next_token", "a translator's decoder needs a source: prompt and answer tasks have none"),),
)
