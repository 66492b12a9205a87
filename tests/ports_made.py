"""Small subjects of every modality with examples of their own, and what plain transformers makes of one example alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast, WhisperFeatureExtractor

from tools.subjects import Subject, load_subject, wrap
from tools.tasks import Example, Signal, get_task

SPECIAL = ["<pad>", "<s>", "</s>", "<mask>", "<unk>", "__a__", "__b__"]
WORDS = [*SPECIAL, *(f"w{i}" for i in range(len(SPECIAL), 61))]
HOP, RATE = 888, 16_000  # 18 frames a second, two of which make a position
HEARS = {"feature_size": 8, "sampling_rate": RATE, "hop_length": HOP, "chunk_length": 1, "n_fft": 1024}
SEES = {"image_mean": [0.2, 0.4, 0.6], "image_std": [0.5, 0.3, 0.1], "rescale_factor": 1 / 255}
RANDOM = ("gpt2", "llama", "bert", "m2m100", "m2m100_front", "marian", "whisper", "vit", "bert_classifier", "gpt2_classifier")
BUILT_IN = {
    "demo": "addition",
    "masked": "gap_agreement",
    "shapes": "shape",
    "shapes-decoy": "shape",
    "speech": "transcription",
    "translator": "translation:twin=language",
    "translator-front": "translation:twin=language",
}


@dataclass(frozen=True)
class Case:
    """A subject, and examples of different lengths with twins."""

    subject: Subject
    examples: list[Example]


def tokenizer(template: str) -> PreTrainedTokenizerFast:
    """Words w7 to w60, one token each, with special tokens as the template says."""
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<s>", 1), ("</s>", 2)])
    special = {"pad": "<pad>", "bos": "<s>", "eos": "</s>", "mask": "<mask>", "unk": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **{f"{k}_token": v for k, v in special.items()})


def words(*numbers: int) -> str:
    return " ".join(f"w{n}" for n in numbers)


def sound(seed: int) -> Signal:
    drawn = np.random.default_rng(seed).standard_normal(RATE * (seed % 3 + 1) // 4)
    return Signal(drawn.astype(np.float32), f"noise {seed}")


def picture(seed: int, height: int = 10, width: int = 15) -> Signal:
    drawn = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Signal(drawn, f"picture {seed}")


def random_case(name: str, model_named: Callable[..., Any]) -> Case:
    """Random weights, and made up examples: the first words of the three are 5, 3 and 7 long."""
    model = model_named(name.removesuffix("_front"))
    texts = [words(10, 11, 12, 13, 14), words(20, 21, 22), words(30, 31, 32, 33, 34, 35, 36)]
    others = [
        t.replace("w", "w1", 1).replace("w11", "w4", 1).replace("w12", "w4", 1).replace("w13", "w4", 1) for t in texts
    ]
    spans = {"second": (4, 7), "middle": (4, 11)}
    if name == "m2m100_front":
        model.config.language_token = "source"
    if name == "marian":
        model.generation_config.bad_words_ids = [[59]]  # what these weights write most; trained ones never write <pad>
    match name:
        case "gpt2" | "llama":
            answers = [" w40 w41", " w42", " w43 w44 w45"]
            made = [
                Example({"text": t}, a, f"{a} w9"[-7:], {"text": o}, spans=spans)
                for t, a, o in zip(texts, answers, others, strict=True)
            ]
            return Case(wrap(model, tokenizer("<s> $A"), name), made)
        case "bert":
            made = [
                Example({"masked": f"{t} <mask> {t}"}, "w40", "w41", {"masked": f"{o} <mask> {t}"}, spans=spans)
                for t, o in zip(texts, others, strict=True)
            ]
            made.append(
                Example({"masked": f"<mask> w9 <mask> {texts[0]}"}, "w40 w41", "w40 w42", spans={"second": (7, 9)})
            )
            return Case(wrap(model, tokenizer("<s> $A </s>"), name), made)
        case "m2m100" | "m2m100_front" | "marian":
            answers = ["w40 w41", "w42", "w43 w44 w45"]
            made = [
                Example({"source": t, "into": "__a__"}, a, a + " w9", {"source": o, "into": "__b__"}, spans=spans)
                for t, a, o in zip(texts, answers, others, strict=True)
            ]
            return Case(wrap(model, tokenizer("$A </s>"), name), made)
        case "whisper":
            answers = ["w40 w41", "w42", "w43 w44 w45"]
            made = [
                Example({"audio": sound(i)}, a, a + " w9", {"audio": sound(10 + i)}, spans={"second": (222, 333)})
                for i, a in enumerate(answers)
            ]
            return Case(wrap(model, tokenizer("$A"), name, HEARS), made)
        case "vit":
            made = [
                Example(
                    {"image": picture(i)},
                    f"LABEL_{i}",
                    f"LABEL_{i + 4}",
                    {"image": picture(10 + i)},
                    spans={"second": (5, 0, 10, 5)},
                )
                for i in range(3)
            ]
            return Case(wrap(model, None, name, SEES), made)
        case _:
            template = "<s> $A </s>" if name == "bert_classifier" else "<s> $A"
            made = [
                Example({"text": t}, f"LABEL_{i}", f"LABEL_{i + 4}", {"text": o}, spans=spans)
                for i, (t, o) in enumerate(zip(texts, others, strict=True))
            ]
            return Case(wrap(model, tokenizer(template), name), made)


def built_in_case(name: str, n: int = 4) -> Case:
    """A built-in subject with examples of the task made for it."""
    return Case(load_subject(name), get_task(BUILT_IN[name]).examples("explore", n))


# -- one example alone, without the ports ------------------------------------------------------------------------------


def by_hand(subject: Subject, e: Example) -> tuple[dict[str, Tensor], list[int]]:
    """The fields of one example as transformers documents them, and where in the logits the answer is predicted."""
    tok, given = subject.tokenizer, next(iter(e.inputs.values()))
    match subject.family.port:
        case "text":
            prompt, whole = tok(given)["input_ids"], tok(given + e.target)["input_ids"]
            return rows(whole[:-1]), list(range(len(prompt) - 1, len(whole) - 1))
        case "masked":
            ids = tok(given)["input_ids"]
            return rows(ids), [i for i, t in enumerate(ids) if t == tok.mask_token_id]
        case "translation":
            front = "front" in subject.name or subject.name == "marian"
            source = rows(tok(f"{e.inputs['into']} {given}" if front else given)["input_ids"])
            start, into = subject.model.config.decoder_start_token_id, tok.convert_tokens_to_ids(e.inputs["into"])
            first = [start] if front else [into] if subject.name == "translator" else [start, into]
            return {**source, **said(subject, first, e)}, places(subject, first, e)
        case "speech":
            settings = {k: v for k, v in subject.processor.items() if k != "feature_extractor_type"}
            heard = WhisperFeatureExtractor(**settings)(given.data, sampling_rate=RATE, return_tensors="pt")
            return {"input_features": heard["input_features"], **said(subject, [start := subject.model.config.decoder_start_token_id], e)}, places(subject, [start], e)
        case "image":
            mean, spread = (np.array(subject.processor[k]) for k in ("image_mean", "image_std"))
            pixels = (given.data / 255 - mean) / spread
            return {"pixel_values": torch.tensor(pixels.transpose(2, 0, 1)[None]).float()}, [0]
        case _:
            return rows(tok(given)["input_ids"]), [0]


def rows(ids: Sequence[int]) -> dict[str, Tensor]:
    return {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}


def said(subject: Subject, first: Sequence[int], e: Example) -> dict[str, Tensor]:
    answer = subject.tokenizer(e.target, add_special_tokens=False)["input_ids"]
    return {"decoder_input_ids": torch.tensor([[*first, *answer]])}


def places(subject: Subject, first: Sequence[int], e: Example) -> list[int]:
    answer = subject.tokenizer(e.target, add_special_tokens=False)["input_ids"]
    return list(range(len(first) - 1, len(first) + len(answer)))
