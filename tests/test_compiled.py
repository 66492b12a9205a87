"""Compiled programs do their task, and what is said to be true of them is: plain hooks on the plain model say so.

Nothing of the compiler is used to test it: facts are read as texts, places are found by the families' own module names.
"""

import json
import random
import re
from collections import Counter
from functools import partial

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.planted.compiled import PROGRAMS, compile_case, main, write_case
from experiments_db.places import Component, Path
from tools.subjects import load_subject
from tools.tasks import chance_level, from_records, read_jsonl

SEEDS = (0, 1, 2)  # every program in every family
CASES = [(name, seed) for name in PROGRAMS for seed in SEEDS]
NAMES = {
    "GPT2LMHeadModel": ("transformer.h", "transformer.ln_f", "attn.c_proj", "ln_1", "ln_2"),
    "LlamaForCausalLM": ("model.layers", "model.norm", "self_attn.o_proj", "input_layernorm", "post_attention_layernorm"),
    "GPTNeoXForCausalLM": ("gpt_neox.layers", "gpt_neox.final_layer_norm", "attention.dense", "input_layernorm", "post_attention_layernorm"),
}  # fmt: skip
PLACE = re.compile(
    r"decoder(?:\.(\d+))?\.(attn\.(?:z|q|k|v|pattern)|mlp\.out|resid_pre|logits)(?:\[(\d+)\])?(?:@(\w+))?(?:<-(\w+))?"
)


def parse(text):
    block, part, head, anchor, key = PLACE.fullmatch(text).groups()
    return (None if block is None else int(block), part, None if head is None else int(head), anchor, key)


class Bench:
    """A case's examples in batches of one length, and the accuracy of the model under interventions."""

    def __init__(self, case, n=120):
        self.model = case.model
        blocks, norm, self.o, self.ln1, self.ln2 = NAMES[type(self.model).__name__]
        self.blocks, self.norm = self.model.get_submodule(blocks), self.model.get_submodule(norm)
        self.heads = self.model.config.num_attention_heads
        self.samples = case.samples("explore", n // 2) + case.samples("confirm", n // 2)
        # A model that is left with nothing has logits that are all alike, and guesses among the answers' tokens.
        tokens = {t for s in self.samples for t in s.example.answer.split()}
        self.chance = max(chance_level([s.example for s in self.samples]), 1 / len(tokens))
        self.groups, rng = {}, random.Random(0)
        for s in self.samples:
            ids = case.tokenizer(s.example.prompt + s.example.answer)["input_ids"]
            assert case.tokenizer.unk_token_id not in ids
            twin = case.tokenizer(s.example.twin + s.example.foil)["input_ids"]
            assert len(twin) == len(ids) and twin != ids
            self.groups.setdefault((len(ids), len(ids) - s.roles["answer"][0]), []).append((s, ids, twin))
        self.batches = [Batch(self, rows, rng) for rows in self.groups.values()]

    def o_proj(self, b):
        return self.blocks[b].get_submodule(self.o)

    def accuracy(self, edits, of_class=None, donors="any", chosen=None):
        """Share of right answers; edits: (function of a batch -> list of hooks)."""
        right = total = 0
        for batch in self.batches:
            perm = batch.donors(donors, of_class)
            keep = torch.tensor(
                [of_class in (None, s.of_class) and (chosen is None or chosen(s)) for s in batch.samples]
            )
            if perm is None:
                keep &= False
                continue
            keep &= perm >= 0
            logits = batch.run(edits(batch, perm.clamp(min=0)))
            right += int((batch.hits(logits) & keep).sum())
            total += int(keep.sum())
        assert total >= 8, "too few examples to say"
        return right / total


class Batch:
    def __init__(self, bench, rows, rng):
        self.bench, self.rng = bench, rng
        self.samples = [r[0] for r in rows]
        self.ids, self.twins = (torch.tensor([r[i][:-1] for r in rows]) for i in (1, 2))
        a, b = self.samples[0].roles["answer"]
        self.span, self.targets = slice(a, b), torch.tensor([r[1][a + 1 : b + 1] for r in rows])
        self.foils = torch.tensor([r[2][a + 1 : b + 1] for r in rows])
        self.clean = self.record(self.ids)

    def record(self, ids):
        found, handles = {}, []
        for b, block in enumerate(self.bench.blocks):
            handles.append(block.register_forward_pre_hook(lambda m, a, b=b: found.update({(b, "resid_pre"): a[0]})))
            handles.append(
                self.bench.o_proj(b).register_forward_pre_hook(lambda m, a, b=b: found.update({(b, "z"): a[0]}))
            )
            handles.append(block.mlp.register_forward_hook(lambda m, a, o, b=b: found.update({(b, "mlp"): o})))
        with torch.inference_mode():
            found["logits"] = self.bench.model(ids, use_cache=False).logits
        for h in handles:
            h.remove()
        return found

    def run(self, handles):
        with torch.inference_mode():
            logits = self.bench.model(self.ids, use_cache=False).logits
        for h in handles:
            h.remove()
        return logits

    def hits(self, logits, targets=None):
        return (logits[:, self.span].argmax(-1) == (self.targets if targets is None else targets)).all(-1)

    def donors(self, how, of_class):
        """For each row another one of the same roles (and class, if one is asked for); -1 where there is none."""
        out = []
        for i, s in enumerate(self.samples):
            fit = [
                j for j, d in enumerate(self.samples)
                if j != i and (of_class is None or d.of_class == s.of_class) and (of_class is None or d.roles.keys() == s.roles.keys())
            ]  # fmt: skip
            if how == "other":  # one that has another answer, where there is one
                fit = [j for j in fit if self.samples[j].example.answer != s.example.answer] or fit
            out.append(self.rng.choice(fit) if fit else -1)
        return torch.tensor(out)

    def where(self, anchor, perm):
        """(mask of the anchor's positions, the donor's position for each), both (rows, seq)."""
        rows, seq = self.ids.shape
        source = torch.arange(seq).repeat(rows, 1)
        if anchor is None:
            return torch.ones(rows, seq, dtype=torch.bool), source
        mask = torch.zeros(rows, seq, dtype=torch.bool)
        for i, s in enumerate(self.samples):
            if anchor in s.roles:
                a, b = s.roles[anchor]
                mask[i, a:b] = True
                theirs = self.samples[perm[i]].roles.get(anchor)
                if theirs:
                    source[i, a:b] = torch.arange(*theirs)
        return mask, source

    def new(self, x, op, perm, source):
        return torch.zeros_like(x) if op == "zero" else x[perm[:, None], source]

    def part(self, place):
        """A component's clean activation: a head's z or an MLP's output."""
        block, part, head, *_ = place
        if part == "mlp.out":
            return self.clean[block, "mlp"]
        return self.clean[block, "z"].unflatten(-1, (self.bench.heads, -1))[:, :, head]

    def ablate(self, text, op, perm, mask=None):
        """A hook that zeroes a component, or takes it from the donors, at its anchor."""
        place = block, part, head, anchor, _ = parse(text)
        at, source = self.where(anchor, perm)
        at = at if mask is None else mask
        new = self.new(self.part(place), op, perm, source)
        if part == "mlp.out":
            return self.bench.blocks[block].mlp.register_forward_hook(
                lambda m, a, o: torch.where(at[..., None], new, o)
            )

        def hook(module, args):
            z = args[0].unflatten(-1, (self.bench.heads, -1)).clone()
            z[:, :, head] = torch.where(at[..., None], new, z[:, :, head])
            return (z.flatten(-2), *args[1:])

        return self.bench.o_proj(block).register_forward_pre_hook(hook)

    def patch_path(self, perm, text, op):
        """Hooks by which one receiver alone sees the sender zeroed or taken from the donors."""
        sender, receiver = (parse(t) for t in text.split(" -> "))
        at, source = self.where(sender[3], perm)
        x = self.part(sender)
        change = torch.where(at[..., None], self.new(x, op, perm, source) - x, 0)
        if sender[1] != "mlp.out":
            o, n = self.bench.o_proj(sender[0]).weight, x.shape[-1]
            mine = slice(sender[2] * n, (sender[2] + 1) * n)
            change = change @ (o[mine] if type(self.bench.model).__name__.startswith("GPT2") else o[:, mine].T)
        add = lambda m, a: (a[0] + change, *a[1:])
        if receiver[1] == "logits":
            return [self.bench.norm.register_forward_pre_hook(add)]
        block = self.bench.blocks[receiver[0]]
        if receiver[1] == "mlp.out":
            return [block.get_submodule(self.bench.ln2).register_forward_pre_hook(add)]
        norm, attn = block.get_submodule(self.bench.ln1), block.get_submodule(self.bench.o.split(".")[0])
        letter, head, seen = receiver[1][-1], receiver[2], {}
        first = norm.register_forward_pre_hook(lambda m, a: seen.update(h=a[0]))

        def hook(module, args, out):
            other = module.forward(norm.forward(seen["h"] + change))
            if hasattr(attn, "c_attn"):
                shape, pick = (3, self.bench.heads, -1), (..., "qkv".index(letter), head)
            elif hasattr(attn, "query_key_value"):
                shape, pick = (self.bench.heads, 3, -1), (..., head, "qkv".index(letter))
            else:
                shape, pick = (self.bench.heads, -1), (..., head)
            view = out.unflatten(-1, shape).clone()
            view[(*pick, slice(None))] = other.unflatten(-1, shape)[(*pick, slice(None))]
            return view.flatten(-len(shape))

        module = next(getattr(attn, n) for n in ("c_attn", "query_key_value", f"{letter}_proj") if hasattr(attn, n))
        return [first, module.register_forward_hook(hook)]


@pytest.fixture(scope="module", params=CASES, ids=lambda c: f"{c[0]}-{c[1]}")
def bench(request):
    name, seed = request.param
    case = compile_case(name, seed)
    return case, Bench(case)


def broken(bench, accuracy):
    """As good as a guess, with room for a guess's luck."""
    return accuracy <= bench.chance + 0.15


def ablating(texts, op):
    return lambda x, perm: [x.ablate(t, op, perm) for t in texts]


def of_kind(case, *kinds):
    return [f for f in case.truth if f.kind in kinds]


def test_every_example_is_answered_right_unless_the_model_cannot(bench):
    case, b = bench
    accuracy = b.accuracy(lambda *_: [])
    twins = [batch.hits(batch.record(batch.twins)["logits"], batch.foils).float().mean().item() for batch in b.batches]
    if of_kind(case, "cannot"):
        assert broken(b, accuracy)
    else:
        assert accuracy == 1
        assert min(twins) == 1


def test_necessary_components_break_the_task_one_by_one_at_their_positions(bench):
    case, b = bench
    for fact in of_kind(case, "necessary"):
        for text in fact.components:
            for op in fact.ops:
                found = b.accuracy(ablating([text], op), fact.of_class, "other")
                assert broken(b, found), (text, op, found)


def test_components_that_are_not_needed_change_nothing_together(bench):
    case, b = bench
    for fact in of_kind(case, "not_needed"):
        for op in fact.ops:
            found = b.accuracy(ablating(fact.components, op), fact.of_class)
            assert found == 1, (fact, op, found)


def test_redundant_components_break_the_task_only_together(bench):
    case, b = bench
    for fact in of_kind(case, "jointly_necessary"):
        for op in fact.ops:
            found = b.accuracy(ablating(fact.components, op), fact.of_class, "other")
            assert broken(b, found), (fact, op, found)
    for fact in of_kind(case, "redundant"):
        for text in fact.components:
            for op in fact.ops:
                assert b.accuracy(ablating([text], op), fact.of_class, "other") == 1


def test_steps_are_not_needed_anywhere_but_where_the_truth_says(bench):
    case, b = bench
    anchors = {}
    for fact in of_kind(case, "necessary", "jointly_necessary"):
        for text in fact.components:
            place, _, anchor = text.partition("@")
            anchors.setdefault(place, set()).add(anchor)

    def elsewhere(x, perm):
        masks = {p: ~torch.stack([x.where(a, perm)[0] for a in at]).any(0) for p, at in anchors.items()}
        return [x.ablate(p, "zero", perm, mask) for p, mask in masks.items()]

    if anchors:
        assert b.accuracy(elsewhere) == 1


def test_every_component_is_accounted_for(bench):
    case, b = bench
    said = {
        t.partition("@")[0] for f in of_kind(case, "necessary", "not_needed", "jointly_necessary") for t in f.components
    }
    every = {f"decoder.{k}.attn.z[{h}]" for k in range(len(b.blocks)) for h in range(b.heads)}
    every |= {f"decoder.{k}.mlp.out" for k in range(len(b.blocks))}
    assert of_kind(case, "cannot") or said == every


def test_paths_carry_what_the_task_needs_to_their_receiver_alone(bench):
    case, b = bench
    for fact in of_kind(case, "sends"):
        for text in fact.components:
            for op in fact.ops:
                found = b.accuracy(partial(Batch.patch_path, text=text, op=op), fact.of_class, "other")
                assert broken(b, found), (text, op, found)


def test_states_that_carry_a_value_bring_the_twins_answer(bench):
    case, b = bench
    for fact in of_kind(case, "carries"):
        block, _, _, anchor, _ = parse(*fact.components)
        moved = total = 0
        for x in b.batches:
            keep = torch.tensor([s.source == fact.source and anchor in s.roles for s in x.samples])
            at = x.where(anchor, torch.arange(len(x.samples)))[0][..., None]
            twin = x.record(x.twins)[block, "resid_pre"]
            hook = b.blocks[block].register_forward_pre_hook(
                lambda m, a, at=at, new=twin: (torch.where(at, new, a[0]), *a[1:])
            )
            hits = x.hits(x.run([hook]), x.foils)
            moved, total = moved + int((hits & keep).sum()), total + int(keep.sum())
        if fact.of_class is None:
            assert total >= 8
        assert moved == total, (fact, moved, total)


def test_heads_look_where_the_truth_says_with_all_of_their_weight(bench):
    case, b = bench
    facts = of_kind(case, "attends")
    if not facts:
        return
    case.model.set_attn_implementation("eager")
    try:
        for x in b.batches:
            with torch.inference_mode():
                patterns = case.model(x.ids, output_attentions=True, use_cache=False).attentions
            for fact in facts:
                block, _, head, anchor, key = parse(*fact.components)
                for i, s in enumerate(x.samples):
                    if fact.of_class not in (None, s.of_class):
                        continue
                    (q, _), keys = s.roles[anchor], slice(*s.roles[key])
                    assert patterns[block][i, head, q, keys].sum() >= 1 - 1e-6
    finally:
        case.model.set_attn_implementation("sdpa")


def test_a_suppressor_lowers_the_token_that_it_looks_at(bench):
    case, b = bench
    for fact in of_kind(case, "suppresses"):
        for x in b.batches:
            logits = x.run([x.ablate(t, "zero", torch.arange(len(x.samples))) for t in fact.components])
            for i, s in enumerate(x.samples):
                token = x.ids[i, s.roles[fact.source][0]]
                assert logits[i, -1, token] > x.clean["logits"][i, -1, token] + 10


def test_there_are_programs_enough_in_three_families_and_each_case_is_made_the_same_again():
    assert len(PROGRAMS) >= 10
    cases = [compile_case(n, s) for n in ("previous", "lookup", "chain") for s in SEEDS]
    assert len({c.plan.family for c in cases}) == 3
    assert {c.plan.blocks for c in cases} <= set(range(2, 7))
    state = torch.random.get_rng_state()
    again = [compile_case(c.name, c.seed) for c in cases]
    assert torch.equal(torch.random.get_rng_state(), state)
    for a, c in zip(again, cases, strict=True):
        assert a.truth == c.truth and a.plan == c.plan
        assert all(
            torch.equal(x, y) for x, y in zip(a.model.state_dict().values(), c.model.state_dict().values(), strict=True)
        )
        assert a.samples("explore", 20) == c.samples("explore", 20)


@pytest.mark.parametrize("name", PROGRAMS)
def test_facts_are_written_in_the_projects_grammar(name):
    for seed in SEEDS:
        for fact in compile_case(name, seed).truth:
            for text in fact.components:
                assert str((Path if " -> " in text else Component).parse(text)) == text


def test_a_seed_moves_the_mechanism():
    places = {tuple(compile_case("induction", s).plan.places.items()) for s in range(8)}
    assert len(places) >= 6


@pytest.mark.parametrize("name", PROGRAMS)
def test_splits_share_no_problem_and_spans_name_the_tokens_of_their_roles(name):
    case = compile_case(name, 3)
    explore, confirm = case.samples("explore", 100), case.samples("confirm", 100)
    assert len(explore) >= 20 <= len(confirm)
    assert not {s.group for s in explore} & {s.group for s in confirm}
    assert len({s.group for s in explore}) >= 15
    for s in explore:
        words = s.example.prompt.split()
        for role, (a, b) in s.spans.items():
            i, j = s.roles[role]
            assert s.example.prompt[a:b].split() == words[i:j] != []
        assert s.example.foil != s.example.answer
        if s.source and s.source in s.roles:
            differ = {i for i, (u, v) in enumerate(zip(words, s.example.twin.split(), strict=True)) if u != v}
            i, j = s.roles[s.source]
            assert differ <= set(range(i, j))
    assert [s.example for s in explore] == case.task.examples("explore", 100)


def test_norms_of_weights_do_not_tell_true_heads_from_noise():
    """AUROC of the output norm of a head with a part among all that are not zero."""
    pairs = Counter()
    for name in PROGRAMS:
        for seed in range(3, 5):
            case = compile_case(name, seed)
            b = Bench(case, 4)
            gpt2 = case.plan.family == "gpt2"
            true = {parse(t)[:3:2] for f in of_kind(case, "necessary", "jointly_necessary") for t in f.components}
            norms = {}
            for k in range(len(b.blocks)):
                o = b.o_proj(k).weight if gpt2 else b.o_proj(k).weight.T
                for h, w in enumerate(o.unflatten(0, (b.heads, -1))):
                    norms[k, h] = w.norm().item()
            mine = [v for p, v in norms.items() if p in true]
            rest = [v for p, v in norms.items() if p not in true and v > 0]
            for u in mine:
                for v in rest:
                    pairs[u > v] += 1
    assert 0.3 < pairs[True] / pairs.total() < 0.7


@pytest.mark.parametrize(("name", "seed"), [("chain", 0), ("chain", 1), ("chain", 2)])
def test_a_written_case_is_a_subject_that_does_its_written_task(tmp_path, name, seed):
    case = write_case(name, seed, tmp_path)
    subject = load_subject(str(tmp_path))
    assert subject.family.name == case.plan.family
    task = from_records("t", "", read_jsonl(tmp_path / "task.jsonl"))
    examples = task.examples("confirm", 50)
    kept = json.loads((tmp_path / "truth.json").read_text())
    assert {e.prompt for e in examples} <= set(kept["places"])
    assert kept["truth"] == [f.as_json() for f in case.truth]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    for e in examples:
        ids = torch.tensor([subject.tokens(e.prompt)])
        with torch.inference_mode():
            logits = model(ids).logits
        assert tokenizer.decode(logits[0, -1].argmax()) == e.answer.strip()
        assert torch.equal(logits, case.model(ids).logits)


def test_bfloat16_does_the_tasks_too():
    for name in sorted(PROGRAMS.keys() - {"majority", "other_name"}):  # these average: scores in bfloat16 are not alike
        for seed in (0, 1):
            case = compile_case(name, seed)
            if of_kind(case, "cannot"):
                continue
            case.model.to(torch.bfloat16)
            for batch in Bench(case, 32).batches:
                assert batch.hits(batch.clean["logits"]).all(), (name, seed)


def test_the_command_lists_and_writes(tmp_path, capsys):
    assert main(["--list", "--program", "chain", "--program", "shadow"]) == 0
    printed = capsys.readouterr().out
    assert "chain (" in printed and "shadow (" in printed and "induction (" not in printed
    assert main(["--write", str(tmp_path), "--program", "previous", "--seed", "4"]) == 0
    assert (tmp_path / "previous-4" / "model.safetensors").is_file()
    with pytest.raises(SystemExit):
        main([])
