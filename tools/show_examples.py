"""Explore examples of a task in the model's own tokens, with spans, labels, twin, chance level and classes.

Free. Look at a task before you ask anything about it: what a span is called, how long inputs are, which labels divide the
examples. With `text`, any text of yours is cut into tokens instead.
"""

from typing import Literal

from pydantic import Field, model_validator

from experiments_db.records import Outcome
from tools.methods.arguments import AMONG
from tools.methods.showing import task_lines
from tools.methods.tool import Context, ToolArgs, ToolInputError
from tools.tasks import TaskError

KIND: Literal["notebook"] = "notebook"
EXAMPLE: dict[str, object] = {"task": "addition:digits=2x2", "examples": 2}


class Args(ToolArgs):
    """Arguments of show_examples."""

    task: str = Field(default="", description="a task spec; see list_tasks")
    among: str = AMONG
    examples: int = Field(default=4, ge=1, le=32, description="how many to show")
    text: str = Field(default="", max_length=4000, description="a text to cut into tokens, in place of a task")

    @model_validator(mode="after")
    def _one_of_them(self) -> "Args":
        if bool(self.task) == bool(self.text):
            raise ValueError("name a task, or give a text, one of them")
        return self


def run(args: Args, ctx: Context) -> Outcome:
    """Show examples, or the tokens of a text."""
    subject = ctx.subject
    if args.text:
        ids = subject.tokens(args.text)
        unknown = getattr(subject.tokenizer, "unk_token_id", None)
        lost = sum(i == unknown for i in ids)
        lines = [f"{len(ids)} tokens: {' '.join(repr(subject.token_label(i)) for i in ids)}"]
        lines += [f"{lost} of them stand for what the tokenizer does not know"] if lost else []
        return Outcome(text="\n".join(lines))
    try:
        return Outcome(
            text="\n".join(task_lines(subject, ctx.tasks.get(args.task), ctx.seed, args.among, args.examples))
        )
    except TaskError as error:
        raise ToolInputError(str(error)) from None
