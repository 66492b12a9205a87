"""GPT-NeoX (Black et al. 2022) and Pythia (Biderman et al. 2023): attention and MLP may read the same residual."""

from tools.subjects.family import decoder, parallel, sequential

FAMILY = decoder(
    "gpt_neox",
    ("GPTNeoXForCausalLM",),
    body="gpt_neox",
    blocks="layers",
    after_blocks=("final_layer_norm",),
    o_proj="attention.dense",
    down_proj="mlp.dense_4h_to_h",
    equation=lambda config: parallel() if config.use_parallel_residual else sequential("post_attention_layernorm"),
    mid=lambda config: not config.use_parallel_residual,
)
