"""What unchanged runs gave is kept for the next experiment: no result depends on it, and the memory is bounded."""

import copy
import sqlite3

import pytest
import scripts
import torch

from agent import replay, run
from tools.engine.executor import Variant
from tools.engine.kept import Kept, batch_key, share_of_free
from tools.engine.sites import Edit, Site
from tools.subjects import load_subject

TINY = 200_000


@pytest.fixture
def counted(subject_named, monkeypatch):
    """A small GPT-2, and the number of its blocks that have run."""
    subject = copy.copy(subject_named("gpt2"))
    ran = []
    for i, block in enumerate(subject.spec().blocks):
        monkeypatch.setattr(block, "forward", _counting(block.forward, ran, i))
    return subject, ran


def _counting(forward, ran, block):
    def counting(*args, **kwargs):
        ran.append(block)
        return forward(*args, **kwargs)

    return counting


def measured(subject, inputs):
    """Logits, activations, and a sweep with variants of all kinds: as they are, edited anywhere and at a later position."""
    blocks = tuple(range(len(subject.spec().blocks)))
    late = Edit(Site(subject.readout, 1, "mlp.out"), "scale", torch.zeros(()), torch.full((inputs.size, 1), 4))
    whole = Edit(Site(subject.readout, 0, "attn.z"), "scale", torch.zeros(()))
    variants = [
        Variant(blocks),
        Variant(blocks, (late,)),
        Variant(blocks, (whole,)),
        Variant(blocks[:1]),
        Variant(blocks, (late,)),
    ]
    sites = [Site(subject.readout, b, kind) for b in blocks for kind in ("attn.z", "mlp.act", "resid_post")]
    with torch.inference_mode():
        swept = subject.sweep(inputs, variants, lambda h, _: h[:, -1], max_tokens=64)[0]
        seen = subject.activations(inputs, sites, [whole] if inputs.size == 2 else [])
        return [subject.run(inputs).logits, *seen.values(), *swept]


@pytest.mark.parametrize("limit", [0, TINY, 2**30])
def test_no_number_depends_on_what_is_kept(subject, batch, rows, limit):
    inputs = batch(subject, rows)
    plain, keeping = measured(subject, inputs), subject.keeping(Kept(limit))
    for _ in range(2):
        assert all(torch.equal(a, b) for a, b in zip(plain, measured(keeping, inputs), strict=True))
        assert keeping.kept.used <= limit


def test_what_is_known_is_not_computed_again(counted, batch, rows):
    subject, ran = counted
    inputs = batch(subject, rows)
    keeping = subject.keeping(Kept(2**30))
    with torch.inference_mode():
        first = keeping.run(inputs).logits
        once = len(ran)
        again = keeping.run(inputs).logits
        assert once == len(subject.spec().blocks)
        assert len(ran) == once
        assert torch.equal(first, again)
        other = [[t + 1 for t in row] for row in rows]
        assert not torch.equal(keeping.run(batch(subject, other)).logits, first)
        assert len(ran) == 2 * once, "another batch is another one"


def test_changed_weights_are_another_model(subject_named, batch, rows):
    subject = load_subject("demo").keeping(Kept(2**30))
    inputs = subject.inputs([[3, 4, 5], [6, 7, 8]])
    with torch.inference_mode():
        before = subject.run(inputs).logits
    with torch.no_grad():
        next(p for n, p in subject.model.named_parameters() if "mlp.c_proj.bias" in n).add_(1.0)
        assert not torch.equal(subject.run(inputs).logits, before)


def test_gradients_are_never_of_what_was_kept(subject_named, batch, rows):
    subject = subject_named("gpt2").keeping(Kept(2**30))
    inputs = batch(subject, rows)
    with torch.inference_mode():
        subject.run(inputs)
    found = subject.run(inputs).logits
    assert found.requires_grad
    found.sum().backward()
    subject.model.zero_grad()


def test_writing_to_what_was_handed_out_changes_nothing(subject_named, batch, rows):
    subject = subject_named("gpt2").keeping(Kept(2**30))
    inputs, site = batch(subject, rows), Site("decoder", 0, "mlp.act")
    with torch.no_grad():
        first = subject.activations(inputs, [site])[site]
        truth = first.clone()
        for handed in (first, subject.activations(inputs, [site])[site]):
            handed.zero_()
        assert torch.equal(subject.activations(inputs, [site])[site], truth)


def test_the_least_recently_used_goes_first_and_a_view_does_not_hold_its_whole():
    kept, one = Kept(400), torch.zeros(25)
    kept.put("a", one.clone(), one.clone())
    kept.put("b", torch.zeros(1000)[:25])
    assert kept.used == 300
    assert kept.get("b")[0].untyped_storage().nbytes() == 100
    assert kept.get("a") is not None
    kept.put("c", *[one.clone()] * 2)
    assert (kept.get("b"), kept.used) == (None, 400)
    kept.put("too much", torch.zeros(101))
    assert kept.get("too much") is None
    kept.clear()
    assert kept.used == 0
    with pytest.raises(ValueError, match="0 or more"):
        Kept(-1)
    assert share_of_free(torch.device("cpu")) > 0


@pytest.mark.parametrize("text", ["much", "2", "1XB", ""])
def test_a_memory_limit_that_is_no_size_is_refused(text, capsys):
    with pytest.raises(SystemExit) as ended:
        run.main(["--goal", "find where addition happens", "--memory-limit", text])
    assert ended.value.code == 2
    assert "500MB or 2GB" in capsys.readouterr().err


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """One scripted run with nothing and with much kept: what is in each store, and the folders."""
    calls = [
        scripts.call("loss", tasks=["addition"], examples=16),
        scripts.call("ablate", task="addition", components=["attn.z[*]@answer", "mlp.out@answer"], intervention="resample", examples=16),
        scripts.call("ablate", task="addition", components=["mlp.out@answer"], intervention="resample", examples=16),
        scripts.call("patch", task="addition", examples=16),
    ]  # fmt: skip
    turns = [*({"text": "Look.", "calls": [c]} for c in calls)]
    turns.append({"text": "End.", "calls": [scripts.call("finish", answer="unclear", words="Looked.")]})
    found = {}
    for limit in ("0", "1GB"):
        folder = tmp_path_factory.mktemp("kept")
        where = ["--db", str(folder / "e.db"), "--out", str(folder / "t"), "--device", "cpu", "--quiet"]
        planner = f"scripted:{scripts.write(folder / 's.jsonl', turns)}"
        assert (
            run.main(["--goal", "x", "--subject", "demo", "--planner", planner, "--memory-limit", limit, *where]) == 0
        )
        found[limit] = folder
    return found


def test_the_store_is_the_same_with_much_and_with_nothing_kept(stores):
    sql = "SELECT x.id, r.status, r.text, r.sha FROM results r JOIN experiments x ON x.id = r.experiment ORDER BY x.id"
    rows = []
    for folder in stores.values():
        with sqlite3.connect(folder / "e.db") as db:
            rows.append(db.execute(sql).fetchall())
    assert len(rows[0]) == 4
    assert rows[0] == rows[1]


def test_a_run_made_with_nothing_kept_replays_to_the_last_bit(stores, capsys):
    assert replay.main(["latest", "--db", str(stores["0"] / "e.db"), "--device", "cpu"]) == 0
    assert "4 of 4 experiments came out as recorded, 4 of them to the last bit" in capsys.readouterr().out


def test_a_model_that_lies_where_another_lay_is_not_taken_for_it():
    first, second = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
    ids = {"input_ids": torch.arange(6).reshape(2, 3)}
    second.weight, second.bias = first.weight, first.bias  # as after `first` is gone and its memory is given out again
    assert batch_key(first, "decoder", ids) == batch_key(first, "decoder", ids)
    assert batch_key(first, "decoder", ids) != batch_key(second, "decoder", ids)
