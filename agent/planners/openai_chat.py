"""A planner that is an OpenAI chat model, or any server that speaks chat completions.

`.create()` and never a parsing helper: usage has been billed whatever the message turns out to hold, so it is read
first. Retries are ours (the client's are off): by kind of error, with jitter, honouring Retry-After.
"""

import email.utils
import json
import re
import time
from collections.abc import Mapping
from typing import Any

import openai
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from agent.planners.base import PlannerError, ToolCall, Turn, Usage, View
from agent.planners.chat import messages
from agent.planners.compact import compact
from experiments_db.reading import read_json

RETRIED = {408, 409, 429}
FIRST_LIMIT, RAISED_LIMIT = 4096, 16384
SECRET = 16  # characters that a key has at least


class EmptyAnswer(RuntimeError):
    """The server answered without a choice."""


def without_key(text: str, key: str) -> str:
    """A text without a key in it. A short key is no secret but a word, such as x or none, that servers of one's own are given."""
    return text.replace(key, "***") if len(key) >= SECRET else text


class OpenAIChat:
    """Proposes turns by function calling.

    wait_seconds: the longest pause between two tries, and the longest Retry-After that is waited for.
    """

    delegates = True  # may have a child run investigate, which it drives too

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = 180.0,
        temperature: float | None = None,
        reasoning_effort: str | None = None,
        prices: Mapping[str, Mapping[str, float]] | None = None,
        attempts: int = 6,
        wait_seconds: float = 60.0,
    ) -> None:
        self.model, self.attempts, self.wait_seconds = model, attempts, wait_seconds
        self.base_url, self.timeout = base_url, timeout
        self._key = api_key or "none"
        self._options: dict[str, Any] = {}
        if temperature is not None:
            self._options["temperature"] = temperature
        if reasoning_effort is not None:
            self._options["reasoning_effort"] = reasoning_effort
        self._price = (prices or {}).get(model)

    @property
    def name(self) -> str:
        """For example openai:gpt-5."""
        return f"openai:{self.model}"

    @property
    def knows_price(self) -> bool:
        """Whether a cost budget can be kept."""
        return self._price is not None

    async def propose(self, view: View) -> Turn:
        """Ask the model for the next turn. PlannerError when it refuses, or the server cannot be used."""
        usage, limit = Usage(), FIRST_LIMIT
        async with openai.AsyncOpenAI(
            api_key=self._key, base_url=self.base_url, timeout=self.timeout, max_retries=0
        ) as client:
            while True:
                answer = await self._create(client, view, limit)
                usage = self._charged(usage, answer)
                choice = answer.choices[0]
                if choice.finish_reason == "length" and limit == FIRST_LIMIT:
                    limit = RAISED_LIMIT  # a cut-off call is worthless: ask once more with room
                    continue
                return self._turn(choice, usage, number=len(view.exchanges) + 1)

    async def _create(self, client: openai.AsyncOpenAI, view: View, limit: int) -> Any:
        """One answered request, retried where that can help."""
        tools = [{"type": "function", "function": compact(t)} for t in view.tools]
        request: dict[str, Any] = {
            "model": self.model,
            "messages": messages(view),
            "tools": tools,
            "max_completion_tokens": limit,
            **self._options,
        }
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception(_worth_retrying),
                stop=stop_after_attempt(self.attempts),
                wait=self._wait,
                reraise=True,
            ):
                with attempt:
                    answer = await client.chat.completions.create(**request)
                    if not getattr(answer, "choices", None):
                        raise EmptyAnswer("the server answered without a choice")
                    return answer
        except (openai.OpenAIError, EmptyAnswer) as error:
            raise PlannerError(self._explained(error)) from None
        raise AssertionError("unreachable: tenacity returns or raises")

    def _wait(self, state: RetryCallState) -> float:
        """Seconds to the next try: what the server asks for, else exponential with jitter."""
        error = state.outcome.exception() if state.outcome else None
        asked = _retry_after(error) if isinstance(error, openai.APIStatusError) else None
        if asked is not None:
            return min(asked, self.wait_seconds)
        return wait_random_exponential(multiplier=min(1.0, self.wait_seconds), max=self.wait_seconds)(state)

    def _charged(self, before: Usage, answer: Any) -> Usage:
        """Usage so far plus this answer's; read before anything else of the answer is."""
        told = getattr(answer, "usage", None)
        prompt = int(getattr(told, "prompt_tokens", 0) or 0)
        completion = int(getattr(told, "completion_tokens", 0) or 0)
        cost = 0.0
        if self._price is not None:
            cost = (prompt * self._price["prompt"] + completion * self._price["completion"]) / 1e6
        return Usage(before.prompt_tokens + prompt, before.completion_tokens + completion, before.cost + cost)

    def _turn(self, choice: Any, usage: Usage, number: int) -> Turn:
        """The turn in a choice: decided by the presence of calls, never by finish_reason."""
        message = choice.message
        refusal = getattr(message, "refusal", None)
        if refusal:
            raise PlannerError(f"the model refused: {self._hidden(refusal)}")
        found = list(message.tool_calls or [])
        if choice.finish_reason == "length" and found and not _is_json(found[-1].function.arguments):
            found.pop()  # the call that was cut off in the middle
        calls: list[ToolCall] = []
        for i, call in enumerate(found):
            function = getattr(call, "function", None)
            taken = {c.id for c in calls}
            given = self._hidden(call.id or "")
            identity = given if given and given not in taken else f"call_{number}_{i}"
            calls.append(
                ToolCall(
                    identity,
                    self._hidden(getattr(function, "name", "") or ""),
                    self._hidden(getattr(function, "arguments", "") or "{}"),
                )
            )
        if not calls and choice.finish_reason == "content_filter":
            raise PlannerError("the provider's content filter withheld the model's answer")
        return Turn(tuple(calls), self._hidden(message.content or ""), usage)

    def _hidden(self, text: str) -> str:
        """A text of the server's without the key, which it was sent and may give back."""
        return without_key(text, self._key)

    def _explained(self, error: Exception) -> str:
        """What went wrong in one line that says what to do; never with the key in it."""
        where = re.sub(r"//[^/]*@", "//", self.base_url or "the OpenAI API")  # without a password
        match error:
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                return f"{where} does not accept the key in OPENAI_API_KEY for {self.model}"
            case openai.NotFoundError():
                return f"{where} has no model {self.model!r}: choose one with --planner openai:MODEL"
            case openai.APITimeoutError():
                return f"{where} did not answer within {self.timeout:g} s, {self.attempts} times"
            case openai.APIConnectionError():
                return f"{where} cannot be reached: check OPENAI_BASE_URL and the network"
            case openai.APIStatusError():
                detail = self._hidden(" ".join(str(error.message).split()))[:300]
                return f"{where} answered {error.status_code}: {detail}"
            case _:
                return f"{where}: {self._hidden(' '.join(str(error).split()))[:300]}"


def _worth_retrying(error: BaseException) -> bool:
    if isinstance(error, openai.APIStatusError):
        return error.status_code in RETRIED or error.status_code >= 500
    return isinstance(
        error, openai.APIConnectionError | EmptyAnswer | openai.APIResponseValidationError | json.JSONDecodeError
    )


def _retry_after(error: openai.APIStatusError) -> float | None:
    """Seconds from a Retry-After header, given as seconds or as a date."""
    text = error.response.headers.get("retry-after")
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _is_json(text: str) -> bool:
    try:
        read_json(text)
    except ValueError:
        return False
    return True
