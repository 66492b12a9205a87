"""A chat model in process: whatever it would like to write, what it writes is a call that the schemas allow."""

import json

import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from agent import run
from agent.planners.base import Answer, Exchange, PlannerError, ToolCall, ToolInfo, Turn, View
from agent.planners.local import Local
from experiments_db.store import Store
from tools.methods.tool import discover

TOOLS = discover()
INFOS = [ToolInfo(t.name, t.description, t.schema()) for t in TOOLS.values()]
TEMPLATE = (
    "{% for t in tools or [] %}{{ t | tojson }}\n{% endfor %}"
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% for c in m.tool_calls or [] %}"
    "{{ c.function.name }} {{ c.function.arguments | tojson }}{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny Llama with random weights, a real tokenizer and a chat template that shows tools and calls."""
    path = tmp_path_factory.mktemp("chat")
    words = ByteLevelBPETokenizer()
    words.train_from_iterator([t.description for t in TOOLS.values()] * 3, vocab_size=600, special_tokens=["<|end|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words._tokenizer, eos_token="<|end|>", chat_template=TEMPLATE)
    tokenizer.save_pretrained(path)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1,  # it reads all tools
        max_position_embeddings=32768, eos_token_id=tokenizer.eos_token_id, bos_token_id=None, initializer_range=0.5,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(path)
    return path


def view(*exchanges):
    return View(goal="find it", subject="demo", tools=INFOS, exchanges=list(exchanges), budget="1 of 9 experiments")


async def test_every_call_of_a_random_model_is_valid_by_the_schema(folder):
    planner = Local.load(str(folder))
    seen = []
    exchanges = []
    for _ in range(4):
        turn = await planner.propose(view(*exchanges))
        assert turn.usage.prompt_tokens > 100
        assert turn.usage.completion_tokens > 0
        for call in turn.calls:
            tool = TOOLS[call.name]
            given = json.loads(call.arguments)
            assert set(given) == set(tool.schema()["properties"])
            seen.append(call.name)
        exchanges.append(Exchange(turn, tuple(Answer(c.id, "no", "rejected") for c in turn.calls)))
    assert seen


async def test_the_same_view_gives_the_same_call(folder):
    first, again = [await Local.load(str(folder)).propose(view()) for _ in range(2)]
    assert (first.calls, first.text) == (again.calls, again.text)


async def test_a_long_history_is_cut_to_the_models_positions(folder):
    planner = Local.load(str(folder))
    planner.model.config.max_position_embeddings = 9000
    exchange = Exchange(Turn((ToolCall("a", "list_tasks", "{}"),)), (Answer("a", "word " * 3000),))
    ids = planner._prompt(view(*[exchange] * 6))
    assert len(ids) <= 9000
    planner.model.config.max_position_embeddings = 1100
    with pytest.raises(PlannerError, match="too few"):
        planner._prompt(view())


def test_a_run_with_a_local_planner_ends_in_a_report(folder, tmp_path, capsys):
    argv = [
        "--goal",
        "see what it does",
        "--planner",
        f"local:{folder}",
        "--db",
        str(tmp_path / "e.db"),
        "--device",
        "cpu",
    ]
    assert (
        run.main([*argv, "--out", str(tmp_path / "t"), "--max-experiments", "2", "--max-minutes", "2", "--quiet"]) == 0
    )
    store = Store(tmp_path / "e.db")
    name = store.runs()[0]
    assert store.run(name).status in ("stopped", "finished")
    assert (tmp_path / "t" / name / "report.md").is_file()
    assert store.verify() == []
    turns = [e.payload for e in store.events(name) if e.kind == "turn"]
    assert turns
    assert all(t["usage"]["prompt_tokens"] > 0 for t in turns)


@pytest.mark.parametrize(("kind", "says"), [("nowhere", "cannot be loaded"), ("plain", "chat template")])
def test_a_model_that_is_none_is_refused_in_one_line(kind, says, folder, tmp_path, capsys):
    where = tmp_path / kind
    if kind == "plain":
        import shutil

        shutil.copytree(folder, where)
        (where / "chat_template.jinja").unlink(missing_ok=True)
    argv = ["--goal", "g", "--planner", f"local:{where}", "--db", str(tmp_path / "e.db"), "--out", str(tmp_path / "t")]
    assert run.main([*argv, "--quiet"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert says in error
