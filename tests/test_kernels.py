"""Other kernels compute the same functions, keep the bits where a record asks for them, and no block runs in vain."""

import copy
import gc

import pytest
import torch
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

from tools.engine import kernels
from tools.engine.kept import Kept
from tools.engine.kernels import Kernels, OnePass, QuickConv1D, QuickLinear, quicken, using
from tools.engine.sites import Edit, Site, SiteError
from tools.subjects import Subject, SubjectError, load_subject


@pytest.fixture(scope="module")
def demo() -> Subject:
    return load_subject("demo")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(0,), (1,), (7, 13, 511), (2**16 + 3,), (3, 2**16)])
def test_gelu_in_one_pass_has_the_bits_of_the_model_s_own(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    x = (torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 4).to(dtype)
    edges = torch.tensor([float("inf"), -float("inf"), float("nan"), 0.0, -0.0], dtype=dtype)
    for given in (x, edges, x[..., ::2]):
        own, here = NewGELUActivation()(given), OnePass()(given)
        assert torch.equal(own.nan_to_num(nan=7.0), here.nan_to_num(nan=7.0))


def test_gradients_through_gelu_are_the_model_s_own() -> None:
    x, y = (torch.linspace(-4, 4, 99, requires_grad=True) for _ in range(2))
    NewGELUActivation()(x).sum().backward()
    OnePass()(y).sum().backward()
    assert x.grad is not None and y.grad is not None and torch.equal(x.grad, y.grad)


def test_a_loaded_model_runs_it_and_another_activation_is_left_alone(demo: Subject) -> None:
    assert {type(m) for m in demo.model.modules() if "GELU" in type(m).__name__ or isinstance(m, OnePass)} == {OnePass}
    slow = copy.deepcopy(demo.model)
    for m in slow.modules():
        if isinstance(m, OnePass):
            m.__class__ = NewGELUActivation
    ids = torch.tensor([demo.tokens("3 + 4 = 7, 12 + 9 =")])
    with torch.inference_mode():
        assert torch.equal(demo.model(ids).logits, slow(ids).logits)
    other = torch.nn.Sequential(torch.nn.GELU())
    quicken(other)
    assert type(other[0]) is torch.nn.GELU


# -- products -------------------------------------------------------------------------------------------------------------

PRODUCTS = Kernels(products=True)
needs_onednn = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")), reason="no oneDNN"
)


@pytest.fixture
def gaining(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that gains by oneDNN, wherever the tests run."""
    monkeypatch.setattr(kernels, "gains", lambda: True)


def made(kind: str, channels: int = 256, out: int = 384) -> torch.nn.Module:
    """A quickened linear map, by the seed."""
    torch.manual_seed(3)
    module = Conv1D(out, channels) if kind == "conv1d" else torch.nn.Linear(channels, out, bias="without" not in kind)
    torch.nn.init.normal_(module.weight)
    if module.bias is not None:
        torch.nn.init.normal_(module.bias)
    holder = torch.nn.Sequential(module)
    quicken(holder)
    assert type(holder[0]) is (QuickConv1D if kind == "conv1d" else QuickLinear)
    return holder[0]


def in_double(module: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    weight = module.weight.double() if isinstance(module, Conv1D) else module.weight.double().T
    return x.double() @ weight + (0 if module.bias is None else module.bias.double())


@pytest.mark.usefixtures("gaining")
@needs_onednn
@pytest.mark.parametrize("kind", ["linear", "linear without bias", "conv1d"])
@pytest.mark.parametrize("given", ["rows", "batch", "transposed", "every second", "one row", "none"])
def test_a_product_is_the_same_map_however_its_input_lies_in_memory(kind: str, given: str) -> None:
    module = made(kind)
    x = torch.randn(6, 40, 512, generator=torch.Generator().manual_seed(5))
    rows = {
        "rows": x[0, :, :256], "batch": x[..., :256], "transposed": x[..., :256].transpose(0, 1), "every second": x[..., ::2],
        "one row": x[0, :1, :256], "none": x[:0, :, :256],
    }[given]  # fmt: skip
    with torch.inference_mode():
        own = module(rows.contiguous())
        with using(PRODUCTS):
            quick = module(rows)
    assert quick.shape == own.shape
    torch.testing.assert_close(quick, in_double(module, rows).float(), rtol=1e-4, atol=1e-4)
    if given == "one row":
        assert torch.equal(quick, own), "a product so small is left where it is"


@pytest.mark.usefixtures("gaining")
@needs_onednn
def test_a_bias_with_gaps_is_not_given_to_a_kernel_that_would_read_across_them() -> None:
    module, x = made("linear"), torch.randn(64, 256, generator=torch.Generator().manual_seed(6))
    module.bias = torch.nn.Parameter(torch.randn(384, 5)[:, 2])
    with torch.inference_mode(), using(PRODUCTS):
        torch.testing.assert_close(module(x), in_double(module, x).float(), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("gaining")
@needs_onednn
@pytest.mark.parametrize("kind", ["linear", "linear without bias", "conv1d"])
def test_weights_that_are_kept_in_order_are_those_that_the_module_has_now(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(kernels, "_order_keeps_bits", lambda: True)  # wherever the tests run
    monkeypatch.setattr(kernels, "_ordered", ordered := kernels._Ordered())
    module = made(kind)
    x = torch.randn(40, 256, generator=torch.Generator().manual_seed(3))
    with using(PRODUCTS):
        with torch.inference_mode():
            first = module(x)
            assert torch.equal(module(x), first) and len(ordered._known) == 1
        with torch.no_grad():
            module.weight[3:9] *= 2
        with torch.inference_mode():
            edited = module(x)
        module.weight.data = module.weight.detach().flip(1)
        with torch.inference_mode():
            swapped = module(x)
            torch.testing.assert_close(swapped, in_double(module, x).float(), rtol=1e-4, atol=1e-4)
    assert len(ordered._known) == 1
    assert not torch.allclose(first, edited) and not torch.allclose(edited, swapped)
    del module
    gc.collect()
    assert not len(ordered._known)


@pytest.mark.usefixtures("gaining")
@needs_onednn
def test_no_more_weights_are_kept_in_order_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_ordered", ordered := kernels._Ordered())
    modules, x = [made("linear") for _ in range(3)], torch.ones(40, 256)
    ordered.room = 2 * modules[0].weight.nbytes
    with torch.inference_mode(), using(PRODUCTS):
        for module in modules:
            torch.testing.assert_close(module(x), in_double(module, x).float(), rtol=1e-4, atol=1e-4)
    assert len(ordered._known) == 2


@pytest.mark.usefixtures("gaining")
@needs_onednn
def test_where_the_order_of_weights_moves_bits_none_are_kept_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_ordered", ordered := kernels._Ordered())
    monkeypatch.setattr(kernels, "_order_keeps_bits", lambda: False)
    module, x = made("linear"), torch.ones(40, 256)
    with torch.inference_mode(), using(PRODUCTS):
        torch.testing.assert_close(module(x), in_double(module, x).float(), rtol=1e-4, atol=1e-4)
    assert not len(ordered._known)


@pytest.mark.skipif(not kernels.gains(), reason="products are the model's own here")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["linear", "linear without bias", "conv1d"])
@pytest.mark.parametrize(("channels", "out"), [(512, 300), (768, 3072), (3072, 768), (129, 5001)])
def test_the_bits_of_a_product_do_not_depend_on_the_order_of_the_weights(
    monkeypatch: pytest.MonkeyPatch, kind: str, channels: int, out: int, threads: int
) -> None:
    module, before = made(kind, channels, out), torch.get_num_threads()
    nothing = kernels._Ordered()
    nothing.room = 0
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode(), using(PRODUCTS):
            for rows in (1, 2, 3, 8, 17, 72, 300):
                x = torch.randn(rows, channels)
                found = module(x)
                with monkeypatch.context() as without:
                    without.setattr(kernels, "_ordered", nothing)
                    assert torch.equal(module(x), found)
        assert module.weight in kernels._ordered._known and not len(nothing._known)
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("gaining")
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["linear", "conv1d"])
def test_other_types_of_number_are_multiplied_as_the_model_does_it(kind: str, dtype: torch.dtype) -> None:
    module, x = made(kind).to(dtype), torch.randn(64, 256, generator=torch.Generator().manual_seed(7)).to(dtype)
    with torch.inference_mode():
        own = module(x)
        with using(PRODUCTS):
            assert torch.equal(module(x), own)


@pytest.mark.usefixtures("gaining")
@pytest.mark.parametrize("kind", ["linear", "conv1d"])
def test_gradients_flow_through_the_model_s_own_product(kind: str) -> None:
    module, x = made(kind), torch.randn(64, 256, generator=torch.Generator().manual_seed(8), requires_grad=True)
    with using(PRODUCTS):
        module(x).sum().backward()
    assert x.grad is not None
    axis = 1 if isinstance(module, Conv1D) else 0
    torch.testing.assert_close(x.grad, module.weight.sum(axis).expand(64, -1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("wrong", ["numbers", "maker", "width"])
def test_where_it_gains_nothing_or_is_wrong_products_stay_as_they_are(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setattr(kernels, "_maker", lambda: "GenuineIntel" if wrong == "maker" else "AuthenticAMD")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2" if wrong == "width" else "AVX512")
    if wrong == "numbers":
        monkeypatch.setattr(kernels, "_product", lambda x, w, b: x @ w.T + b + 1e-3)
    assert not kernels.gains.__wrapped__()


@needs_onednn
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_whether_it_gains_does_not_depend_on_when_that_is_asked(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    monkeypatch.setattr(kernels, "_maker", lambda: "AuthenticAMD")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        assert kernels.gains.__wrapped__() == torch.backends.mkl.is_available()
    finally:
        torch.set_default_dtype(before)


def test_a_record_is_computed_again_with_the_kernels_of_its_version(demo: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "gains", lambda: True)
    inputs, used = demo.inputs([demo.tokens("3 + 4 = 7, 12 + 9 =")] * 40), list[bool]()
    product = kernels._product
    monkeypatch.setattr(kernels, "_product", lambda *a: used.append(True) or product(*a))
    found: dict[int, torch.Tensor] = {}
    for engine in (1, 3, 4):
        demo.engine = engine
        used.clear()
        with demo.evaluating():
            found[engine] = demo.run(inputs).logits
        assert bool(used) == (engine >= 4)
    demo.engine = 4
    with torch.inference_mode():
        assert torch.equal(found[1], demo.model(**inputs.fields).logits)
    torch.testing.assert_close(found[4], found[3], rtol=1e-4, atol=1e-4)


# -- activations that are read ---------------------------------------------------------------------------------------------


def test_no_block_runs_after_the_last_activation_that_is_asked_for(demo: Subject) -> None:
    inputs = demo.inputs([demo.tokens("3 + 4 ="), demo.tokens("12 + 9 =")])
    sites = [Site("decoder", 1, "mlp.out"), Site("decoder", 3, "resid_pre"), Site("decoder", 0, "attn.pattern")]
    edit = Edit(Site("decoder", 0, "mlp.out"), "scale", torch.zeros(()))
    ran: list[int] = []
    hooks = [
        block.register_forward_pre_hook(lambda *_, b=b: ran.append(b)) for b, block in enumerate(demo.spec().blocks)
    ]
    try:
        with demo.evaluating():
            found = {edits: demo.activations(inputs, [*sites, sites[0]], edits) for edits in ((), (edit,))}
            # What the model gives each block is noted first, in a pass in which blocks compute nothing.
            assert ran == [*range(6), 0, 1, 2] * 2, "what enters block 3 is there before it runs"
            whole = {edits: demo.run(inputs, edits=edits, capture=sites).captured for edits in found}
    finally:
        for hook in hooks:
            hook.remove()
    for edits, got in found.items():
        assert set(got) == set(sites)
        assert all(torch.equal(got[s], whole[edits][s]) for s in sites)
    assert not torch.equal(found[()][sites[1]], found[(edit,)][sites[1]])


@pytest.mark.parametrize("edited", [False, True])
@pytest.mark.parametrize("limit", [None, 2**30])
def test_a_block_ends_with_the_last_activation_that_is_asked_of_it(demo: Subject, edited: bool, limit: int | None) -> None:
    subject = demo if limit is None else demo.keeping(Kept(limit))
    inputs, block = subject.inputs([subject.tokens("3 + 4 =")]), subject.spec().blocks[2]
    site, ran = Site("decoder", 2, "attn.q"), list[int]()
    edits = [Edit(Site("decoder", 1, "mlp.out"), "scale", torch.zeros(()))] if edited else []
    hook = block.mlp.register_forward_pre_hook(lambda *_: ran.append(2))
    try:
        with subject.evaluating():
            if limit is not None:
                subject.run(inputs)  # from here on the state after the block is known
            ran.clear()
            found = subject.activations(inputs, [site], edits)[site]
            assert not ran
            assert torch.equal(found, demo.run(inputs, edits=edits, capture=[site]).captured[site])
    finally:
        hook.remove()


def test_activations_that_do_not_exist_are_refused(demo: Subject) -> None:
    inputs = demo.inputs([demo.tokens("3 + 4 =")])
    with pytest.raises(SiteError, match="0 to 5"):
        demo.activations(inputs, [Site("decoder", 6, "mlp.out")])
    with pytest.raises(SubjectError, match="no stack"):
        demo.activations(inputs, [Site("encoder", 0, "mlp.out")])
    with pytest.raises(SiteError, match="0 to 5"):
        demo.activations(
            inputs, [Site("decoder", 1, "mlp.out")], [Edit(Site("decoder", 9, "mlp.out"), "add", torch.ones(1))]
        )


def test_the_tokens_of_a_text_are_the_same_again_whatever_was_done_with_them(demo: Subject) -> None:
    text = "3 + 4 = 7"
    first = demo.tokens(text)
    first.append(0)
    assert demo.tokens(text) == first[:-1] == demo.tokenizer(text)["input_ids"]
