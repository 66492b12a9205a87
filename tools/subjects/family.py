"""What a model family has to tell: where its stacks, norms and head are. One file a family fills this in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from tools.engine.adapter import StackSpec, Sum

Fields = Mapping[str, Tensor]
Arguments = Callable[[Fields, Fields], dict[str, Any]]
Equation = Callable[[Any], tuple[Sum, ...]]


@dataclass(frozen=True)
class StackPaths:
    """Module paths of one stack. `body` is relative to the model, `blocks` and `after_blocks` to the body, the
    projections to a block.

    arguments: (input fields, final states of earlier stacks) -> keyword arguments of the body's forward.
    after_blocks: modules applied to the last block's output before it is read or handed on; absent ones are skipped.
    heads: name of the configuration's attribute with the number of attention heads.
    attention: the self-attention module; where it is not given, the one that holds `o_proj`; empty where its queries, keys,
    values and pattern are out of reach. down_proj: None in blocks without an MLP.
    equation: from the configuration, how the parts of a block add up; the integrity gate holds the model to it.
    mid: from the configuration, whether the MLP reads the residual stream with attention's output already in it.
    causal: from the configuration, whether a token is never influenced by a later one.
    """

    name: str
    body: str
    blocks: str
    o_proj: str
    down_proj: str | None
    arguments: Arguments
    equation: Equation
    after_blocks: tuple[str, ...] = ()
    cross_o_proj: str | None = None
    heads: str = "num_attention_heads"
    attention: str | None = None
    mid: Callable[[Any], bool] = lambda _: True
    causal: Callable[[Any], bool] = lambda config: getattr(config, "is_causal", True) is not False


def sequential(reads_mid: str) -> tuple[Sum, ...]:
    """Attention's output is added before the MLP reads the stream through the module `reads_mid` (pre-norm)."""
    return (Sum(reads_mid, ("resid_pre", "attn.out")), Sum("", (f"in:{reads_mid}", "mlp.out")))


def parallel() -> tuple[Sum, ...]:
    """Attention and MLP read the same stream, and both outputs are added to it."""
    return (Sum("", ("resid_pre", "attn.out", "mlp.out")),)


def post_norm(after_attention: str, after_mlp: str) -> tuple[Sum, ...]:
    """A norm follows each sum, and the second one's output leaves the block."""
    return (
        Sum(after_attention, ("resid_pre", "attn.out")),
        Sum(after_mlp, (f"out:{after_attention}", "mlp.out")),
        Sum("", (f"out:{after_mlp}",)),
    )


@dataclass(frozen=True)
class Family:
    """A model family. The last stack is the one that is read out, through `head` or, where that is empty, through what
    the model itself calls its output embeddings.

    head: a module's path, or from the model, a module that works on the state of each position by itself.
    read: at which positions the model itself reads its head: every one, the first, or the last that is no padding. A
    subject gives the head's logits at every position.
    Capabilities: `next_token` (the last stack predicts the next token of `input_ids`), `cached_generation`.
    `refusals` says, for a capability that is absent, why. port: the modality, by the name of its port. needs: what comes
    with the weights, `tokenizer` and `processor` (preprocessor_config.json). told: where the token of the language to
    write stands, if the configuration has no `language_token`: before the source, at the decoder's start, or second in the
    decoder, after the token that begins everything. model: gives the class to load where transformers has none
    of that name.
    """

    name: str
    architectures: tuple[str, ...]
    stacks: tuple[StackPaths, ...]
    head: str | Callable[[Any], nn.Module] = ""
    read: Literal["every", "first", "last"] = "every"
    port: str = "text"
    needs: frozenset[str] = frozenset({"tokenizer"})
    told: Literal["decoder", "start", "source"] = "decoder"
    model: Callable[[], Any] | None = None
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
                attention=(paths.o_proj.rpartition(".")[0] if paths.attention is None else paths.attention) or None,
                cross_attention=paths.cross_o_proj.rpartition(".")[0] if paths.cross_o_proj else None,
                attends_to=next(reversed(specs), None) if paths.cross_o_proj else None,
                mid=paths.mid(config),
                causal=paths.causal(config),
                equation=paths.equation(config),
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

    def finish_linear(self, model: nn.Module, stack: str, part: Tensor, whole: Tensor) -> Tensor | None:
        """What one summand of the last state contributes to `finish`, with the norm's scale held at that of the sum.

        The summands' contributions and the norm's bias add up to `finish(whole)`. None where a module is not understood.
        """
        paths = next(p for p in self.stacks if p.name == stack)
        body = model.get_submodule(paths.body)
        for name in paths.after_blocks:
            module = getattr(body, name, None)
            if module is None:
                continue
            if isinstance(module, nn.Linear):
                part, whole = part @ module.weight.T, module(whole)
            elif isinstance(module, nn.LayerNorm):
                scale = whole.var(-1, unbiased=False, keepdim=True).add(module.eps).rsqrt()
                part, whole = (part - part.mean(-1, keepdim=True)) * scale * module.weight, module(whole)
            elif type(module).__name__.endswith("RMSNorm"):
                eps: float = getattr(module, "variance_epsilon", 1e-6)
                scale = whole.float().pow(2).mean(-1, keepdim=True).add(eps).rsqrt().to(whole.dtype)
                part, whole = part * scale * module.weight, module(whole)
            else:
                return None
        return part


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
    equation: Equation,
    mid: Callable[[Any], bool] = lambda _: True,
) -> Family:
    """A decoder-only language model: one causal stack called `decoder`."""
    stack = StackPaths("decoder", body, blocks, o_proj, down_proj, decoder_arguments, equation, after_blocks, mid=mid)
    return Family(name, architectures, (stack,), capabilities=frozenset({"next_token", "cached_generation"}))


def readout(family: Family, model: Any) -> nn.Module:
    """The module that turns finished states of the last stack into logits."""
    if callable(family.head):
        return family.head(model)
    return model.get_submodule(family.head) if family.head else model.get_output_embeddings()
