"""Vision Transformer (Dosovitskiy et al. 2021) that classifies an image: patches after a [CLS] position, which is read out.

Inputs are `pixel_values` (batch, channels, height, width), normalised as the checkpoint's preprocessor_config.json says;
position 0 is [CLS], position 1 + row * columns + column the patch in that row and column.
"""

from typing import Any

from tools.subjects.family import Family, Fields, StackPaths, sequential


def _arguments(fields: Fields, _: Fields) -> dict[str, Any]:
    return {"pixel_values": fields["pixel_values"]}


FAMILY = Family(
    name="vit",
    architectures=("ViTForImageClassification",),
    stacks=(
        StackPaths(
            "encoder",
            body="vit",
            blocks="layers",
            o_proj="attention.o_proj",
            down_proj="mlp.fc2",
            arguments=_arguments,
            equation=lambda _: sequential("layernorm_after"),
            after_blocks=("layernorm",),
            causal=lambda _: False,
        ),
    ),
    head="classifier",
    read="first",
    port="image",
    needs=frozenset({"processor"}),
    refusals=(("next_token", "it gives an image one of its classes; it has no output for tokens"),),
)
