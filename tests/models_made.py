"""What tests are given: no network, and a tiny random model for every class that is supported."""

import ipaddress
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import beartype  # noqa: F401  this and others first: what ours import with the hook on is compiled anew where no bytecode is written
import hypothesis
import pydantic  # noqa: F401
import pytest
import scipy.stats  # noqa: F401
import sklearn.linear_model  # noqa: F401
import torch
import transformers as hf
import transformers.modeling_utils

from tools.subjects import Inputs, Subject, wrap

# torch's first call of a kind is slow, so a deadline would fail at random.
hypothesis.settings.register_profile("project", deadline=None, print_blob=True)
hypothesis.settings.load_profile("project")
torch.set_num_threads(1)  # the models are tiny, and two threads on a busy machine wait for each other: 100 times slower

N_BLOCKS = 4
VOCABULARY = 61  # no other dimension has this length, nor the ones below, so that mixed up axes cannot fit
WIDTH, HEADS, MLP_WIDTH, POSITIONS = 32, 4, 56, 40
CLASSES, PATCH = (
    11,
    5,
)  # an image of two by three patches: seven positions with [CLS], as many as the rows of tokens have
COMMON: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": N_BLOCKS,
    "num_attention_heads": HEADS,
    "intermediate_size": MLP_WIDTH,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": POSITIONS,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def _opt(**kind: Any) -> Any:
    config: dict[str, Any] = {k: v for k, v in COMMON.items() if k != "intermediate_size"}
    return hf.OPTForCausalLM(hf.OPTConfig(**config, ffn_dim=MLP_WIDTH, **kind))


def _gpt2(**more: Any) -> Any:
    return hf.GPT2Config(
        n_embd=WIDTH,
        n_layer=N_BLOCKS,
        n_head=HEADS,
        n_inner=MLP_WIDTH,
        n_positions=POSITIONS,
        vocab_size=VOCABULARY,
        bos_token_id=1,
        eos_token_id=2,
        **more,
    )


def _whisper() -> Any:
    config = hf.WhisperConfig(
        d_model=WIDTH,
        encoder_layers=N_BLOCKS,
        decoder_layers=N_BLOCKS,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=MLP_WIDTH,
        decoder_ffn_dim=MLP_WIDTH,
        vocab_size=VOCABULARY,
        num_mel_bins=8,
        max_source_positions=9,
        max_target_positions=POSITIONS,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    return hf.WhisperForConditionalGeneration(config)


def _translator(kind: Any) -> Any:
    return kind(
        d_model=WIDTH,
        encoder_layers=N_BLOCKS,
        decoder_layers=N_BLOCKS,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=MLP_WIDTH,
        decoder_ffn_dim=MLP_WIDTH,
        vocab_size=VOCABULARY,
        max_position_embeddings=POSITIONS,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
        forced_eos_token_id=None,
    )


def _marian() -> Any:
    model = hf.MarianMTModel(_translator(hf.MarianConfig))
    model.final_logits_bias.normal_()  # trained ones have it, and no parameter says so
    return model


# The kinds that differ in what an adapter could get wrong: windows of attention that depend on the block, a head width
# that is not width / heads, fewer key heads, parallel residuals, post-norm, projections around the stack, an encoder.
MODELS: dict[str, Callable[[], Any]] = {
    "bert": lambda: hf.BertForMaskedLM(hf.BertConfig(**COMMON)),
    "bert_classifier": lambda: hf.BertForSequenceClassification(hf.BertConfig(**COMMON, num_labels=CLASSES)),
    "gpt2": lambda: hf.GPT2LMHeadModel(_gpt2()),
    "gpt2_classifier": lambda: hf.GPT2ForSequenceClassification(_gpt2(num_labels=CLASSES, pad_token_id=0)),
    "gpt_neox_parallel": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**COMMON, use_parallel_residual=True)),
    "gpt_neox_sequential": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**COMMON, use_parallel_residual=False)),
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**COMMON, num_key_value_heads=2)),
    "llama_eager": lambda: hf.LlamaForCausalLM._from_config(
        hf.LlamaConfig(**COMMON, num_key_value_heads=1, attention_bias=True, mlp_bias=True), attn_implementation="eager"
    ),
    "m2m100": lambda: hf.M2M100ForConditionalGeneration(_translator(hf.M2M100Config)),
    "marian": _marian,
    "mistral": lambda: hf.MistralForCausalLM(hf.MistralConfig(**COMMON, num_key_value_heads=2, sliding_window=3)),
    "opt": lambda: _opt(word_embed_proj_dim=WIDTH),
    "opt_350m_kind": lambda: _opt(word_embed_proj_dim=16, do_layer_norm_before=False),
    "qwen2": lambda: hf.Qwen2ForCausalLM(
        hf.Qwen2Config(
            **COMMON, num_key_value_heads=2, use_sliding_window=True, sliding_window=3, max_window_layers=N_BLOCKS // 2
        )
    ),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**COMMON, num_key_value_heads=2, head_dim=12)),
    "vit": lambda: hf.ViTForImageClassification(
        hf.ViTConfig(
            **{
                k: v
                for k, v in COMMON.items()
                if not k.endswith("_id") and k not in {"vocab_size", "max_position_embeddings"}
            },
            image_size=(2 * PATCH, 3 * PATCH),
            patch_size=PATCH,
            num_labels=CLASSES,
        )
    ),
    "whisper": _whisper,
}
NOT_NEXT = {"bert", "bert_classifier", "gpt2_classifier", "m2m100", "marian", "vit", "whisper"}
TEXT_MODELS = [name for name in MODELS if name not in NOT_NEXT]  # those that predict the next token


@pytest.fixture(scope="session", autouse=True)
def no_null_twins() -> Iterator[None]:
    """Runs have no null twins but where a test asks for them: they would take as long as the run."""
    from agent.loop import null_twins

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(null_twins, "TWINS", 0)
        yield


@pytest.fixture(scope="session", autouse=True)
def compared_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A run begins by holding its model against the plain one. Here that is done once for each model, as often as it is loaded and
    by whichever worker; `compared_anew` does it each time, where a test changes what is compared.
    """
    from agent.loop import session
    from agent.review.workbench import bench
    from tools.findings import integrity
    from tools.findings.integrity_report import IntegrityReport

    own = tmp_path_factory.getbasetemp()  # a worker's lies in that of the session
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "compared"
    folder.mkdir(exist_ok=True)

    def check(subject: Subject) -> Any:
        kept = folder / f"{subject.fingerprint}-{subject.dtype}-{subject.device}.json".replace("/", "-")
        if not kept.exists():
            part = kept.with_suffix(f".{os.getpid()}")
            part.write_text(json.dumps(integrity.check(subject).as_json()))
            part.replace(kept)
        return IntegrityReport.from_json(json.loads(kept.read_text()))

    with pytest.MonkeyPatch.context() as patch:
        for module in (session, bench):
            patch.setattr(module, "integrity", SimpleNamespace(check=check))
        yield


@pytest.fixture
def compared_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs hold their model against the plain one whatever was compared before."""
    from agent.loop import session
    from tools.findings import integrity

    monkeypatch.setattr(session, "integrity", integrity)


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Connections to anything but this machine are an error, so that no test depends on the world."""
    connect, lookup = socket.socket.connect, socket.getaddrinfo

    def is_local(host: object) -> bool:
        try:
            return host in {None, "", "localhost"} or ipaddress.ip_address(str(host)).is_loopback
        except ValueError:
            return False

    def guarded_connect(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and not is_local(address[0]):
            raise PermissionError(f"a test tried to reach {address}: tests run without a network")
        connect(self, address)

    def guarded_lookup(host: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_local(host.decode() if isinstance(host, bytes) else host):
            raise PermissionError(f"a test tried to look up {host}: tests run without a network")
        return lookup(host, *args, **kwargs)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        guarded_connect(self, address)
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        patch.setattr(socket, "getaddrinfo", guarded_lookup)
        yield


ADDED = ("marian",)  # kinds that came later, so that those before keep their weights


def random_model(name: str, dtype: torch.dtype = torch.float32) -> Any:
    """A tiny model of one kind with random weights; norms and biases are random too, so that leaving one out shows."""
    torch.manual_seed(sorted(MODELS, key=lambda n: (n in ADDED, n)).index(name))
    model = MODELS[name]().eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key not in (model._keys_to_ignore_on_save or ()):  # sinusoids, which are computed again at loading
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model.to(dtype)


@pytest.fixture(scope="session")
def model_kinds() -> list[str]:
    """The names of all kinds."""
    return sorted(MODELS)


@pytest.fixture(scope="session")
def model_named() -> Callable[..., Any]:
    """A new random model by the name of its kind."""
    return random_model


@pytest.fixture(scope="session")
def subject_named() -> Callable[[str], Subject]:
    """The subject of a kind; the same object each time, since subjects are never changed."""
    made: dict[str, Subject] = {}

    def get(name: str) -> Subject:
        if name not in made:
            with torch.inference_mode(mode=False):  # whichever test asks first: gradients of its weights may be asked for later
                made[name] = wrap(random_model(name), name=name)
        return made[name]

    return get


@pytest.fixture(scope="session", params=sorted(MODELS))
def subject(request: pytest.FixtureRequest, subject_named: Callable[[str], Subject]) -> Subject:
    """A subject of every kind in turn."""
    return subject_named(request.param)


@pytest.fixture(scope="session", params=sorted(TEXT_MODELS))
def text_subject(request: pytest.FixtureRequest, subject_named: Callable[[str], Subject]) -> Subject:
    """A subject of every kind that predicts the next token."""
    return subject_named(request.param)


@pytest.fixture(scope="session")
def batch() -> Callable[[Subject, Sequence[Sequence[int]]], Inputs]:
    """Inputs of any subject from rows of tokens. What a model hears or translates follows from the row's first token; where
    it sees, each patch follows from a token, and short rows are repeated.
    """

    def patch(token: int) -> torch.Tensor:
        return torch.randn(3, PATCH, PATCH, generator=torch.Generator().manual_seed(token))

    def image(row: Sequence[int]) -> torch.Tensor:
        patches = [patch(row[i % len(row)]) for i in range(1, 7)]
        return torch.cat([torch.cat(patches[:3], dim=2), torch.cat(patches[3:], dim=2)], dim=1)

    def make(subject: Subject, rows: Sequence[Sequence[int]]) -> Inputs:
        if subject.family.name == "vit":
            pixels = torch.stack([image(row) for row in rows]).to(subject.dtype)
            return Inputs({"pixel_values": pixels}, (7,) * len(rows))
        if "encoder" not in subject.stacks or len(subject.stacks) == 1:
            return subject.inputs(rows)
        longest = max(map(len, rows))
        ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
        if subject.family.port == "translation":
            source = [torch.randint(3, 61, (8,), generator=torch.Generator().manual_seed(row[0])) for row in rows]
            mask = [[int(i < 8 - row[0] % 4) for i in range(8)] for row in rows]  # up to three are padding
            given = {"input_ids": torch.stack(source), "attention_mask": torch.tensor(mask)}
            given["input_ids"] = given["input_ids"] * given["attention_mask"]
            return Inputs({**given, "decoder_input_ids": ids}, tuple(map(len, rows)))
        sound = [torch.randn(8, 18, generator=torch.Generator().manual_seed(row[0])) for row in rows]
        fields = {"input_features": torch.stack(sound).to(subject.dtype), "decoder_input_ids": ids}
        return Inputs(fields, tuple(map(len, rows)))

    return make


@pytest.fixture(scope="session")
def rows() -> list[list[int]]:
    """Three rows of seven tokens, none special."""
    return torch.randint(3, VOCABULARY, (3, 7), generator=torch.Generator().manual_seed(5)).tolist()


@pytest.fixture
def in_the_foreground() -> Iterator[None]:
    """Signals as a program in a terminal has them, though the tests may run where some are ignored."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    before = {s: signal.signal(s, handler) for s, handler in usual.items()}
    yield
    for s, handler in before.items():
        signal.signal(s, handler)
