"""M2M-100 (Fan et al. 2020) and NLLB: an encoder of the source and a decoder that attends to it, both pre-norm."""

from typing import Any

from tools.subjects._bart import stacks
from tools.subjects.family import Family, Fields


def _encoder(fields: Fields, _: Fields) -> dict[str, Any]:
    return {"input_ids": fields["input_ids"], "attention_mask": fields["attention_mask"]}


def _decoder(fields: Fields, upstream: Fields) -> dict[str, Any]:
    return {
        "input_ids": fields["decoder_input_ids"],
        "encoder_hidden_states": upstream["encoder"],
        "encoder_attention_mask": fields["attention_mask"],
        "use_cache": False,
    }


FAMILY = Family(
    name="m2m100",
    architectures=("M2M100ForConditionalGeneration",),
    stacks=stacks(_encoder, _decoder),
    head="lm_head",
    port="translation",
    refusals=(("next_token", "a translator's decoder needs a source: prompt and answer tasks have none"),),
)
