"""A tower: real-valued series, bidirectional blocks, one number read at the last position."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tools.subjects.family import Family, Fields, StackPaths, sequential


class TowerConfig(PretrainedConfig):
    model_type = "tower"

    def __init__(self, features: int = 3, hidden_size: int = 24, layers: int = 3, num_attention_heads: int = 2, **more: Any) -> None:
        self.features, self.hidden_size, self.layers = features, hidden_size, layers
        self.num_attention_heads = num_attention_heads
        super().__init__(**more)


def eager(_: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: None, *, scaling: float, **others: Any) -> tuple[Tensor, Tensor]:
    pattern = (q @ k.transpose(-1, -2) * scaling).softmax(-1)
    return (pattern @ v).transpose(1, 2), pattern


class Attention(nn.Module):
    is_causal = False

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.config, self.heads, width = config, config.num_attention_heads, config.hidden_size
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(h).chunk(3, -1))
        attend = ALL_ATTENTION_FUNCTIONS.get(self.config._attn_implementation, eager)
        return self.out(attend(self, q, k, v, None, scaling=q.shape[-1] ** -0.5, dropout=0.0)[0].flatten(2))


class Mlp(nn.Module):
    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(config.hidden_size, 48), nn.Linear(48, config.hidden_size)

    def forward(self, h: Tensor) -> Tensor:
        return self.down(torch.relu(self.up(h)))


class Block(nn.Module):
    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(config.hidden_size), nn.LayerNorm(config.hidden_size)
        self.attention, self.mlp = Attention(config), Mlp(config)

    def forward(self, hidden_states: Tensor) -> Tensor:
        h = hidden_states + self.attention(self.norm1(hidden_states))
        return h + self.mlp(self.norm2(h))


class Tower(nn.Module):
    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.enter = nn.Linear(config.features, config.hidden_size)
        self.floors = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.hidden_size)

    def forward(self, series: Tensor) -> BaseModelOutput:
        h = self.enter(series)
        for floor in self.floors:
            h = floor(h)
        return BaseModelOutput(last_hidden_state=self.norm(h))


class TowerForRegression(PreTrainedModel):
    config_class = TowerConfig
    main_input_name = "series"
    _supports_sdpa = True

    def __init__(self, config: TowerConfig) -> None:
        super().__init__(config)
        self.body, self.head = Tower(config), nn.Linear(config.hidden_size, 1)
        self.post_init()

    def forward(self, series: Tensor) -> Any:
        from types import SimpleNamespace

        return SimpleNamespace(logits=self.head(self.body(series).last_hidden_state[:, -1]))


def _arguments(fields: Fields, _: Fields) -> dict[str, Any]:
    return {"series": fields["series"]}


FAMILY = Family(
    name="tower",
    architectures=("TowerForRegression",),
    stacks=(
        StackPaths(
            "tower", body="body", blocks="floors", o_proj="attention.out", down_proj="mlp.down", arguments=_arguments,
            equation=lambda _: sequential("norm2"), after_blocks=("norm",), causal=lambda _: False,
        ),
    ),
    head="head",
    read="last",
    port="series",
    needs=frozenset(),
    model=lambda: TowerForRegression,
    refusals=(("next_token", "it gives a number"),),
)
