"""The two stacks of the BART line: an encoder, and a decoder that attends to it.

Blocks are pre-norm, with a norm after the last one (M2M-100, NLLB, Whisper), or post-norm (Marian).
"""

from typing import Any

from tools.engine.adapter import Sum
from tools.subjects.family import Arguments, Fields, StackPaths, post_norm, sequential

BEFORE = (
    Sum("encoder_attn_layer_norm", ("resid_pre", "attn.out")),
    Sum("final_layer_norm", ("in:encoder_attn_layer_norm", "cross.out")),
    Sum("", ("in:final_layer_norm", "mlp.out")),
)
AFTER = (
    Sum("self_attn_layer_norm", ("resid_pre", "attn.out")),
    Sum("encoder_attn_layer_norm", ("out:self_attn_layer_norm", "cross.out")),
    Sum("final_layer_norm", ("out:encoder_attn_layer_norm", "mlp.out")),
    Sum("", ("out:final_layer_norm",)),
)


def stacks(encoder: Arguments, decoder: Arguments, *, norm_first: bool = True) -> tuple[StackPaths, StackPaths]:
    """Encoder and decoder, called with what these functions make of a model's fields. norm_first: pre-norm blocks."""
    alone = sequential("final_layer_norm") if norm_first else post_norm("self_attn_layer_norm", "final_layer_norm")
    after = ("layer_norm",) if norm_first else ()
    return (
        StackPaths(
            "encoder",
            body="model.encoder",
            blocks="layers",
            o_proj="self_attn.out_proj",
            down_proj="fc2",
            arguments=encoder,
            equation=lambda _: alone,
            after_blocks=after,
            heads="encoder_attention_heads",
            mid=lambda _: norm_first,
            causal=lambda _: False,
        ),
        StackPaths(
            "decoder",
            body="model.decoder",
            blocks="layers",
            o_proj="self_attn.out_proj",
            down_proj="fc2",
            cross_o_proj="encoder_attn.out_proj",
            arguments=decoder,
            equation=lambda _: BEFORE if norm_first else AFTER,
            after_blocks=after,
            heads="decoder_attention_heads",
            mid=lambda _: norm_first,
        ),
    )


def reads_source(fields: Fields, _: Fields) -> dict[str, Any]:
    """Keyword arguments for the encoder of a source text."""
    return {"input_ids": fields["input_ids"], "attention_mask": fields["attention_mask"]}


def writes_answer(fields: Fields, upstream: Fields) -> dict[str, Any]:
    """Keyword arguments for a decoder that attends to a source text, without a cache."""
    return {
        "input_ids": fields["decoder_input_ids"],
        "encoder_hidden_states": upstream["encoder"],
        "encoder_attention_mask": fields["attention_mask"],
        "use_cache": False,
    }
