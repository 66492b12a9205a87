"""OPT (Zhang et al. 2022); the 350M model has no final norm and projects its states before the head."""

from tools.subjects.family import decoder, post_norm, sequential

FAMILY = decoder(
    "opt",
    ("OPTForCausalLM",),
    body="model.decoder",
    blocks="layers",
    after_blocks=("final_layer_norm", "project_out"),
    o_proj="self_attn.out_proj",
    down_proj="fc2",
    equation=lambda config: (
        sequential("final_layer_norm")
        if config.do_layer_norm_before
        else post_norm("self_attn_layer_norm", "final_layer_norm")
    ),
    mid=lambda config: config.do_layer_norm_before,
)
