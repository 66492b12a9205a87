"""The model under study, behind one protocol for every family: run, sweep, unembed, generate.

Programs and edits are arguments. The model is never changed, so nothing has to be restored and a result cannot depend on
what was run before it.
"""

import copy
import re
from collections.abc import Callable, Generator, Hashable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tools.engine.adapter import Call, StackSpec, record
from tools.engine.decoding import decode_cached, decode_uncached, edit_of_rows
from tools.engine.executor import SweepCost, Variant, trace
from tools.engine.kept import Kept
from tools.engine.kernels import quicken
from tools.engine.lanes import lanes
from tools.engine.programs import LayerProgram
from tools.engine.sites import Edit, Site
from tools.engine.version import ENGINE, LANES, evaluating
from tools.subjects._across import across, activations, kept_by
from tools.subjects._runs import CapabilityError, Inputs, SubjectError, Trace
from tools.subjects.family import Family, readout

Program = LayerProgram | Sequence[int] | None
TEXTS_KEPT = 2**16


class Subject:
    """A loaded model of a known family with its tokenizer.

    `fingerprint` is the hash of configuration, weights, tokenizer and processor together; `parts` has each one's own, where
    the model came from files. `processor`: the settings of what turns recordings or images into the model's inputs
    (preprocessor_config.json), empty where there is none.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        family: Family,
        *,
        name: str,
        fingerprint: str,
        parts: Mapping[str, str] | None = None,
        processor: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model.eval()
        quicken(model)
        self.tokenizer = tokenizer
        self.family = family
        self.name = name
        self.fingerprint = fingerprint
        self.parts = dict(parts or {})
        self.processor = dict(processor or {})
        self.stacks: dict[str, StackSpec] = family.build(model)
        self.readout = list(self.stacks)[-1]
        self._head = readout(family, model)
        self._check: Callable[[], None] = _never
        self._stack_of = {p.name: p for p in family.stacks}
        self._tokens: dict[tuple[str, bool], tuple[int, ...]] = {}
        self.offsets: dict[str, tuple[tuple[int, int], ...]] = {}  # of texts, as a port found them
        self.found: dict[tuple[Hashable, ...], tuple[Any, Any]] = {}  # by a port in objects, by their id; with them
        self.kept: Kept | None = None
        self.identity = object()  # of the weights: a copy has the same
        self.engine = ENGINE  # the version that computes: that of a record where one is replayed

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The weights' type."""
        return next(self.model.parameters()).dtype

    @property
    def capabilities(self) -> frozenset[str]:
        """What this model can do beyond running programs, edits and captures."""
        both_ways = not self.spec().causal
        return self.family.capabilities - ({"next_token", "cached_generation"} if both_ways else frozenset())

    def lanes(self) -> int:
        """How many pieces of work on the model's states run side by side: on a processor as many as torch has threads."""
        able = self.engine >= LANES and self.device.type == "cpu" and not torch.is_grad_enabled()
        return lanes() if able else 1

    def require(self, capability: str) -> None:
        """Raise CapabilityError, with the family's reason, unless the capability is there."""
        if capability not in self.capabilities:
            reason = dict(self.family.refusals).get(capability, "not offered by this family")
            if capability in self.family.capabilities:
                reason = "its configuration says is_causal: false, so each position has seen the tokens that follow it"
            raise CapabilityError(f"{self.name} ({self.family.name}) cannot do {capability}: {reason}")

    def spec(self, stack: str | None = None) -> StackSpec:
        """A stack by name; None is the one that is read out."""
        name = stack or self.readout
        if name not in self.stacks:
            raise SubjectError(f"{self.name} has no stack {name!r}; it has {', '.join(self.stacks)}")
        return self.stacks[name]

    def program_of(self, text: str) -> tuple[str, str]:
        """(stack, operation) of a program as text: `skip 3` is about the stack that is read out, `encoder: skip 3` names one."""
        before, colon, after = text.partition(":")
        return (self.spec(before.strip()).name, after.strip()) if colon else (self.readout, text)

    def watched(self, check: Callable[[], None]) -> "Subject":
        """The same subject, which calls `check` before each step of its computations; what that raises ends them."""
        other = copy.copy(self)
        other._check = check
        return other

    def keeping(self, kept: Kept | None) -> "Subject":
        """The same subject, which keeps what unchanged runs gave; results are the same to the last bit."""
        other = copy.copy(self)
        other.kept = kept
        return other

    def like(self, other: "Subject") -> "Subject":
        """This subject with what holds for another one's runs: the parts refused and the deadline."""
        made = self.without({name: spec.refused for name, spec in other.stacks.items()})
        made._check, made.engine = other._check, other.engine
        return made

    def without(self, refused: Mapping[str, Mapping[str, str]]) -> "Subject":
        """The same subject with some kinds of site refused: by stack and kind, the reason."""
        other = copy.copy(self)
        other.stacks = {n: replace(s, refused={**s.refused, **refused.get(n, {})}) for n, s in self.stacks.items()}
        return other

    @property
    def max_positions(self) -> int | None:
        """The longest sequence the model was made for, in tokens, or None if it does not say."""
        return getattr(self.model.config, "max_position_embeddings", None)

    # -- text ---------------------------------------------------------------------------------------------------------
    def tokens(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids of a text, with the tokenizer's own special tokens at the front unless `special` is False."""
        if self.tokenizer is None:
            raise CapabilityError(f"{self.name} ({self.family.name}) reads no text")
        if (known := self._tokens.get((text, special))) is not None:
            return list(known)
        ids: list[int] = self.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
        eos = self.tokenizer.eos_token_id
        found = ids[:-1] if special and len(ids) > 1 and ids[-1] == eos != ids[0] else ids
        if len(self._tokens) >= TEXTS_KEPT:
            self._tokens.clear()
        self._tokens[text, special] = tuple(found)
        return found

    def text(self, ids: Iterable[int]) -> str:
        """The text of token ids."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=False)

    def token_label(self, token: int) -> str:
        """A token as a short label that shows what it is, spaces and newlines included."""
        piece = str(self.tokenizer.convert_ids_to_tokens(int(token)))
        if byte := re.fullmatch(r"<0x([0-9A-F]{2})>", piece):  # SentencePiece writes single bytes so
            return bytes([int(byte[1], 16)]).decode("latin-1")
        return piece.replace("Ġ", " ").replace("▁", " ").replace("Ċ", "\n")

    def completion(self, prompt: Sequence[int], new: Sequence[int]) -> str:
        """The text that new tokens add to a prompt, with the space between them where there is one."""
        before, after = self.text(prompt), self.text([*prompt, *new])
        return after[len(before) :] if after.startswith(before) else self.text(new)

    def inputs(self, rows: Sequence[Sequence[int]]) -> Inputs:
        """Right-pad rows of token ids into a batch for a text model."""
        if not rows or not all(rows):
            raise SubjectError("a batch needs at least one row, and every row at least one token")
        longest = max(map(len, rows))
        if self.max_positions is not None and longest > self.max_positions:
            raise SubjectError(f"{longest} tokens are more than the {self.max_positions} positions of {self.name}")
        # Real tokens as padding: in a causal stack nothing later reaches them, and every embedding exists.
        pad = self.tokenizer.pad_token_id if self.tokenizer is not None else None
        ids = torch.full((len(rows), longest), 0 if pad is None else pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        if self.spec().causal:
            mask.fill_(1)
        fields = {"input_ids": ids.to(self.device), "attention_mask": mask.to(self.device)}
        return Inputs(fields, tuple(map(len, rows)))

    # -- runs ---------------------------------------------------------------------------------------------------------
    def call(self, inputs: Inputs, stack: str | None = None, upstream: Mapping[str, Tensor] | None = None) -> Call:
        """Capture a stack's call on these inputs; costs the embedding and mask code, no block."""
        spec, upstream = self.spec(stack), dict(upstream or {})
        for name in self.stacks:
            if name == spec.name:
                break
            if name not in upstream:
                upstream[name] = self.run_stack(inputs, name, None, (), (), upstream)[0]

        def again() -> Call:
            doubled = {k: torch.cat([v, v]) for k, v in upstream.items()}
            return self.keeping(None).recorded(spec, inputs.map(lambda t: torch.cat([t, t])), doubled)  # only looked at

        return replace(self.recorded(spec, inputs.fields, upstream), again=again)

    def run(
        self,
        inputs: Inputs,
        program: Program | Mapping[str, Program] = None,
        edits: Iterable[Edit] = (),
        capture: Iterable[Site] = (),
    ) -> Trace:
        """Run the model with a program (of the readout stack, or by stack name), edits and captures.

        Gradients flow if the caller has them switched on; use `torch.inference_mode` otherwise.
        """
        self._check()
        programs = dict(program) if isinstance(program, Mapping) else {self.readout: program}
        edits, capture = tuple(edits), tuple(capture)
        for stack in (*programs, *(e.site.stack for e in edits), *(s.stack for s in capture)):
            self.spec(stack)
        captured: dict[Site, Tensor] = {}
        upstream: dict[str, Tensor] = {}
        final: Tensor | None = None
        for name in self.stacks:
            here = [e for e in edits if e.site.stack == name]
            sites = [s for s in capture if s.stack == name]
            upstream[name], final, seen = self.run_stack(inputs, name, programs.get(name), here, sites, upstream)
            captured.update(seen)
        assert final is not None
        return Trace(self._head(upstream[self.readout]), final, captured)

    def activations(
        self, inputs: Inputs, sites: Iterable[Site], edits: Iterable[Edit] = ()
    ) -> dict[Site, Float[Tensor, "batch seq channels"]]:
        """What `run` captures at the sites; no block runs after the last of them, and nothing is read out."""
        self._check()
        return activations(self, inputs, tuple(dict.fromkeys(sites)), tuple(edits))

    def upstream(
        self, inputs: Inputs, programs: Mapping[str, Program] | None = None, edits: Iterable[Edit] = ()
    ) -> dict[str, Tensor]:
        """What the stacks before the one that is read out hand on, by stack, under programs and edits."""
        made: dict[str, Tensor] = {}
        for name in list(self.stacks)[:-1]:
            here = [e for e in edits if e.site.stack == name]
            made[name], _, _ = self.run_stack(inputs, name, (programs or {}).get(name), here, (), made)
        return made

    def read(
        self,
        inputs: Inputs,
        upstream: Mapping[str, Tensor],
        program: Program = None,
        edits: Iterable[Edit] = (),
    ) -> Float[Tensor, "batch seq vocab"]:
        """Logits of the stack that is read out, given what the earlier ones hand on."""
        self._check()
        here = [e for e in edits if e.site.stack == self.readout]
        return self._head(self.run_stack(inputs, self.readout, program, here, (), upstream)[0])

    def sweep(
        self,
        inputs: Inputs,
        variants: Sequence[Variant],
        read: Callable[[Float[Tensor, "batch seq width"], int], Tensor],
        *,
        stack: str | None = None,
        call: Call | None = None,
        **options: Any,
    ) -> tuple[list[Tensor], SweepCost]:
        """Run many variants with shared computation; `read` takes the readout stack's final state and the variant's index.

        Edits may lie in any stack. What variants have in common of an earlier stack (an encoder) runs once, and the later
        stacks once for each different output of it. stack: whose blocks the variants' programs are; None is the one that is
        read out. call: of the readout stack, where it has been captured already. read_from: `read` is given the states from
        this position on.
        """
        spec = self.spec(stack)
        if spec.name != self.readout:
            whole = tuple(range(len(self.spec().blocks)))
            variants = [Variant(whole, v.edits, (*v.earlier, (spec.name, v.blocks))) for v in variants]
        return across(self, inputs, variants, read, call, check=self._check, **options)

    def variant(self, programs: Mapping[str, Sequence[int]] | None = None, edits: Sequence[Edit] = ()) -> Variant:
        """A variant from programs by stack; the stacks not named run as they are."""
        given = {self.spec(name).name: tuple(blocks) for name, blocks in (programs or {}).items()}
        blocks = given.pop(self.readout, tuple(range(len(self.spec().blocks))))
        return Variant(blocks, tuple(edits), tuple(sorted(given.items())))

    def unembed(
        self, h: Float[Tensor, "*batch width"], stack: str | None = None, *, norm: bool = True
    ) -> Float[Tensor, "*batch vocab"]:
        """Logits that a state of the readout stack would have if it were the last: final norm (optional), then head.

        Source: nostalgebraist 2020, interpreting GPT: the logit lens. Without the norm: Alammar 2021 (Ecco).
        """
        self._check()
        name = self.spec(stack).name
        if name != self.readout:
            raise CapabilityError(f"stack {name!r} is not read out as tokens; only {self.readout!r} is")
        return self._head(self.family.finish(self.model, name, h) if norm else h)

    def contributions(
        self, parts: Float[Tensor, "parts batch width"], whole: Float[Tensor, "batch width"]
    ) -> Float[Tensor, "parts batch vocab"]:
        """What each summand of a last state adds to the logits, with the final norm's scale held at the sum's own.

        Direct logit attribution (Elhage et al. 2021; nostalgebraist 2020). The biases of norm and head belong to no part.
        """
        linear = self.family.finish_linear(self.model, self.readout, parts, whole)
        if linear is None or not isinstance(self._head, torch.nn.Linear):
            raise CapabilityError(f"{self.name} ({self.family.name}) has no head that is linear in the normed state")
        return linear @ self._head.weight.T

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        program: Program = None,
        edits: Sequence[Edit] = (),
        *,
        cached: bool = True,
    ) -> list[list[int]]:
        """Greedy completions (new token ids) under a program; stops a row at the end-of-text token.

        cached: keep keys and values, one cache entry for each position in the program. The text equals the uncached
        one. Edits that name positions act on the prompt; edits without positions act on every token. A value with a
        batch axis has one entry for each prompt.
        """
        self.require("next_token")
        blocks = self._blocks(program, self.spec())
        if not all(prompts):
            raise SubjectError("every prompt needs at least one token")
        needed = max(map(len, prompts), default=0) + max_new_tokens - 1  # the last token made is never read
        if self.max_positions is not None and needed > self.max_positions:
            most = f"the {self.max_positions} positions of {self.name}"
            raise SubjectError(f"prompt and completion need {needed} tokens, more than {most}")
        for edit in edits:
            self.spec().check_edit(edit)
        eos = self.tokenizer.eos_token_id if self.tokenizer is not None else None
        decode = decode_cached if cached and "cached_generation" in self.capabilities else decode_uncached
        out: dict[int, list[int]] = {}
        lengths = sorted({len(p) for p in prompts})
        for length in lengths:  # rows of one length need no padding
            rows = [i for i, p in enumerate(prompts) if len(p) == length]
            chosen = [edit_of_rows(e, rows) for e in edits]
            made = decode(self, [list(prompts[i]) for i in rows], max_new_tokens, blocks, tuple(chosen), eos)
            out.update(zip(rows, made, strict=True))
        return [out[i] for i in range(len(prompts))]

    @contextmanager
    def evaluating(self) -> Generator[None]:
        """Inference without gradients."""
        with evaluating(self.engine, self.device, max(s.width for s in self.stacks.values())):
            yield

    def handed_on(self, stack: str, h: Tensor) -> Tensor:
        """What a stack's last state becomes before a later one reads it: through its final norm."""
        return self.family.finish(self.model, stack, h)

    # -- parts --------------------------------------------------------------------------------------------------------
    def body(self, stack: str, **arguments: Any) -> object:
        """Run the model code around a stack's blocks with these arguments."""
        return self.model.get_submodule(self._stack_of[stack].body)(**arguments)

    def recorded(self, spec: StackSpec, fields: Mapping[str, Tensor], upstream: Mapping[str, Tensor]) -> Call:
        """A stack's call at one batch size, from input fields and the states of earlier stacks."""
        arguments = self._stack_of[spec.name].arguments(fields, upstream)
        return kept_by(self, record(spec, lambda: self.body(spec.name, **arguments)), fields, upstream)

    def run_stack(
        self,
        inputs: Inputs,
        name: str,
        program: Program,
        edits: Iterable[Edit],
        capture: Iterable[Site],
        upstream: Mapping[str, Tensor],
    ) -> tuple[Tensor, Tensor, dict[Site, Tensor]]:
        """(state handed on, last block's state, captured) of one stack."""
        spec = self.stacks[name]
        call = self.recorded(spec, inputs.fields, upstream)
        h, captured = trace(call, self._blocks(program, spec), edits, capture)
        return self.family.finish(self.model, name, h), h, captured

    def _blocks(self, program: Program, spec: StackSpec) -> tuple[int, ...]:
        n = len(spec.blocks)
        if program is None:
            return tuple(range(n))
        blocks = program.blocks if isinstance(program, LayerProgram) else tuple(program)
        return LayerProgram(blocks, n, "").blocks  # checks the range


def _never() -> None:
    """What is checked by default: nothing."""
