# ruff: noqa: E501 (source is quoted whole)
"""What else was broken: runs that ended, stale or leaking results, things measured that were not what they were called."""

from benchmarks.mends.mend import Mend, mend

EXECUTOR = "agent/loop/executor.py"
EXTERNAL = "agent/planners/external.py"
GIVEN_UP = "test_failures.py::test_a_wait_for_a_call_that_is_given_up_ends_and_swallows_no_call"
WAIT = """        while True:
            try:
                return self._calls.get_nowait()
            except queue.Empty:
                await arrived.wait()
                arrived.clear()
"""
BLOCKING = "        return await asyncio.to_thread(self._calls.get)\n"
SWALLOWING = """        found: Future[Any] = Future()
        threading.Thread(target=lambda: found.set_result(self._calls.get()), daemon=True).start()
        return await asyncio.wrap_future(found)
"""

MENDS: tuple[Mend, ...] = (
    # -- failures ---------------------------------------------------------------------------------------------------------
    mend(
        "a threshold that is no finite number ends the run and its resume",
        "test_failures.py::test_arguments_hold_finite_numbers_only",
        ("agent/loop/arguments.py", 'read_json(raw or "{}", parse_constant=_finite, parse_float=_finite)', 'read_json(raw or "{}")'),
    ),
    mend(
        "a dose of 1e30 ends the run",
        "test_failures.py::test_a_dose_that_no_record_can_hold_is_refused_and_the_run_goes_on",
        ("tools/steer.py", "    _check_doses(args)\n", ""),
    ),
    mend(
        "a failure inside a tool ends the run",
        "test_failures.py::test_any_error_in_a_tool_is_a_failed_result_but_arguments_and_interruptions_are_not",
        (EXECUTOR, "            except Exception as error:", "            except ZeroDivisionError as error:"),
    ),
    mend("over MCP a budget of minutes hangs", GIVEN_UP, (EXTERNAL, WAIT, BLOCKING)),
    mend("over MCP the end of a wait swallows the next call", GIVEN_UP, (EXTERNAL, WAIT, SWALLOWING)),
    mend(
        "minutes are no hard stop inside a sweep",
        "test_failures.py::test_a_deadline_ends_a_sweep_between_two_blocks",
        ("tools/engine/executor.py", "        if check:\n            check()\n", ""),
    ),
    mend(
        "a lane computes with weights that the model no longer has",
        "test_lanes.py::test_a_lane_has_the_weights_of_the_model_as_they_are_now",
        ("tools/engine/shells.py", "        if len(known) != len(self._of) or any(a is not b for a, b in zip(known, self._of, strict=True)):\n", "        if not self._of:\n"),
    ),
    mend(
        "in lanes somebody's hook on a block is not called",
        "test_lanes.py::test_lanes_share_the_weights_and_leave_a_block_with_somebody_s_hook_alone",
        ("tools/engine/shells.py", "        if not plain:\n", "        if not plain and not known:\n"),
    ),
    mend(
        "threads that begin while a model is evaluated keep one thread for good",
        "test_lanes.py::test_inside_a_lane_there_are_no_more_and_other_threads_keep_theirs",
        ("tools/engine/lanes.py", "        if threads != elsewhere:\n", "        if threads == elsewhere:\n"),
    ),
    mend(
        "minutes are no hard stop inside a tool",
        "test_failures.py::test_whatever_computes_looks_at_the_deadline[run]",
        ("tools/subjects/subject.py", "        self._check()\n        programs = dict(program)", "        programs = dict(program)"),
    ),
    mend(
        "a run of 200 experiments that is resumed may make 60",
        "test_failures.py::test_a_run_that_is_resumed_keeps_the_budgets_it_began_with_unless_others_are_given",
        (
            "agent/loop/session.py", "if (given := getattr(args, k)) is not None}\n            run =",
            'if (given := getattr(args, k) or {"max_experiments": 60}.get(k)) is not None}\n            run =',
        ),
    ),
    mend(
        "the logits of all states are made at once and do not shrink when memory runs out",
        "test_failures.py::test_no_more_states_become_logits_at_once_than_a_batch_has_tokens",
        ("tools/methods/scoring.py", "rows = min(UNEMBED_ROWS, max_tokens)", "rows = UNEMBED_ROWS"),
    ),
    # -- what an experiment is --------------------------------------------------------------------------------------------
    mend(
        "trajectory_anomaly hashes no task, and returns stale results",
        "test_tools.py::test_what_an_experiment_reads_is_in_its_key",
        (
            "tools/methods/tool.py", 'for t in (getattr(args, "task", None), getattr(args, "other_task", None)) if t]',
            'for t in (getattr(args, "task", None),) if t and not hasattr(args, "other_task")]',
        ),
    ),
    mend(
        "what was fitted on explore examples and scored on confirm ones has the latter alone in its key",
        "test_claims.py::test_the_key_of_what_is_settled_holds_both_halves_of_its_tasks",
        (
            EXECUTOR, '                hashes[f"{spec} explore"] = task.sha("explore", n, self.seed)\n',
            '                if split == "explore":\n                    hashes[f"{spec} explore"] = task.sha("explore", n, self.seed)\n',
        ),
    ),
    mend(
        "a replay loads a lens from the user's cache",
        "test_failures.py::test_a_replay_fits_its_lens_and_leaves_the_kept_ones_alone",
        (
            "tools/methods/translators.py", 'keep = not subject.fingerprint.startswith("random") and not ctx.fresh',
            'keep = not subject.fingerprint.startswith("random")',
        ),
    ),
    mend(
        "minimal_set leaves examples without a donor intact, in silence",
        "test_tools.py::test_examples_without_a_donor_are_left_out_and_counted",
        ("tools/minimal_set.py", "examples, left_out = with_donors(ctx, loaded, parts, how)", 'examples, left_out = loaded, ""'),
    ),
    mend(
        "donors depend on the microbatch",
        "test_tools.py::test_what_takes_a_components_place_does_not_depend_on_the_batch[0-resample(donor)]",
        (
            "tools/methods/effects.py", "[self.prepared.examples[self.prepared.chosen[i]] for i in batch.indices])",
            "[*batch.examples[1:], batch.examples[0]])",
        ),
    ),
    mend(
        "the last position of a shorter row counts several times in a mean over positions",
        "test_tools.py::test_what_takes_a_components_place_does_not_depend_on_the_batch[0-mean]",
        ("tools/methods/effects.py", "[len(set(row)) for row in at.tolist()]", "[at.shape[1]] * len(at)"),
    ),
    # -- what goals and tasks say -----------------------------------------------------------------------------------------
    mend(
        '"key/value" in a goal becomes the name of a model',
        "test_writing.py::test_the_model_is_the_one_the_goal_names",
        ("agent/loop/goal.py", "        if not _is_task_words(name):", "        if name:"),
    ),
    mend(
        '"verbatim" in a goal becomes agreement',
        "test_writing.py::test_the_tasks_are_those_whose_words_the_goal_uses",
        ("agent/loop/goal.py", r"""if re.search(rf"\b(?:{'|'.join(found)})\b", said)]""",
         r"""if re.search(rf"\b(?:{'|'.join(found)})", said)]"""),
    ),
    mend(
        "choices are read after the first prompt only",
        "test_fitness.py::test_choices_are_read_after_each_prompt",
        (
            "tools/methods/scoring.py", "rows = [port.choices(subject, e, closed)",
            "rows = [port.choices(subject, examples[0], closed)",
        ),
    ),
    mend(
        "text that the tokenizer turns into unknown tokens is accepted",
        "test_fitness.py::test_text_with_words_outside_the_vocabulary_is_refused_by_the_words",
        (
            "tools/ports/text.py", "            if token in (bad | undeclared) and not is_itself:",
            "            if token == tokenizer.pad_token_id and not is_itself:",
        ),
    ),
    mend(
        "text that the tokenizer turns into padding is accepted",
        "test_fitness.py::test_padding_and_unknown_written_out_are_no_words_but_a_first_token_is",
        (
            "tools/ports/text.py", "bad = {tokenizer.unk_token_id, tokenizer.pad_token_id} - {None, *meant}",
            "bad = {tokenizer.unk_token_id} - {None, *meant}",
        ),
    ),
    mend(
        "`task:class=a` of one's own task is refused as no task",
        "test_tasks.py::test_a_users_classes_groups_and_spans_are_read",
        ("tools/tasks/__init__.py", "    if name in own:\n        return own[name]().among", "    if name in own and not rest:\n        return own[name]().among"),
    ),
    # -- what was measured --------------------------------------------------------------------------------------------------
    mend(
        "patching heads at each position shows a grid in which the last head wins",
        "test_tools.py::test_heads_at_several_positions_keep_every_head_apart",
        (
            "tools/methods/tables.py", "    of = {(m.component, m.name): m for m in measurements if m.component is not None}",
            '    of = {(m.component.partition("[")[0] + f"@{m.derived[\'anchor\']}", m.name): m for m in measurements if m.component is not None}',
        ),
    ),
    mend(
        "a program that skips every block runs all of them",
        "test_claims.py::test_a_model_without_any_block_is_not_the_whole_model",
        ("tools/methods/effects.py", "subject.variant(dict(condition.programs), edits)", "subject.variant({k: v for k, v in condition.programs if v}, edits)"),
    ),
    mend(
        "answers of several tokens are ablated at the first one only",
        "test_tools.py::test_a_multi_token_answer_is_ablated_at_every_position_that_predicts_it",
        ("tools/methods/anchors.py", "found = list(encoded.scored)", "found = [length - 1]"),
    ),
    mend(
        "controls of pattern patches are called random vectors, though they are another example's weights",
        "test_tools.py::test_the_control_of_a_pattern_is_said_to_be_anothers_weights",
        ("tools/patch.py", "OTHER_WEIGHTS if p else RANDOM_VECTOR", "RANDOM_VECTOR"),
    ),
    mend(
        "direct attribution to heads returns sublayers",
        "test_tools.py::test_heads_that_are_named_directly_get_their_own_share_of_the_answer",
        (
            "tools/attribute.py", '*(c.but(anchor="answer") for c in named)]',
            '*(c.but(anchor="answer", units=(), part="attn.out") if c.units else c.but(anchor="answer") for c in named)]',
        ),
    ),
    mend(
        "`is_causal: false` is neither honoured nor refused",
        "test_integrity.py::test_is_causal_false_is_honoured_in_a_batch_with_padding_and_refused_for_the_next_token[gpt2]",
        ("tools/subjects/family.py", 'lambda config: getattr(config, "is_causal", True) is not False', "lambda config: True"),
    ),
    mend(
        "a bias with gaps is read across them by the quick product",
        "test_kernels.py::test_a_bias_with_gaps_is_not_given_to_a_kernel_that_would_read_across_them",
        ("tools/engine/kernels.py", "return single and (bias is None or bias.is_contiguous())", "return single"),
    ),
    mend(
        "records of an earlier engine are multiplied by the kernels of this one",
        "test_kernels.py::test_a_record_is_computed_again_with_the_kernels_of_its_version",
        ("tools/engine/version.py", "products=engine >= PRODUCTS", "products=True"),
    ),
    mend(
        "a sequential sweep runs no control beside what does something",
        "test_deciding.py::test_a_control_answers_as_in_a_sweep_over_all_examples",
        ("tools/methods/deciding.py", 'if verdict != "within"}', 'if verdict == "undecided"}'),
    ),
)  # fmt: skip
