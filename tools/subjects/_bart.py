"""The two stacks of the BART line with pre-norm blocks (M2M-100, NLLB, Whisper): the decoder attends to the encoder."""

from tools.engine.adapter import Sum
from tools.subjects.family import Arguments, StackPaths, sequential


def stacks(encoder: Arguments, decoder: Arguments) -> tuple[StackPaths, StackPaths]:
    """Encoder and decoder, called with what these functions make of a model's fields."""
    return (
        StackPaths(
            "encoder",
            body="model.encoder",
            blocks="layers",
            o_proj="self_attn.out_proj",
            down_proj="fc2",
            arguments=encoder,
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
            arguments=decoder,
            equation=lambda _: (
                Sum("encoder_attn_layer_norm", ("resid_pre", "attn.out")),
                Sum("final_layer_norm", ("in:encoder_attn_layer_norm", "cross.out")),
                Sum("", ("in:final_layer_norm", "mlp.out")),
            ),
            after_blocks=("layer_norm",),
            heads="decoder_attention_heads",
        ),
    )
