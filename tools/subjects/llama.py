"""Llama (Touvron et al. 2023) and the families that share its block: Mistral, Qwen 2 and 3."""

from tools.subjects.family import decoder, sequential

FAMILY = decoder(
    "llama",
    ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"),
    body="model",
    blocks="layers",
    after_blocks=("norm",),
    o_proj="self_attn.o_proj",
    down_proj="mlp.down_proj",
    equation=lambda _: sequential("post_attention_layernorm"),
)
