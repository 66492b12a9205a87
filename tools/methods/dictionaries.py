"""Sparse autoencoders: read from SAELens' files (cfg.json and sae_weights.safetensors) or trained here from a seed.

A feature is named in a place as `*.2.resid_post[sae:NAME/17]`. NAME says all that decides it: of one that is trained here
its kind, latents, sparsity and seed, and the tasks whose explore examples it is trained on, as `topk.256.8.0/addition/copying`
(the 8 largest latents of 256, seed 0) or `relu.256.5.0/addition/copying` (an L1 penalty of 0.005); of one that is read the folder
and the first eight digits of the SHA-256 of its weights, as `saes/block2.1f0c9a7e`. Sources: Bricken et al. 2023 (L1), Gao et al.
2024 (top k), Rajamanoharan et al. 2024 (JumpReLU).
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from experiments_db.places import Component
from tools.methods.tool import Context, ToolInputError
from tools.methods.unit_values import Read, values
from tools.tasks import Example, TaskError

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
TRAINED = re.compile(r"(topk|relu)\.([1-9]\d{0,4})\.([1-9]\d{0,3})\.(\d{1,6})((?:/[\w-]+)+)")
HASHED = re.compile(r"(.+)\.([0-9a-f]{8})")
SHAPE = (
    "write topk.LATENTS.K.SEED/TASK/TASK or relu.LATENTS.L1_IN_THOUSANDTHS.SEED/TASK/TASK for one that is trained here, or "
    "FOLDER.SHA8 for a folder with cfg.json and sae_weights.safetensors"
)
PER_TASK, STEPS, BATCH, RATE = 256, 400, 512, 3e-3
EPSILON = 1e-5
Kind = Literal["standard", "topk", "jumprelu"]


@dataclass(frozen=True)
class Dictionary:
    """An encoder and a decoder; threshold: of jumprelu; k: of topk. centred: the decoder's bias is taken off the input first.

    scaled: the input's norm is made the root of its width, or it is standardised over channels, as the files may ask; by_norm: topk
    looks at latents times the length of their directions.
    """

    encoder: Float[Tensor, "channels latents"]
    directions: Float[Tensor, "latents channels"]
    encoder_bias: Float[Tensor, " latents"]
    decoder_bias: Float[Tensor, " channels"]
    kind: Kind = "standard"
    threshold: Float[Tensor, " latents"] | None = None
    k: int = 0
    centred: bool = True
    scaled: Literal["none", "constant_norm_rescale", "layer_norm"] = "none"
    by_norm: bool = False

    def encode(self, h: Float[Tensor, "n channels"]) -> Float[Tensor, "n latents"]:
        """How active each feature is."""
        x = self._scale(h)[0]
        x = x - self.decoder_bias if self.centred else x
        before = x @ self.encoder + self.encoder_bias
        if self.kind == "jumprelu":
            assert self.threshold is not None
            return before.relu() * (before > self.threshold)
        if self.kind == "topk":
            before = before * self.directions.norm(dim=-1) if self.by_norm else before
            top, at = before.topk(min(self.k, before.shape[-1]), dim=-1)
            return torch.zeros_like(before).scatter(-1, at, top.relu())
        return before.relu()

    def reconstruct(self, h: Float[Tensor, "n channels"]) -> Float[Tensor, "n channels"]:
        """The input as its features give it back."""
        features = self.encode(h)
        directions = self.directions / self.directions.norm(dim=-1, keepdim=True) if self.by_norm else self.directions
        _, middle, scale = self._scale(h)
        return (features @ directions + self.decoder_bias) * scale + middle

    def _scale(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        none = torch.zeros_like(h[:, :1])
        if self.scaled == "constant_norm_rescale":
            scale = h.norm(dim=-1, keepdim=True) / h.shape[-1] ** 0.5
            return h / scale, none, scale
        if self.scaled == "layer_norm":
            middle = h.mean(-1, keepdim=True)
            scale = h.std(-1, keepdim=True)
            return (h - middle) / (scale + EPSILON), middle, scale
        return h, none, none + 1


def read_dictionary(folder: Path) -> Dictionary:
    """A dictionary from SAELens' files. ToolInputError for what is missing, of another kind, or whose shapes do not fit."""
    missing = [n for n in (CONFIG, WEIGHTS) if not (folder / n).is_file()]
    if missing:
        raise ToolInputError(f"dictionary: {folder} has no {' and no '.join(missing)}; {SHAPE}")
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text("utf-8"))
        found = {k: v.float() for k, v in load_file(folder / WEIGHTS).items()}
    except (OSError, ValueError, SafetensorError) as error:
        raise ToolInputError(f"dictionary: {folder} cannot be read: {error}") from None
    return _made(config, found, folder)


def _made(config: Mapping[str, Any], found: Mapping[str, Tensor], folder: Path) -> Dictionary:
    given = str(config.get("architecture", "standard"))
    k = config.get("k") or (config.get("activation_fn_kwargs") or {}).get("k") or 0
    kind: Kind | None = {"standard": "standard", "topk": "topk", "jumprelu": "jumprelu"}.get(given)  # type: ignore[assignment]
    kind = "topk" if kind == "standard" and config.get("activation_fn_str") == "topk" else kind
    scaled = config.get("normalize_activations") or "none"
    wants = {"W_enc", "W_dec", "b_enc", "b_dec", *(("threshold",) if kind == "jumprelu" else ())}
    if kind is None:
        raise ToolInputError(f"dictionary: {folder} is of the kind {given!r}; standard, topk and jumprelu can be read")
    if scaled not in ("none", "constant_norm_rescale", "layer_norm") or config.get("finetuning_scaling_factor"):
        raise ToolInputError(
            f"dictionary: {folder} scales activations by {scaled!r}, which has to be folded into its weights first"
        )
    if lacking := wants - set(found):
        raise ToolInputError(f"dictionary: {folder} has no {min(lacking)}; there are {', '.join(sorted(found))}")
    width, latents = found["W_enc"].shape
    shapes = {"W_dec": (latents, width), "b_enc": (latents,), "b_dec": (width,), "threshold": (latents,)}
    wrong = next((n for n in sorted(wants - {"W_enc"}) if tuple(found[n].shape) != shapes[n]), None)
    if wrong or (kind == "topk" and not 0 < int(k) <= latents):
        what = (
            f"{wrong} is {tuple(found[wrong].shape)}, not {shapes[wrong]}" if wrong else f"k is {k}, not 1 to {latents}"
        )
        raise ToolInputError(f"dictionary: {folder}: {what}")
    return Dictionary(
        found["W_enc"], found["W_dec"], found["b_enc"], found["b_dec"], kind, found.get("threshold"), int(k),
        bool(config.get("apply_b_dec_to_input", True)), scaled, bool(config.get("rescale_acts_by_decoder_norm", False)),
    )  # fmt: skip


def train(
    states: Float[Tensor, "n channels"], latents: int, *, k: int = 0, l1: float = 0.0, seed: int = 0, steps: int = STEPS
) -> Dictionary:
    """A dictionary with directions of length 1, by Adam on the squared error: the k largest latents, or all with an L1 penalty in
    shares of the mean squared state.
    """
    generator = torch.Generator().manual_seed(seed)
    middle = states.mean(0)
    scale = float((states - middle).norm(dim=-1).mean()) or 1.0
    x = (states - middle) / scale
    directions = torch.randn(latents, x.shape[1], generator=generator)
    directions = (directions / directions.norm(dim=-1, keepdim=True)).requires_grad_()
    encoder = directions.detach().T.clone().requires_grad_()
    bias, offset = torch.zeros(latents, requires_grad=True), torch.zeros(x.shape[1], requires_grad=True)
    adam = torch.optim.Adam([encoder, directions, bias, offset], lr=RATE)
    kind: Kind = "topk" if k else "standard"
    made = Dictionary(encoder, directions, bias, offset, kind, None, k)
    for _ in range(steps):
        batch = x[torch.randint(len(x), (min(BATCH, len(x)),), generator=generator)]
        features = made.encode(batch)
        loss = ((features @ directions + offset - batch) ** 2).sum(-1).mean() + l1 * features.sum(-1).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            directions /= directions.norm(dim=-1, keepdim=True).clamp(min=1e-8)
    return Dictionary(
        encoder.detach(), directions.detach(), bias.detach() * scale, offset.detach() * scale + middle, kind, None, k
    )


def random_dictionary(like: Dictionary, seed: int) -> Dictionary:
    """As many random directions of length 1, read and written alike, of which the k largest are kept."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(like.directions.shape, generator=generator)
    directions = directions / directions.norm(dim=-1, keepdim=True)
    return Dictionary(directions.T, directions, torch.zeros(len(directions)), like.decoder_bias, "topk", None, like.k)


def dictionary_named(ctx: Context, name: str, within: Component) -> Dictionary:
    """The dictionary that a place names, for the channels of a part. ToolInputError says how one is named."""
    if found := TRAINED.fullmatch(name):
        kind, latents, amount, seed, tasks = found.groups()
        states = torch.cat(
            [torch.from_numpy(x) for x in _states(ctx, within, training_examples(ctx, tasks.strip("/").split("/")))]
        )
        few = {"k": int(amount)} if kind == "topk" else {"l1": int(amount) / 1000}
        if kind == "topk" and int(amount) > int(latents):
            raise ToolInputError(f"dictionary: {name}: k is {amount}, more than its {latents} latents")
        return train(states.float(), int(latents), seed=int(seed), **few)  # type: ignore[arg-type]
    hashed = HASHED.fullmatch(name)
    folder = Path(hashed[1] if hashed else name)
    if not (folder / WEIGHTS).is_file():
        raise ToolInputError(f"dictionary: {name!r} is none: {SHAPE}")
    is_now = name_of(folder)
    if name != is_now:
        raise ToolInputError(f"dictionary: the weights in {folder} are not those of {name!r}: write {is_now}")
    return read_dictionary(folder)


def name_of(folder: Path) -> str:
    """What a folder's dictionary is called in places: the folder and the beginning of the SHA-256 of its weights."""
    return f"{folder}.{hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()[:8]}"


def training_examples(ctx: Context, tasks: Sequence[str], *, held_out: bool = False) -> list[Example]:
    """Every other one of the first explore examples of tasks, or those between them."""
    try:
        return [e for t in tasks for e in ctx.tasks.get(t).examples("explore", PER_TASK, ctx.seed)[int(held_out) :: 2]]
    except TaskError as error:
        raise ToolInputError(f"dictionary: {error}") from None


def _states(ctx: Context, within: Component, examples: Sequence[Example]) -> list[Any]:
    return [x[1:] for x in values(ctx.subject, examples, within, lambda h: h, ctx.max_tokens)]


def feature_of(ctx: Context, component: Component, within: Component) -> Read:
    """What a feature's place reads. ToolInputError where there is no such dictionary, or feature, or it is of another width."""
    name, _, number = component.feature.removeprefix("sae:").rpartition("/")
    if not component.feature.startswith("sae:"):
        raise ToolInputError(
            f"components: {component}: name a label for a direction, or a feature as sae:NAME/17; {SHAPE}"
        )
    made = dictionary_named(ctx, name, within)
    latents = made.encoder.shape[1]
    if int(number) >= latents:
        raise ToolInputError(f"components: feature {number} is out of range: {name} has features 0 to {latents - 1}")

    def read(h: Tensor) -> Tensor:
        if h.shape[-1] != made.encoder.shape[0]:
            raise ToolInputError(
                f"components: {name} reads {made.encoder.shape[0]} channels, and {within} has {h.shape[-1]}"
            )
        return made.encode(h.cpu())[:, int(number) : int(number) + 1].to(h)

    return read
