"""The examples on which units are most active, side by side by corpus, each token shaded by the activation on it.

A result keeps them as `shown:shaded`, (unit, corpus, example, token), whose axes name the units and corpora, and the tokens as the
labels of `shown:tokens`, in the same order.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from experiments_db.records import Array, Result

SHADED, TOKENS = "shown:shaded", "shown:tokens"
MOST = 20_000  # tokens of one picture
WIDE, GAP, LINE, PAD, LEFT, ACROSS = 300, 18, 20, 3, 12, 3
INK, FAINT, FRAME, PAPER = (31, 41, 55), (100, 116, 139), (203, 213, 225), (255, 255, 255)
RED, BLUE = np.array([220, 38, 38]), np.array([37, 99, 235])
LONGEST = 34  # characters of a token or a name
BELOW = 0.01  # of the largest activation: what smooth rectifiers leave below 0 is no more
Values = NDArray[np.float64]


@dataclass
class _Sheet:
    """Rectangles and words laid out before the size of the whole is known."""

    font: ImageFont.FreeTypeFont | ImageFont.ImageFont
    boxes: list[tuple[float, float, float, float, tuple[int, int, int]]] = field(default_factory=list)
    words: list[tuple[float, float, str, tuple[int, int, int]]] = field(default_factory=list)
    right: float = 0.0

    def write(self, x: float, y: float, text: str, ink: tuple[int, int, int] = INK) -> float:
        """A line of text; how wide it is."""
        width = self.font.getlength(text)
        self.words.append((x, y, text, ink))
        self.right = max(self.right, x + width)
        return width

    def tokens(self, x: float, y: float, said: list[str], values: Values, top: float) -> float:
        """Tokens within a column, each on its shade; where the next line begins."""
        at = x
        for text, value in zip(said, values, strict=True):
            width = self.font.getlength(text) + 2 * PAD
            if at + width > x + WIDE and at > x:
                at, y = x, y + LINE
            shade = _shade(float(value) / top)
            self.boxes.append((at, y, at + width - 1, y + LINE - 3, shade))
            self.write(at + PAD, y + 1, text, INK if sum(shade) > 330 else PAPER)
            at += width
        return y + LINE


def shaded_of(result: Result) -> bytes | None:
    """The picture as PNG; None where the result keeps no such examples, or none that can be read."""
    found = _read(result)
    if found is None:
        return None
    values, tokens, units, corpora = found
    sheet = _Sheet(_font())
    y = 10.0
    for u, unit in enumerate(units):
        known = values[u][~np.isnan(values[u])]
        top = float(np.abs(known).max(initial=0.0)) or 1.0
        sheet.write(
            LEFT,
            y,
            f"{unit}: activation on each token but a text's first, darkest {top:.3g}"
            + (", blue below 0" if (known < -BELOW * top).any() else ""),
        )
        y += LINE + 4
        for first in range(0, len(corpora), ACROSS):
            part = slice(first, first + ACROSS)
            y = _band(sheet, y, corpora[part], tokens[u, part], values[u, part], top) + 8
    wide = max(LEFT + min(ACROSS, len(corpora)) * (WIDE + GAP), int(sheet.right) + LEFT)
    made = Image.new("RGB", (wide, int(y)), PAPER)
    pen = ImageDraw.Draw(made)
    for *box, colour in sheet.boxes:
        pen.rectangle(box, fill=colour, outline=FRAME)
    for x, top, text, ink in sheet.words:
        pen.text((x, top), text, fill=ink, font=sheet.font)
    out = io.BytesIO()
    made.save(out, "PNG")
    return out.getvalue()


def _band(
    sheet: _Sheet, y: float, corpora: Sequence[str], tokens: NDArray[np.object_], values: Values, top: float
) -> float:
    """Some corpora side by side, one row an example; where what follows begins."""
    for c, corpus in enumerate(corpora):
        sheet.write(LEFT + c * (WIDE + GAP), y, _short(corpus), FAINT)
    y += LINE
    for row in range(values.shape[1]):
        ends = [y]
        for c in range(len(corpora)):
            there = ~np.isnan(values[c, row])
            said = [_short(t) for t, ok in zip(tokens[c, row], there, strict=True) if ok]
            if said:
                ends.append(sheet.tokens(LEFT + c * (WIDE + GAP), y, said, values[c, row][there], top))
        y = max(ends) + 8
    return y


def shaded_words(result: Result) -> str:
    """What the picture shows, for those who do not see it; nothing where there is none."""
    found = _read(result)
    if found is None:
        return ""
    _, _, units, corpora = found
    return f"the examples on which {', '.join(units)} is most active, side by side on {', '.join(corpora)}, each token shaded"


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(12)


def _short(text: str) -> str:
    """A token or a name as it is drawn: what cannot be seen is."""
    text = text.replace("\n", "\\n").replace("\t", "\\t")
    text = text if text.strip() else "_" * len(text)
    text = text.encode("latin-1", "backslashreplace").decode("latin-1")  # the font has no other letters
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _shade(share: float) -> tuple[int, int, int]:
    colour = RED if share >= 0 else BLUE
    mixed = 255 - (255 - colour) * min(1.0, abs(share))
    return int(mixed[0]), int(mixed[1]), int(mixed[2])


def _read(result: Result) -> tuple[Values, NDArray[np.object_], tuple[str, ...], tuple[str, ...]] | None:
    """Values and tokens, (unit, corpus, example, token), with the names of units and corpora; None for what is not as written."""
    arrays = {a.name: a for a in result.arrays}
    if SHADED not in arrays or TOKENS not in arrays or not _sound(arrays[SHADED], arrays[TOKENS]):
        return None
    values, tokens = arrays[SHADED], arrays[TOKENS]
    found = np.frombuffer(values.data, "<f4").reshape(values.shape).astype(np.float64)
    found = np.where(np.isinf(found), np.nan, found)
    said = np.array(tokens.axes[0].labels, dtype=object).reshape(values.shape)
    return found, said, values.axes[0].labels, values.axes[1].labels


def _sound(values: Array, tokens: Array) -> bool:
    """Whether the two belong together: a record from elsewhere may hold anything."""
    size = int(np.prod(values.shape)) if values.shape else 0
    whole = values.dtype == "float32" and len(values.shape) == 4 and len(values.axes) == 4 and 0 < size <= MOST
    if not whole or len(values.data) != 4 * size or values.shape != tuple(len(a.labels) for a in values.axes):
        return False
    return len(tokens.axes) == 1 and len(tokens.axes[0].labels) == size
