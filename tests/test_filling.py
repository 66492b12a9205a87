"""The best linear guess in place of skipped blocks: exact where a block is linear, and no better than the mean when fitted to
what other positions become.
"""

import copy

import pytest
import torch

from tools.engine.programs import skip
from tools.methods.filling import HOW, LINEAR, filled, fit, ranges
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.scoring import batch_of
from tools.methods.tool import Context, ToolInputError, discover
from tools.subjects import load_subject, wrap
from tools.tasks import get_task


@pytest.fixture(scope="module")
def ctx():
    return Context(load_subject("demo"), OfflineTasks([]), Nothing())


def call(ctx, **arguments):
    tool = discover()["layer_program"]
    return tool.run(tool.parse({"fill": True, "examples": 96, **arguments}), ctx)


@pytest.fixture(scope="module")
def added(ctx):
    return call(ctx, tasks=["addition"], sweep="skip_each")


def accuracy(outcome, program, variant, name="accuracy"):
    (found,) = (m for m in outcome.measurements if (m.name, m.program, m.variant) == (name, program, variant))
    return found


NOTHING, MEANS, GUESS = "nothing in place", "mean state in place", "linear guess in place"


def test_where_a_block_is_nearly_linear_the_guess_gives_back_what_skipping_it_costs(added):
    nothing, mean, guess = (accuracy(added, "skip 1", v) for v in (NOTHING, MEANS, GUESS))
    assert guess.value > 0.97 > 0.9 > nothing.value > mean.value
    assert guess.control.difference_low > 0.5  # fitted to what other positions become, it knows nothing
    assert guess.control.value < 0.1
    losses = [accuracy(added, "skip 1", v, "nll").value for v in (GUESS, NOTHING, MEANS)]
    assert losses == sorted(losses)
    assert guess.n == 48  # nothing was fitted on those that are scored


def test_what_no_linear_map_does_is_lost_all_the_same(added):
    assert accuracy(added, "skip 0", GUESS).value < 0.2


def test_the_table_shows_what_stands_in_place_and_the_rest_is_as_without(ctx, added):
    assert f"{NOTHING}  {MEANS}  {GUESS}  fitted to other positions" in added.text
    plain = call(ctx, tasks=["addition"], sweep="skip_each", fill=False)
    assert tuple(m for m in added.measurements if m.variant is None) == plain.measurements
    assert added.text.startswith(plain.text)
    again = call(Context(ctx.subject, ctx.tasks, Nothing()), tasks=["addition"], sweep="skip_each")
    assert again.measurements == added.measurements


def test_a_block_that_only_adds_a_constant_is_guessed_exactly_and_nothing_else_is(ctx):
    model = copy.deepcopy(ctx.subject.model)
    with torch.no_grad():
        for part in (model.transformer.h[1].attn.c_proj, model.transformer.h[1].mlp.c_proj):
            part.weight.zero_()
            part.bias.normal_(generator=torch.Generator().manual_seed(0))
    subject = wrap(model, ctx.subject.tokenizer, name="adds")
    examples, program = get_task("addition").examples("explore", 48), skip([1], 6)
    wanted = ranges([program])
    with torch.inference_mode():
        batch = batch_of(subject, examples[24:])
        guesses = fit(subject, examples[:24], "decoder", wanted, 0, 512)
        intact = subject.run(batch.inputs).final
        ends = {"nothing": subject.run(batch.inputs, {"decoder": program.blocks}).final}
        for how in HOW:
            (ends[how],), _ = subject.sweep(
                batch.inputs, filled(subject, batch, guesses, [program], wanted, how), lambda h, _: h.clone()
            )
    off = {k: float((v - intact)[batch.rows, batch.columns].norm() / intact[batch.rows, batch.columns].norm()) for k, v in ends.items()}
    assert off[LINEAR] < 1e-4
    assert min(off[k] for k in off if k != LINEAR) > 0.1


def test_a_stack_that_only_reads_is_filled_too():
    ctx = Context(load_subject("translator"), OfflineTasks([]), Nothing())
    found = call(ctx, tasks=["translation"], operation="skip", blocks=[2], stack="encoder")  # its last block
    guess, mean = (accuracy(found, "encoder: skip 2", v) for v in (GUESS, MEANS))
    assert guess.value > 0.85 > 0.1 > mean.value
    assert guess.control.value < 0.1


@pytest.mark.parametrize(
    "arguments",
    [
        {"operation": "repeat", "blocks": [1]}, {"operation": "skip", "blocks": [1, 3]}, {"sweep": "swap_adjacent"},
        {"operation": "skip", "blocks": [0, 1, 2, 3, 4, 5]}, {"operation": "keep", "blocks": [0, 1, 2, 3, 4, 5]},
    ],
)
def test_a_program_that_leaves_out_no_one_range_is_refused_with_what_would_be_valid(ctx, arguments):
    with pytest.raises(ToolInputError, match="fill: .* use operation skip with blocks that follow one another"):
        call(ctx, tasks=["addition"], **arguments)
