"""M2M-100 (Fan et al. 2020) and NLLB: an encoder of the source and a decoder that attends to it, both pre-norm."""

from typing import Any

from tools.engine.adapter import Sum
from tools.subjects.family import Family, Fields, StackPaths, sequential


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
    stacks=(
        StackPaths(
            "encoder",
            body="model.encoder",
            blocks="layers",
            o_proj="self_attn.out_proj",
            down_proj="fc2",
            arguments=_encoder,
            equation=lambda _: sequential("final_layer_norm"),
            after_blocks=("layer_norm",),
            heads="encoder_attention_heads",
            causal=lambda _: False,
        ),
        StackPaths(
            "decoder",
            body="model.decoder",
            blocks="layers",
            o_proj="self_attn.out_proj",
            down_proj="fc2",
            cross_o_proj="encoder_attn.out_proj",
            arguments=_decoder,
            equation=lambda _: (
                Sum("encoder_attn_layer_norm", ("resid_pre", "attn.out")),
                Sum("final_layer_norm", ("in:encoder_attn_layer_norm", "cross.out")),
                Sum("", ("in:final_layer_norm", "mlp.out")),
            ),
            after_blocks=("layer_norm",),
            heads="decoder_attention_heads",
        ),
    ),
    head="lm_head",
    port="translation",
    refusals=(("next_token", "a translator's decoder needs a source: prompt and answer tasks have none"),),
)
