# ruff: noqa: E501 (source is quoted whole)
"""What was tried against findings and passed though it must not."""

from benchmarks.mends.mend import Mend, mend

LARGEST = "tools/findings/settling.py"
CONTRAST = "tools/findings/contrast.py"
NECESSARY = "tools/findings/kinds/necessary.py"
WORDING, NUMERALS = "tools/findings/wording.py", "tools/findings/numerals.py"
DIGITS = r"-?(?:\d[\d,]*(?:\.\d+)?|\.\d+)\s?"
TRUE_AND_FALSE = "test_kinds.py::test_what_is_true_is_confirmed_and_what_differs_in_one_field_is_not"

MENDS: tuple[Mend, ...] = (
    # -- what a claim says and what was measured --------------------------------------------------------------------------
    mend(
        "a claim about a block that the model does not have",
        "test_places.py::test_a_selector_out_of_range_names_the_range[decoder.3.mlp.out-block 3 is out of range: decoder has blocks 0 to 2]",
        (
            "experiments_db/places.py", "if component.block is not None and component.block >= len(stack.blocks):",
            "if component.block is not None and component.block >= 99:",
        ),
        ("experiments_db/_place_text.py", "if (last := pairs[-1][-1]) >= n:", "if (last := pairs[-1][-1]) >= n + 99:"),
    ),
    mend(
        "a prediction that holds whatever is measured (accuracy >= -1)",
        "test_settling.py::test_a_smallest_effect_can_be_made_stricter_and_never_laxer",
        ("tools/findings/examining.py", "    if statement.smallest <= 0 or laxer:", "    if False and laxer:"),
    ),
    mend(
        "necessary, though without it the model does as well or better: the direction is ignored",
        "test_settling.py::test_an_effect_the_other_way_shows_nothing",
        (
            CONTRAST, '            case "exceed":\n                return _one(self, q, -self.bound',
            '            case "exceed":\n                return 1.0\n                return _one(self, q, -self.bound',
        ),
        (
            CONTRAST, '        case "exceed":\n            return _one(c, q, c.bound, above=True)',
            '        case "exceed":\n            return min(_one(c, q, c.bound, above=True), _one(c, q, -c.bound, above=False))',
        ),
    ),
    mend(
        "a claim on one MLP carried by what was measured at another",
        "test_claims.py::test_a_finding_says_what_its_own_experiment_measured",
        (
            "tools/predict.py", "statement_of(ctx, asked.args)",
            "statement_of(ctx, ctx.history.experiment(ctx.history.handles('E')[-1]).args)",
        ),
    ),
    mend(
        "each of several called necessary from one joint ablation",
        f"{TRUE_AND_FALSE}[previous-necessary]",
        (NECESSARY, "own = [Condition.of(c, how) for c, how in asked]", "own = [Condition.of(s.set, how) for _, how in asked]"),
    ),
    mend(
        "the only place: words beyond what was tested stand in the headline",
        "test_report.py::test_nothing_that_a_planner_writes_is_in_the_headline",
        (
            "agent/report/conclusion.py", "headline=compose([t for t in every if t.finding.stands]),",
            "headline=(*compose([t for t in every if t.finding.stands]), "
            "*(Sentence(i.words, ()) for i in _interpretations(record))),",
        ),
    ),
    mend(
        "no MLP takes part, from MLPs that were spared one by one",
        f"{TRUE_AND_FALSE}[backup-not_needed]",
        (
            "tools/findings/kinds/not_needed.py", "conditions = [Condition.of(s.set, how) for how in s.done]",
            "conditions = [Condition.of(s.members[0], how) for how in s.done]",
        ),
    ),
    mend(
        "whatever the ablation, against the run's own data: the easiest contrast decides",
        "test_settling.py::test_the_contrast_that_holds_least_decides",
        (
            LARGEST, 'return max((m for m in rows if m.name == "p"), key=lambda m: m.value)',
            'return min((m for m in rows if m.name == "p"), key=lambda m: m.value)',
        ),
    ),
    mend(
        "claims that contradict one another stand side by side",
        "test_report.py::test_findings_that_contradict_each_other_are_named",
        ("tools/findings/consequences.py", "if (why := _clash(a, b) or _clash(b, a))", "if (why := None)"),
    ),
    mend(
        "no way to take a claim back",
        "test_report.py::test_a_finding_that_was_taken_back_is_struck_with_its_reason_and_counts_in_the_score",
        ("experiments_db/findings.py", 'return self.fate == "confirmed" and not self.retracted', 'return self.fate == "confirmed"'),
    ),
    # -- the end ----------------------------------------------------------------------------------------------------------
    mend(
        "found, with no experiment at all",
        "test_report.py::test_a_run_without_an_experiment_tried_nothing_whatever_it_says",
        (
            "agent/report/conclusion.py", '        return "Nothing was tried"',
            '        return {"found": "Found", "cannot": "The model cannot do it"}.get(said or "", "Not found")',
        ),
    ),
    mend(
        "found, with nothing confirmed that answers a question",
        "test_claims.py::test_finish_found_needs_a_finding_that_answers",
        (
            "tools/finish.py", 'if args.answer == "found" and not any(answers(q, findings) for q in questions):',
            'if args.answer == "found" and not any(True for q in questions):',
        ),
    ),
    mend(
        "a note after the end becomes the conclusion",
        "test_claims.py::test_nothing_is_run_or_written_after_the_end",
        (
            "agent/loop/investigate.py", "            if finished(turn.calls, answers):\n                answers.append",
            "            if False:\n                answers.append",
        ),
    ),
    mend(
        "a conclusion that mentions N1 loses its verdict",
        "test_claims.py::test_what_the_words_at_the_end_mention_changes_no_verdict",
        (
            "agent/report/conclusion.py", "    said = conclusion.answer if conclusion else None",
            '    said = conclusion.answer if conclusion and "N1" not in conclusion.words else None',
        ),
    ),
    # -- true findings that were refuted ------------------------------------------------------------------------------------
    mend(
        "refuted, because the random sets were the other needed heads",
        "test_tools.py::test_random_sets_lie_outside_the_candidates_and_their_spread_is_in_the_interval",
        (
            "tools/minimal_set.py", "return [c for c in out if c not in search.parts and (c.units or c not in wholes)]",
            "return [c for c in search.parts if c not in found and (c.units or c not in wholes or out)]",
        ),
    ),
    mend(
        "refuted, because a random vector of the same norm is as destructive",
        "test_settling.py::test_the_contrast_that_holds_least_decides",
        (LARGEST, 'return "inconclusive", _why(rows, threshold)', 'return "contradicted", _why(rows, threshold)'),
    ),
    mend(
        "ablations disagree, by a threshold on each and not by a test of the difference",
        f"{TRUE_AND_FALSE}[constant-disagree]",
        (
            "tools/findings/kinds/disagree.py",
            "apart, noise = bench.difference(other, one), bench.difference(noise_other, noise_one)",
            "apart, noise = bench.difference(bench.intact, one), bench.difference(noise_other, noise_one)",
        ),
    ),
    mend(
        "under resample and zero ablation, where one of the two was confirmed",
        f"{TRUE_AND_FALSE}[constant-necessary]",
        (NECESSARY, "for how in s.done for c in s.members]", "for how in s.done[-1:] for c in s.members]"),
    ),
    # -- leaks --------------------------------------------------------------------------------------------------------------
    mend(
        "another run's confirm rows are queried, then predicted",
        "test_claims.py::test_what_other_runs_measured_on_confirm_examples_is_in_no_query",
        (
            "agent/loop/record.py", '            where = {**where, "split": {**where.get("split", {}), "!=": "confirm"}}',
            "            where = {**where}",
        ),
    ),
    mend(
        "one trivial prediction opens a whole confirm experiment",
        "test_tools.py::test_wrong_arguments_are_answered_with_what_would_be_valid[loss-arguments2-unknown argument]",
        ("tools/methods/tool.py", 'model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)',
         'model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)'),
    ),
    mend(
        "what settled a finding is predicted from",
        "test_claims.py::test_nothing_is_predicted_from_what_settled_a_finding",
        ("tools/predict.py", 'if asked.tool != EXAMINE or asked.args.get("split") == "confirm":', "if asked.tool != EXAMINE:"),
    ),
    mend(
        "a later round or run settles on examples that were used before",
        "test_unseen.py::test_a_shorter_sample_of_a_real_task_does_not_lie_within_a_longer_one",
        ("agent/loop/unseen.py", "    if not used:\n", "    if not used or used:\n"),
    ),
    # -- typed numbers --------------------------------------------------------------------------------------------------------
    mend(
        "typed numbers: what stands between two apostrophes counts as a quotation",
        "test_wording.py::test_a_quantity_typed_by_hand_is_refused[it's 0.97 and that's so]",
        (WORDING, r"""(?<!\w)'([^']{0,400})'(?!\w)""", r"""'([^']{0,400})'"""),
        (WORDING, '    if quantity(quoted) is None and not re.search(r"\\d", quoted):\n        return True\n', "    return True\n"),
    ),
    mend(
        "typed numbers: .97",
        "test_wording.py::test_a_quantity_typed_by_hand_is_refused[it's .97 there]",
        (NUMERALS, rf'rf"{DIGITS}', r'rf"-?(?<![\d.])(?:\d[\d,]*(?:\.\d+)?)(?<!\d\d)\s?'),
    ),
    mend(
        "typed numbers: 97 percent",
        "test_wording.py::test_a_quantity_typed_by_hand_is_refused[97 percent of examples]",
        (NUMERALS, rf'rf"{DIGITS}', r'rf"-?\d*\.\d+\s?'),
        (NUMERALS, '"couple of", "percents?",', '"couple of",'),
    ),
    mend(
        "typed numbers: nine out of ten",
        "test_wording.py::test_a_quantity_typed_by_hand_is_refused[nine out of ten]",
        (NUMERALS, '    "one two three four five six seven eight nine ten eleven', '    "eleven'),
    ),
    mend(
        "typed numbers: any, in a note",
        "test_claims.py::test_no_text_of_a_planner_holds_a_typed_number",
        ("tools/note.py", "check_references(ctx, args.text, digits=True)", "check_references(ctx, args.text)"),
    ),
    # -- sureness -------------------------------------------------------------------------------------------------------------
    mend(
        "probabilities are constants",
        "test_claims.py::test_how_sure_a_prediction_is_follows_from_the_evidence",
        ("tools/findings/sureness.py", "return float(np.clip(_shipped().probability([seen.row])[0], 0.01, 0.99))", "return 0.9"),
    ),
    mend(
        "predictions that can come out one way only flatter the score",
        "test_claims.py::test_what_so_few_problems_could_never_show_is_no_prediction",
        ("tools/findings/sealing.py", "    _check_both_ways(rows)\n", ""),
    ),
    # -- statistics -----------------------------------------------------------------------------------------------------------
    mend(
        "n counts duplicates (128 examples of 7 sums)",
        "test_tasks.py::test_a_sample_holds_each_problem_once_and_draws_share_none_until_they_run_out[agreement]",
        ("tools/tasks/task.py", "            found[example.group] = example\n", '            found[f"{example.group}{len(found)}"] = example\n'),
    ),
    mend(
        "sentences about one pair of nouns count as many problems",
        "test_tasks.py::test_the_problems_of_a_small_task_are_all_found_and_counted",
        ("tools/tasks/agreement.py", '            group=f"{subject}/{attractor}",\n', ""),
    ),
    mend(
        "what is recovered treats the gap as known",
        "test_tools.py::test_what_is_recovered_is_a_ratio_of_two_uncertain_means",
        ("tools/methods/measuring.py", "lambda: statistics.ratios(x, whole, groups),", "lambda: statistics.means(x / whole.mean(), groups),"),
    ),
    mend(
        "the interval of a control's difference treats pairs as unpaired",
        "test_estimators.py::test_what_pairs_have_in_common_is_not_in_the_interval_of_their_difference",
        ("tools/statistics/means.py", "    d = np.atleast_2d(x - y)\n", "    d = np.atleast_2d(x - np.roll(y, 1, -1))\n"),
    ),
    mend(
        "p = 0 from few examples",
        "test_estimators.py::test_without_bounds_no_p_value_is_lower_than_the_chance_of_missing_a_twentieth_of_all_groups",
        ("tools/statistics/significance.py", "    return (1 - RARE) ** groups", "    return 0.0 * groups"),
    ),
    mend(
        "a bootstrap of eight examples that holds .85 of the time",
        "test_estimators.py::test_many_examples_of_few_groups_are_few",
        ("tools/statistics/estimate.py", "        if self.count < MINIMUM[estimator]:", "        if self.n < MINIMUM[estimator]:"),
    ),
    mend(
        "the classes of an AUROC share their draws",
        "test_estimators.py::test_the_error_of_a_ranking_is_delongs",
        ("tools/statistics/ranking.py", "share = (placed - value[:, None]) / np.where(y, m, n)", "share = (placed - value[:, None]) / (m + n)"),
    ),
    mend(
        "the control of a probe is no control task",
        "test_evidence.py::test_the_labels_of_a_control_task_are_a_function_of_the_token",
        ("tools/methods/probing.py", "return np.array([drawn[order[kind]] for kind in kinds])", "return rng.permutation(y)"),
    ),
    mend(
        "Holm's method begins when something is claimed, and claiming early escapes it",
        "test_settling.py::test_a_round_spends_its_share_by_holms_method",
        (
            LARGEST, "decisions = statistics.adjusted_in_round(p, number) if p else []",
            "decisions = [statistics.adjusted_in_round([x], number)[0] for x in p]",
        ),
    ),
    mend(
        "a second look costs nothing",
        "test_settling.py::test_each_round_has_half_of_what_the_one_before_had",
        ("tools/statistics/multiplicity.py", "return alpha * 2.0**-number", "return alpha / 2"),
    ),
)  # fmt: skip
