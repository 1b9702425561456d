"""The loss by optimizer step as a small PNG, for a page that is not ours: a model card on the Hub."""

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

Points = Sequence[tuple[float, float]]
SIZE = (900, 420)
LEFT, TOP, RIGHT, BOTTOM = 70, 50, 880, 370
INK, GRID = "#33474f", "#dfe6e9"
LINES = (("train loss", "#7fa8b3", 2), ("validation loss", "#0b6e75", 4))


def loss_png(train: Points, validation: Points) -> bytes:
    """Both curves on one scale, with axes and a legend; b"" where there is nothing to draw."""
    both = [*train, *validation]
    if not both:
        return b""
    last = max(x for x, _ in both) or 1.0
    low, high = min(y for _, y in both), max(y for _, y in both)
    span = (high - low) or 1.0

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x, y = point
        return LEFT + (RIGHT - LEFT) * x / last, BOTTOM - (BOTTOM - TOP) * (y - low) / span

    image = Image.new("RGB", SIZE, "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(16)
    for part in range(5):
        y = low + span * part / 4
        height = place((0, y))[1]
        draw.line([(LEFT, height), (RIGHT, height)], fill=GRID)
        draw.text((LEFT - 8, height), f"{y:.2f}", fill=INK, font=font, anchor="rm")
        step = round(last * part / 4)
        draw.text((place((step, low))[0], BOTTOM + 8), str(step), fill=INK, font=font, anchor="ma")
    for (name, colour, width), points, at in zip(LINES, (train, validation), (LEFT, LEFT + 180), strict=True):
        draw.line([place(p) for p in points], fill=colour, width=width, joint="curve")
        draw.line([(at, 24), (at + 28, 24)], fill=colour, width=width)
        draw.text((at + 36, 24), name, fill=INK, font=font, anchor="lm")
    draw.text((RIGHT, SIZE[1] - 8), "optimizer step", fill=INK, font=font, anchor="rb")
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()
