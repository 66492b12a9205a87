"""What `--fresh N --seed S` is made of: a third trained with a mechanism, a quarter nulls, the rest compiled."""

import json
import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.planted.fresh.making import ATTEMPTS
from benchmarks.planted.fresh.recipes import FreshCase, null_case, planted_case
from benchmarks.planted.posed import Posed, compiled, fresh, programs

SPARES = 2  # cases of the same kind that stand in for one that cannot be trained


def cache_folder() -> Path:
    """Where trained models are kept: LOCUS_CACHE, else the platform's cache folder."""
    if given := os.environ.get("LOCUS_CACHE"):
        return Path(given) / "planted"
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return base / "locus" / "planted"


def mix(n: int) -> tuple[int, int, int]:
    """(trained, compiled, nulls); ValueError for fewer than four."""
    if n < 4:
        raise ValueError("a fresh set has at least four cases")
    trained, nulls = n // 3, n // 4
    return trained, n - trained - nulls, nulls


def drawn(n: int, seed: int) -> list[tuple[str, str, int]]:
    """(origin, program or kind, seed or index) of each case.

    No program comes twice before all have come; a third of the nulls is compiled.
    """
    trained, able, nulls = mix(n)
    rng = random.Random(f"mix {seed}")
    order: list[str] = []
    while len(order) < able:
        order += rng.sample(programs(able=True), len(programs(able=True)))
    unable = [rng.choice(programs(able=False)) for _ in range(nulls // 3)]
    return [
        *(("trained", "planted", i) for i in range(trained)),
        *(("compiled", p, rng.randrange(1000, 10**6)) for p in order[:able]),
        *(("null", "trained", i) for i in range(nulls - len(unable))),
        *(("null", p, rng.randrange(1000, 10**6)) for p in unable),
    ]


def cases(n: int, seed: int, models: Path, work: Path) -> Iterator[tuple[str, Callable[[], Posed]]]:
    """Each case's name, and what makes it; what has to be trained is trained before it is named, or taken from `models`."""
    trained, _, nulls = mix(n)
    for origin, kind, k in drawn(n, seed):
        if kind in ("planted", "trained"):
            draw, step = (planted_case, trained) if origin == "trained" else (null_case, nulls)
            posed = next(_trained([draw(seed, k + again * step) for again in range(SPARES + 1)], models), None)
            if posed is not None:
                yield posed.name, lambda posed=posed: posed
        else:
            yield f"{kind}-{k}", lambda kind=kind, k=k: compiled(kind, k, work / "compiled" / f"{kind}-{k}")


def _trained(candidates: Sequence[FreshCase], models: Path) -> Iterator[Posed]:
    """Those of the candidates of which a network was accepted, in order, made when asked for; each that was not is told."""
    for case in candidates:
        try:
            yield fresh(case, models / case.name)
        except RuntimeError as error:
            print(f"left out: {error}", file=sys.stderr, flush=True)


def left_out(seed: int, models: Path) -> int:
    """How many cases of a seed were drawn and left out because no network of so many attempts was accepted."""
    made = [json.loads(f.read_text()) for f in sorted(models.glob(f"*-{seed}-*/made.json"))]
    return sum(not m["done"] and m["attempts"] >= ATTEMPTS for m in made)
