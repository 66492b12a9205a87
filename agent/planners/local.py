"""A chat model in this process: it thinks freely, then writes one call under a grammar, so that every call is schema-valid.

However weak the model, what it writes after thinking can only be a JSON object {"name": tool, "arguments": {...}} that the
tool's schema allows: tokens that would leave the grammar are masked (llguidance). Greedy, so the same view gives the same
call. The model has a device and type of its own, so that it does not crowd out the subject.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from agent.planners.base import PlannerError, ToolCall, Turn, Usage, View
from agent.planners.chat import messages

THOUGHT_TOKENS, CALL_TOKENS = 256, 768
TEXT_LENGTH, LIST_LENGTH = 300, 12  # bounds in the grammar: a weak model would else never end a string


class Local:
    """Proposes turns with a transformers chat model."""

    delegates = True  # may have a child run investigate, which it drives too

    knows_price = True

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        import llguidance.hf

        self.model, self.tokenizer, self._name = model.eval(), tokenizer, name
        self._grammars = llguidance.hf.from_tokenizer(tokenizer, n_vocab=len(tokenizer))
        self._own = own_tokens(tokenizer)
        eos = tokenizer.eos_token_id
        self._stops = {eos} if eos is not None else set[int]()
        more = getattr(model.generation_config, "eos_token_id", None)
        self._stops |= set(more) if isinstance(more, list) else {more} if more is not None else set()

    @classmethod
    def load(cls, name: str, *, device: str = "cpu", dtype: str = "auto") -> "Local":
        """From a folder or a hub name; safetensors only, no code of the model's own. PlannerError says what is wrong."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
            model: Any = AutoModelForCausalLM.from_pretrained(
                name, dtype=dtype, use_safetensors=True, trust_remote_code=False
            )
            model = model.to(device)
        except (OSError, ValueError, KeyError, RuntimeError, AttributeError) as error:
            first = " ".join(str(error).split())[:300]
            raise PlannerError(f"the local planner {name} cannot be loaded on {device} as {dtype}: {first}") from None
        if tokenizer.chat_template is None:
            raise PlannerError(f"{name} has no chat template: a local planner has to be a chat model")
        return cls(model, tokenizer, name)

    @property
    def name(self) -> str:
        """For example local:./my-chat-model."""
        return f"local:{self._name}"

    async def propose(self, view: View) -> Turn:
        """Think, then call. PlannerError where the view does not fit into the model's positions."""
        import asyncio

        return await asyncio.to_thread(self._propose, view)

    @torch.inference_mode()
    def _propose(self, view: View) -> Turn:
        prompt = self._prompt(view)
        thought = self._generate(prompt, THOUGHT_TOKENS, None)
        text = self.tokenizer.decode(thought, skip_special_tokens=True).strip()
        lead = self.tokenizer("\nThe call: ", add_special_tokens=False)["input_ids"]
        written = self._generate([*prompt, *thought, *lead], CALL_TOKENS, grammar(view))
        usage = Usage(len(prompt), len(thought) + len(lead) + len(written), 0.0)
        raw = self.tokenizer.decode(written, skip_special_tokens=True)
        try:
            call = json.loads(raw)
        except json.JSONDecodeError:  # cut off at CALL_TOKENS
            return Turn((), f"{text}\n{raw[:200]}", usage)
        identity = f"local-{len(view.exchanges) + 1}"
        return Turn((ToolCall(identity, call["name"], json.dumps(call["arguments"])),), text, usage)

    def _prompt(self, view: View) -> list[int]:
        """The view under the model's own chat template, with as many of the latest messages as fit."""
        said = [self._for_template(m) for m in messages(view)]
        tools = [
            {
                "type": "function",
                "function": {"name": t.name, "description": t.description, "parameters": dict(t.parameters)},
            }
            for t in view.tools
        ]
        room = int(getattr(self.model.config, "max_position_embeddings", 1 << 30)) - THOUGHT_TOKENS - CALL_TOKENS - 16
        for given in (tools, [_short(t) for t in tools], None):
            kept = list(said)
            while True:
                ids = self._template(kept, given)
                if len(ids) <= room:
                    return ids
                # Drop the oldest of what came after the question; a tool's answer goes with its call.
                at = next((i for i, m in enumerate(kept[2:-1], 2) if m["role"] != "tool"), None)
                if at is None:
                    break
                end = at + 1
                while end < len(kept) - 1 and kept[end]["role"] == "tool":
                    end += 1
                del kept[at:end]
        raise PlannerError(
            f"{self._name} has {room + THOUGHT_TOKENS + CALL_TOKENS} positions: too few for the question and the tools"
        )

    def _for_template(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Templates take past arguments as objects, and text as a string, in which no token of the template's own may stand."""

        def plain(value: Any) -> Any:
            if isinstance(value, str):
                return self._own.sub(lambda m: f"{m[0][0]} {m[0][1:]}", value) if self._own else value
            if isinstance(value, list):
                return [plain(v) for v in value]
            return {k: plain(v) for k, v in value.items()} if isinstance(value, dict) else value

        out = {**message, "content": plain(message.get("content") or "")}
        if "tool_calls" in message:
            out["tool_calls"] = [
                {**c, "function": {**c["function"], "arguments": plain(json.loads(c["function"]["arguments"]))}}
                for c in message["tool_calls"]
            ]
        return out

    def _template(self, said: Sequence[Mapping[str, Any]], tools: Any) -> list[int]:
        from jinja2 import TemplateError

        try:
            made = self.tokenizer.apply_chat_template(
                list(said), tools=tools, add_generation_prompt=True, tokenize=True, return_dict=True
            )
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            first = " ".join(str(error).split())[:300]
            raise PlannerError(
                f"the chat template of {self._name} cannot be used: {type(error).__name__}: {first}"
            ) from None
        ids = made["input_ids"]
        return list(ids[0]) if ids and isinstance(ids[0], list) else list(ids)

    def _generate(self, prompt: Sequence[int], limit: int, rule: str | None) -> list[int]:
        """Greedy continuation, under a grammar if there is one; without the token that ends it."""
        import llguidance.torch

        matcher = llguidance.LLMatcher(self._grammars, rule) if rule is not None else None
        if matcher is not None and matcher.is_error():
            raise PlannerError(f"the tools' schemas make no grammar: {matcher.get_error()}")
        size = self._grammars.vocab_size
        mask = llguidance.torch.allocate_token_bitmask(1, size)
        ids = torch.tensor([list(prompt)], device=self.model.device)
        out: list[int] = []
        cache = None
        while len(out) < limit:
            step = self.model(input_ids=ids, past_key_values=cache, use_cache=True)
            cache, logits = step.past_key_values, step.logits[:, -1, :size].float()
            if matcher is not None:
                llguidance.torch.fill_next_token_bitmask(matcher, mask)
                logits = logits.cpu()
                llguidance.torch.apply_token_bitmask_inplace(logits, mask)
            token = int(logits.argmax())
            if token in self._stops:
                break
            out.append(token)
            if matcher is not None:
                matcher.consume_token(token)
                if matcher.is_stopped():
                    break
            ids = torch.tensor([[token]], device=self.model.device)
        return out


def grammar(view: View) -> str:
    """The grammar of one call of any tool: anyOf {name: const, arguments: its schema}, texts and lists bounded."""
    from llguidance import LLMatcher

    options = [
        {
            "type": "object",
            "properties": {"name": {"const": t.name}, "arguments": _bounded(t.parameters)},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for t in view.tools
    ]
    return LLMatcher.grammar_from_json_schema(json.dumps({"anyOf": options}), defaults={"whitespace_flexible": False})


def own_tokens(tokenizer: Any) -> re.Pattern[str] | None:
    """What of a text a tokenizer reads as a token of its own, such as the end of a message; None where it has no such tokens."""
    marks = {str(t) for t in (*tokenizer.all_special_tokens, *tokenizer.get_added_vocab())}
    own = sorted((t for t in marks if len(t) > 2 and not t[0].isalnum() and not t[0].isspace()), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, own))) if own else None


def _bounded(node: Any) -> Any:
    """The schema with a longest length for every text and list, and bounds for every number."""
    if isinstance(node, list):
        return [_bounded(n) for n in node]
    if not isinstance(node, Mapping):
        return node
    out = {k: _bounded(v) for k, v in node.items() if k != "description"}
    match out.get("type"):
        case "string" if "enum" not in out:
            out["maxLength"] = min(int(out.get("maxLength", TEXT_LENGTH)), TEXT_LENGTH)
        case "array":
            out["maxItems"] = min(int(out.get("maxItems", LIST_LENGTH)), LIST_LENGTH)
        case "integer":
            out = {"minimum": -(10**6), "maximum": 10**6, **out}
        case "number":
            out = {"type": "number", "minimum": -1000, "maximum": 1000, **out}
        case _:
            pass
    return out


def _short(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool with the first line of its description and its arguments' names and types."""
    function = tool["function"]
    kept = {
        n: {k: v for k, v in p.items() if k in ("type", "enum", "anyOf")}
        for n, p in function["parameters"]["properties"].items()
    }
    return {
        "type": "function",
        "function": {
            "name": function["name"],
            "description": function["description"].split("\n")[0][:160],
            "parameters": {"type": "object", "properties": kept},
        },
    }
