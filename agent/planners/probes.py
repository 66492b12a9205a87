"""Four requests that a planner's life depends on, put to an endpoint before a run."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

State = Literal["ok", "warning", "failed"]
NEEDLE = "kingfisher"
LONG_PROMPT_WORDS = 6000


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's answer. `mend` says what to do, where there is something to do."""

    state: State
    about: str
    says: str
    mend: str = ""


def endpoint(model: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Four requests that a planner's life depends on."""
    import openai

    from agent.planners.openai_chat import without_key

    timeout = float(environ.get("OPENAI_TIMEOUT") or 60)
    client = openai.OpenAI(
        api_key=environ.get("OPENAI_API_KEY") or "none",
        base_url=environ.get("OPENAI_BASE_URL"),
        timeout=timeout,
        max_retries=0,
    )
    probes: tuple[tuple[str, Callable[[Any, str], str | None], str], ...] = (
        (
            "forced call",
            _forced,
            "vLLM: --enable-auto-tool-choice and --tool-call-parser; llama.cpp: --jinja; or another model",
        ),
        ("nested arguments", _nested, "the server's parser breaks lists in arguments: update it, or use local:FOLDER"),
        (
            "tool result",
            _round_trip,
            "the server's chat template does not take tool messages: another template or model",
        ),
        ("long prompt", _needle, "Ollama: raise num_ctx (it cuts silently); else a model with a longer context"),
    )
    with client:
        for about, probe, mend in probes:
            try:
                wrong = probe(client, model)
            except openai.AuthenticationError:
                yield Finding("failed", about, "the endpoint does not accept the key", "set OPENAI_API_KEY")
                return
            except openai.NotFoundError:
                yield Finding(
                    "failed", about, f"the endpoint has no model {model!r}", "choose one with --planner openai:MODEL"
                )
                return
            except (openai.APIConnectionError, openai.APITimeoutError):
                yield Finding(
                    "failed",
                    about,
                    f"{environ.get('OPENAI_BASE_URL') or 'the OpenAI API'} cannot be reached in {timeout:g} s",
                    "check OPENAI_BASE_URL and the network",
                )
                return
            except openai.OpenAIError as error:
                wrong = without_key(" ".join(str(error).split()), environ.get("OPENAI_API_KEY") or "")[:200]
            yield Finding("failed" if wrong else "ok", about, wrong or "works", mend if wrong else "")


def _tool(name: str, properties: dict[str, Any]) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    function = {"name": name, "description": f"The {name} tool.", "parameters": parameters, "strict": True}
    return {"type": "function", "function": function}


def _ask(client: Any, model: str, said: Sequence[Mapping[str, Any]], tools: Sequence[Any] = ()) -> Any:
    extra: dict[str, Any] = {"tools": list(tools)} if tools else {}
    answer = client.chat.completions.create(model=model, messages=list(said), max_completion_tokens=2048, **extra)
    if not answer.choices:
        raise ValueError("no choices")
    return answer.choices[0].message


def _call(message: Any, name: str) -> tuple[dict[str, Any] | None, str | None]:
    """(arguments of the call of this name, what is wrong)."""
    calls = message.tool_calls or []
    if not calls:
        return None, f"the model answered in words instead of calling: {(message.content or '')[:80]!r}"
    if calls[0].function.name != name:
        return None, f"it called {calls[0].function.name!r}, not {name!r}"
    try:
        found = json.loads(calls[0].function.arguments or "{}")
    except json.JSONDecodeError:
        return None, f"the arguments are not JSON: {calls[0].function.arguments[:80]!r}"
    return (found, None) if isinstance(found, dict) else (None, "the arguments are no object")


def _forced(client: Any, model: str) -> str | None:
    said = [{"role": "user", "content": "Call the tool `add` with a = 2 and b = 3. Answer with the call only."}]
    found, wrong = _call(
        _ask(client, model, said, [_tool("add", {"a": {"type": "integer"}, "b": {"type": "integer"}})]), "add"
    )
    return wrong or (None if found == {"a": 2, "b": 3} else f"the arguments are {found}, not a = 2 and b = 3")


def _nested(client: Any, model: str) -> str | None:
    lists = {
        "layers": {"type": "array", "items": {"type": "integer"}},
        "tasks": {"type": "array", "items": {"type": "string"}},
    }
    said = [
        {
            "role": "user",
            "content": "Call `look` with layers [0, 3] and tasks ['addition', 'it\\'s']. Answer with the call only.",
        }
    ]
    found, wrong = _call(_ask(client, model, said, [_tool("look", lists)]), "look")
    return wrong or (
        None if found == {"layers": [0, 3], "tasks": ["addition", "it's"]} else f"the arguments came as {found}"
    )


def _round_trip(client: Any, model: str) -> str | None:
    tool = _tool("weather", {"place": {"type": "string"}})
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"place": "Bern"}'}}
    said = [
        {"role": "user", "content": "What is the weather in Bern? Use the tool, then tell me the number of degrees."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "17 degrees, dry"},
    ]
    text = _ask(client, model, said, [tool]).content or ""
    return None if "17" in text else f"it did not use the tool's result: {text[:80]!r}"


def _needle(client: Any, model: str) -> str | None:
    filler = " ".join(f"line {i} is of no importance;" for i in range(LONG_PROMPT_WORDS // 6))
    said = [
        {"role": "user", "content": f"The secret word is {NEEDLE}. {filler} Now say the secret word, nothing else."}
    ]
    text = _ask(client, model, said).content or ""
    return (
        None
        if NEEDLE in text.lower()
        else f"it lost the beginning of a prompt of about {LONG_PROMPT_WORDS} words: {text[:80]!r}"
    )
