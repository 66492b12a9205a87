"""GPT-2 (Radford et al. 2019) and models of its architecture, the built-in demo among them."""

from tools.subjects.family import decoder, sequential

FAMILY = decoder(
    "gpt2",
    ("GPT2LMHeadModel",),
    body="transformer",
    blocks="h",
    after_blocks=("ln_f",),
    o_proj="attn.c_proj",
    down_proj="mlp.c_proj",
    equation=lambda _: sequential("ln_2"),
)
