"""GPT-2 (Radford et al. 2019) that classifies a text: read out at the last token by a linear map."""

from dataclasses import replace

from tools.subjects import gpt2

FAMILY = replace(
    gpt2.FAMILY,
    name="gpt2_classifier",
    architectures=("GPT2ForSequenceClassification",),
    head="score",
    read="last",
    port="text-class",
    capabilities=frozenset(),
    refusals=(("next_token", "it gives a text one of its classes; it has no output for tokens"),),
)
