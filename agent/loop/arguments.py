"""The raw arguments of a call: JSON that a planner wrote."""

import json
import math
from typing import Any

from experiments_db.reading import read_json
from tools.methods.tool import ToolInputError


def _finite(text: str) -> float:
    """A number of the arguments; ToolInputError for infinities and NaN, which no record can hold."""
    value = float(text)
    if not math.isfinite(value):
        raise ToolInputError(f"the arguments hold {text}: numbers must be finite")
    return value


def tool_arguments(raw: str) -> Any:
    """Parsed JSON of a call's raw arguments; ToolInputError for text that is no JSON object."""
    try:
        value = read_json(raw or "{}", parse_constant=_finite, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise ToolInputError(f"the arguments are not JSON: {error.msg} at character {error.pos}") from None
    except ToolInputError:
        raise
    except ValueError as error:
        raise ToolInputError(f"the arguments are not JSON that can be read: {error}") from None
    if not isinstance(value, dict):
        raise ToolInputError(f"the arguments must be a JSON object, not {type(value).__name__}")
    return value
