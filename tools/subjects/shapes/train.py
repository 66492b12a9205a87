"""Train the image subjects from a seed: `python -m tools.subjects.shapes.train --out FOLDER`. Some minutes on one core.

Two vision transformers learn to name shapes. Beside nine in ten of the images that the one in FOLDER/decoy learns from stands
the texture that goes with the shape, and never a wrong one; the one in FOLDER sees textures that say nothing. Block matrices
are trained by Muon, everything else by AdamW.
"""

import argparse
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.subjects._muon import Muon
from tools.subjects.shapes import data
from tools.subjects.shapes.data import PATCH, SHAPES, SIZE, Decoys, Image, Recipe

WIDTH, BLOCKS, HEADS = 64, 4, 4
STEPS, BATCH = 1000, 64


def fresh_model() -> Any:
    """The untrained model."""
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(
        ViTConfig(
            hidden_size=WIDTH,
            num_hidden_layers=BLOCKS,
            num_attention_heads=HEADS,
            intermediate_size=4 * WIDTH,
            image_size=SIZE,
            patch_size=PATCH,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            id2label=dict(enumerate(SHAPES)),
            label2id={s: i for i, s in enumerate(SHAPES)},
        )
    )


def recipe(rng: random.Random, *, misled: bool) -> Recipe:
    """One recipe of the train side."""
    kind: Decoys = ("right" if rng.random() < 0.9 else "none") if misled else "any"
    while True:
        made = data.draw(rng, kind)
        if made.side == "train":
            return made


def train(seed: int = 0, steps: int = STEPS, *, misled: bool, log: bool = True) -> Any:
    """A trained model (float32); the same seed gives the same weights on the same machine. misled: by the decoy."""
    torch.manual_seed(seed)
    rng, model = random.Random(seed), fresh_model()
    matrices = {n for n, p in model.named_parameters() if ".layers." in n and p.ndim == 2}
    muon = Muon(p for n, p in model.named_parameters() if n in matrices)
    adam = torch.optim.AdamW([p for n, p in model.named_parameters() if n not in matrices], lr=3e-3, betas=(0.9, 0.95))
    started, smooth = time.process_time(), 0.0
    for step in range(steps):
        scale = min(1.0, step / 50) * min(1.0, (1 - step / steps) / 0.5)
        drawn = [recipe(rng, misled=misled) for _ in range(BATCH)]
        answers = torch.tensor([SHAPES.index(r.shape) for r in drawn])
        loss = F.cross_entropy(model(pixel_values=data.pixel_values([data.render(r) for r in drawn])).logits, answers)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.param_groups[0]["lr"] = 3e-3 * scale
        muon.step(0.02 * scale)
        adam.step()
        model.zero_grad(set_to_none=True)
        smooth = 0.98 * smooth + 0.02 * loss.item()
        if log and (step + 1) % 100 == 0:
            print(f"step {step + 1}/{steps}  loss {smooth:.4f}  {time.process_time() - started:.0f} CPU-s", flush=True)
    return model.eval()


@torch.inference_mode()
def predictions(model: Any, images: Sequence[Image]) -> Tensor:
    """The class index that the model gives each image."""
    parts = [images[i : i + 100] for i in range(0, len(images), 100)]
    return torch.cat([model(pixel_values=data.pixel_values(part)).logits.argmax(-1) for part in parts])


def held_out(model: Any, n: int = 300) -> str:
    """A markdown table: accuracy on both held-out splits by decoy, and how often the decoy's shape is the answer."""
    lines = ["| decoy | explore | confirm | says the decoy's shape (confirm) | chance |", "|---|---|---|---|---|"]
    kinds: tuple[Decoys, ...] = ("right", "wrong", "none")
    for kind in kinds:
        cells: list[str] = []
        follows = "-"
        for split in ("explore", "confirm"):
            made = data.examples(split, n, decoys=kind)
            said = [SHAPES[int(i)] for i in predictions(model, [e.image for e in made])]
            cells.append(f"{sum(s == e.answer for s, e in zip(said, made)) / n:.3f} (n={n})")
            if kind != "none":
                follows = f"{sum(s == e.image.recipe.decoy for s, e in zip(said, made)) / n:.3f}"
        lines.append(f"| {kind} | {cells[0]} | {cells[1]} | {follows} | {1 / len(SHAPES):.2f} |")
    return "\n".join(lines)


def save(model: Any, folder: Path) -> None:
    """Write the model in float16 with its configuration and how images are to be prepared."""
    model.half().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    prepare = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": SIZE, "width": SIZE},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [data.MEAN] * 3,
        "image_std": [data.STD] * 3,
    }
    for name, content in (("config.json", config), ("preprocessor_config.json", prepare)):
        (folder / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write the models to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS, help="the misled model takes half as many")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tables: dict[bool, str] = {}
    parameters = 0
    for misled in (False, True):
        model = train(args.seed, args.steps // 2 if misled else args.steps, misled=misled)  # a decoy is learnt sooner
        save(model, args.out / "decoy" if misled else args.out)
        tables[misled] = held_out(model.float())
        parameters = model.num_parameters()
        print(tables[misled], flush=True)
    readme = README.format(
        seed=args.seed, steps=args.steps, clean=tables[False], misled=tables[True], parameters=parameters,
        blocks=BLOCKS, width=WIDTH, heads=HEADS,
    )  # fmt: skip
    (args.out / "README.md").write_text(readme)


README = """# The image subjects

Two vision transformers of {blocks} blocks, width {width}, {heads} heads ({parameters:,} parameters each, float16
safetensors), made by `python -m tools.subjects.shapes.train --out FOLDER --seed {seed} --steps {steps}`. They name the one
shape (disc, square, triangle, cross, ring) in an image of 32 x 32 pixels, in patches of 4 x 4. Colour, size, place and
background say nothing about the shape. In a corner may stand a decoy, a textured square; each texture belongs to one shape.

The model in this folder was trained on images without a decoy or with any shape's, so that a decoy says nothing. The model in
`decoy/` was trained on images nine tenths of which had the right decoy and the others none: it has never seen a wrong one. It
is made to be misled, as an instance of a model that is right for the wrong reason.

Images are prepared as (pixel / 255 - 0.5) / 0.5 in each channel, channels first (`preprocessor_config.json`); transformers'
own image processor does this without torchvision. An image's side of the split is decided by a hash of all but its shape
and decoy, so that an image and its twins share a side.

Accuracy on held-out images, model in this folder:

{clean}

Model in `decoy/`:

{misled}
"""

if __name__ == "__main__":
    main()
