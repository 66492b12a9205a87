"""Whisper (Radford et al. 2022): an audio encoder and a text decoder that attends to it."""

from typing import Any

from tools.subjects._bart import stacks
from tools.subjects.family import Family, Fields


def _encoder(fields: Fields, _: Fields) -> dict[str, Any]:
    return {"input_features": fields["input_features"]}


def _decoder(fields: Fields, upstream: Fields) -> dict[str, Any]:
    return {
        "input_ids": fields["decoder_input_ids"],
        "encoder_hidden_states": upstream["encoder"],
        "use_cache": False,
    }


FAMILY = Family(
    name="whisper",
    architectures=("WhisperForConditionalGeneration",),
    stacks=stacks(_encoder, _decoder),
    head="proj_out",
    port="speech",
    needs=frozenset({"tokenizer", "processor"}),
    refusals=(("next_token", "Whisper's decoder needs audio: prompt and answer tasks have none"),),
)
