"""The families' models: their configurations, their norms, and where they keep the weights of heads and MLPs."""

import math
from typing import Any

import torch
from torch import Tensor

from benchmarks.planted.compiler.plan import POSITIONS, ROTARY_SHARE, Plan

EPSILON = 2.0**26
ANCHOR = 64.0
PACE = 0.3  # each rotary pair turns so many times as fast as the one before


def rotary_dims(p: Plan) -> int:
    """How many of a head's dimensions turn with the position."""
    return {"gpt2": 0, "llama": p.head_dim, "gpt_neox": int(p.head_dim * ROTARY_SHARE)}[p.family]


def frequencies() -> list[float]:
    """Radians a position by which the first three rotary pairs turn."""
    return [PACE**i for i in range(3)]


def rotary_amplitude(offset: int) -> float:
    """So large that every other distance scores at least 30 less."""
    gaps = [
        3 - sum(math.cos(f * (distance - offset)) for f in frequencies())
        for distance in range(POSITIONS)
        if distance != offset
    ]
    return 30.0 / min(gaps)


def empty(p: Plan, words: int) -> Any:
    """A model of the plan's shape."""
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        GPTNeoXConfig,
        GPTNeoXForCausalLM,
        LlamaConfig,
        LlamaForCausalLM,
    )

    epsilon = EPSILON if p.norm == "epsilon" else 1e-5
    shared: dict[str, Any] = {
        "vocab_size": words, "bos_token_id": None, "eos_token_id": None, "tie_word_embeddings": False,
    }  # fmt: skip
    if p.family == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(
                n_positions=POSITIONS, n_embd=p.width, n_layer=p.blocks, n_head=p.heads, n_inner=p.hidden, resid_pdrop=0,
                embd_pdrop=0, attn_pdrop=0, layer_norm_epsilon=epsilon, **shared,
            )
        )  # fmt: skip
    shared |= {
        "hidden_size": p.width, "num_hidden_layers": p.blocks, "num_attention_heads": p.heads, "intermediate_size": p.hidden,
        "max_position_embeddings": POSITIONS,
    }  # fmt: skip
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": PACE ** (-rotary_dims(p) / 2)}
    if p.family == "llama":
        return LlamaForCausalLM(LlamaConfig(rms_norm_eps=epsilon, head_dim=p.head_dim, rope_parameters=rope, **shared))
    rope["partial_rotary_factor"] = ROTARY_SHARE
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(layer_norm_eps=epsilon, rope_parameters=rope, use_parallel_residual=p.parallel, **shared)
    )


def fill_norms(model: Any, p: Plan) -> None:
    """The gain that makes a norm the identity: the norm's own denominator."""
    gain = math.sqrt(EPSILON) if p.norm == "epsilon" else ANCHOR / math.sqrt(p.width)
    for name, module in model.named_modules():
        if type(module).__name__.endswith("Norm"):
            assert module.weight.ndim == 1, name
            module.weight.fill_(gain)


def store_head(model: Any, p: Plan, block: int, head: int, q: Tensor, k: Tensor, v: Tensor, o: Tensor) -> None:
    """Put one head's weights, q, k, v (head_dim, width) and o (width, head_dim), where the family keeps them."""
    n = p.head_dim
    mine = slice(head * n, (head + 1) * n)
    if p.family == "gpt2":
        a = model.transformer.h[block].attn
        for i, w in enumerate((q, k, v)):
            a.c_attn.weight[:, i * p.width + head * n : i * p.width + (head + 1) * n] = w.T
        a.c_proj.weight[mine] = o.T
    elif p.family == "llama":
        a = model.model.layers[block].self_attn
        for name, w in (("q_proj", q), ("k_proj", k), ("v_proj", v)):
            getattr(a, name).weight[mine] = w.float()
        a.o_proj.weight[:, mine] = o.float()
    else:
        a = model.gpt_neox.layers[block].attention
        a.query_key_value.weight[3 * n * head : 3 * n * (head + 1)] = torch.cat([q, k, v]).float()
        a.dense.weight[:, mine] = o.float()


def store_mlp(model: Any, p: Plan, block: int, gate: Tensor, up: Tensor, down: Tensor) -> None:
    """Put an MLP's weights, gate and up (hidden, width) and down (width, hidden), where the family keeps them."""
    if p.family == "gpt2":
        m = model.transformer.h[block].mlp
        m.c_fc.weight.copy_(gate.T)
        m.c_proj.weight.copy_(down.T)
    elif p.family == "llama":
        m = model.model.layers[block].mlp
        m.gate_proj.weight.copy_(gate)
        m.up_proj.weight.copy_(up)
        m.down_proj.weight.copy_(down)
    else:
        m = model.gpt_neox.layers[block].mlp
        m.dense_h_to_4h.weight.copy_(gate)
        m.dense_4h_to_h.weight.copy_(down)
