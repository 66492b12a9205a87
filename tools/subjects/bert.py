"""BERT (Devlin et al. 2019): one bidirectional stack, read out by a masked-language-model head."""

from typing import Any

from tools.subjects.family import Family, Fields, StackPaths, post_norm


def _arguments(fields: Fields, _: Fields) -> dict[str, Any]:
    return {"input_ids": fields["input_ids"], "attention_mask": fields["attention_mask"]}


ENCODER = StackPaths(
    "encoder",
    body="bert",
    blocks="encoder.layer",
    o_proj="attention.output.dense",
    down_proj="output.dense",
    arguments=_arguments,
    equation=lambda _: post_norm("attention.output.LayerNorm", "output.LayerNorm"),
    attention="attention.self",
    mid=lambda _: False,  # the norm comes after the sum
    causal=lambda config: config.is_decoder,
)

FAMILY = Family(
    name="bert",
    architectures=("BertForMaskedLM",),
    stacks=(ENCODER,),
    head="cls",
    port="masked",
    refusals=(("next_token", "BERT fills masked tokens; it does not predict the next one"),),
)
