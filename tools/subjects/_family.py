"""What a model family has to tell: where its stacks, norms and head are. One file a family fills this in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from tools.engine.adapter import StackSpec

Fields = Mapping[str, Tensor]
Arguments = Callable[[Fields, Fields], dict[str, Any]]


@dataclass(frozen=True)
class StackPaths:
    """Module paths of one stack. `body` is relative to the model, `blocks` and `after_blocks` to the body, the
    projections to a block.

    arguments: (input fields, final states of earlier stacks) -> keyword arguments of the body's forward.
    after_blocks: modules applied to the last block's output before it is read or handed on; absent ones are skipped.
    heads: name of the configuration's attribute with the number of attention heads.
    """

    name: str
    body: str
    blocks: str
    o_proj: str
    down_proj: str
    arguments: Arguments
    after_blocks: tuple[str, ...] = ()
    cross_o_proj: str | None = None
    heads: str = "num_attention_heads"
    causal: bool = True


@dataclass(frozen=True)
class Family:
    """A model family. The last stack is the one that is read out, through `head` or, where that is empty, through what
    the model itself calls its output embeddings.

    Capabilities: `next_token` (the last stack predicts the next token of `input_ids`), `cached_generation`.
    `refusals` says, for a capability that is absent, why.
    """

    name: str
    architectures: tuple[str, ...]
    stacks: tuple[StackPaths, ...]
    head: str = ""
    capabilities: frozenset[str] = frozenset()
    refusals: tuple[tuple[str, str], ...] = ()

    def build(self, model: nn.Module) -> dict[str, StackSpec]:
        """The stacks of one model, by name, in the order in which they run."""
        config: Any = model.config
        specs: dict[str, StackSpec] = {}
        for paths in self.stacks:
            blocks = model.get_submodule(f"{paths.body}.{paths.blocks}")
            assert isinstance(blocks, nn.ModuleList)
            specs[paths.name] = StackSpec(
                name=paths.name,
                blocks=blocks,
                width=int(config.hidden_size),
                n_heads=int(getattr(config, paths.heads)),
                o_proj=paths.o_proj,
                down_proj=paths.down_proj,
                cross_o_proj=paths.cross_o_proj,
                causal=paths.causal,
            )
        return specs

    def finish(self, model: nn.Module, stack: str, h: Tensor) -> Tensor:
        """The modules between a stack's last block and its reader: the final norm, for OPT also a projection."""
        paths = next(p for p in self.stacks if p.name == stack)
        body = model.get_submodule(paths.body)
        for name in paths.after_blocks:
            module = getattr(body, name, None)
            if module is not None:
                h = module(h)
        return h


def decoder_arguments(fields: Fields, _: Fields) -> dict[str, Any]:
    """Keyword arguments for the body of a decoder-only model, without a cache."""
    return {"input_ids": fields["input_ids"], "attention_mask": fields["attention_mask"], "use_cache": False}


def decoder(
    name: str,
    architectures: tuple[str, ...],
    *,
    body: str,
    blocks: str,
    after_blocks: tuple[str, ...],
    o_proj: str,
    down_proj: str,
) -> Family:
    """A decoder-only language model: one causal stack called `decoder`."""
    stack = StackPaths("decoder", body, blocks, o_proj, down_proj, decoder_arguments, after_blocks)
    return Family(name, architectures, (stack,), capabilities=frozenset({"next_token", "cached_generation"}))


def readout(family: Family, model: Any) -> nn.Module:
    """The module that turns finished states of the last stack into logits."""
    return model.get_submodule(family.head) if family.head else model.get_output_embeddings()
