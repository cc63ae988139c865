"""Checks of the chapter that runs the paper's experiments on any model."""

from typing import Any

import numpy as np

from ...images import View
from . import array, exercise, expect, number

# the picture's size, how a model views it, and a box in it
BOXES = (
    ((640, 480), View((448, 336), (56, 0, 392, 336)), (0, 0, 640, 480)),
    ((640, 480), View((448, 336), (56, 0, 392, 336)), (160, 120, 480, 360)),
    ((300, 600), View((336, 672), (0, 168, 336, 504)), (30, 300, 60, 400)),
    # as a Qwen2-VL does: nothing is cropped, and the sides are scaled by different factors
    ((100, 200), View((112, 196), (0, 0, 112, 196)), (25, 50, 75, 100)),
)


@exercise("boxes go where the picture goes")
def landed(landed: Any) -> None:
    for size, view, box in BOXES:
        scale = np.tile(np.array(view.size) / np.array(size), 2)
        resized = np.array(box) * scale
        right = resized - np.tile(view.box[:2], 2)
        where = f"of {box} in a picture of {size}, resized to {view.size}, cropped to {view.box}"
        got = array(landed(box, size, view), (4,), f"what becomes {where}")
        told = f"you make {tuple(got.round(2).tolist())} {where}"
        if not np.allclose(got, right):
            rows_first = np.allclose(got, right[[1, 0, 3, 2]])
            expect(not rows_first, f"rows and columns are the other way round: {told}")
            uncropped = np.allclose(got, resized)
            expect(not uncropped, f"the resized picture is also cropped: {told}")
            seen = np.array(view.box[2:]) - np.array(view.box[:2])
            cut = np.allclose(got, right.clip(0, np.tile(seen, 2)))
            expect(not cut, f"what lies outside should not be cut off: {told}")
            expect(False, f"{told}: this is not where it lands")


@exercise("intervals shrink with the root of the number")
def questions(questions: Any) -> Any:
    for gain, changed in ((0.1, 0.5), (0.05, 0.2), (0.01, 0.1), (0.0196, 0.04)):
        got = number(questions(gain, changed), f"questions({gain}, {changed})")
        told = f"questions({gain}, {changed}) is {got:g}"
        expect(got == int(got) and got > 0, f"{told}: a number of questions is whole")

        def width(n, changed=changed):
            return 1.96 * np.sqrt(changed / n)

        enough = width(got) <= gain * (1 + 1e-9)
        expect(enough, f"{told}: 1.96 standard errors are then larger than the gain")
        fewer = got > 1 and width(got - 1) <= gain * (1 - 1e-9)
        expect(not fewer, f"{told}: fewer would do")
    needed = questions(0.0082, 0.1)
    print(f"for the paper's gain, if a tenth of the answers change: {needed:,}")


@exercise("many patches make a rare word likely")
def by_chance(by_chance: Any) -> None:
    rng = np.random.default_rng(0)
    for share, patches in ((0.4, 1), (0.4, 2), (0.1, 7), (0.0, 576), (1.0, 3), (0.002, 576)):
        where = f"by_chance({share}, {patches})"
        got = number(by_chance(share, patches), where)
        expect(0 <= got <= 1, f"{where} is {got:.3g}: a probability lies between 0 and 1")
        # tried out: four standard errors of 20,000 maps
        says = rng.binomial(patches, share, 20_000)
        close = abs(got - (says > 0).mean()) < 4 * 0.5 / np.sqrt(20_000)
        none = abs(got - (says == 0).mean()) < 4 * 0.5 / np.sqrt(20_000)
        expect(close or not none, f"{where} is {got:.3g}: that is how often *no* patch says it")
        expect(close, f"{where} is {got:.3g}: of 20,000 drawn maps, another share says yes")
        exact = abs(got + np.exp(patches * np.log1p(-share)) - 1) < 1e-9 if share < 1 else got == 1
        expect(exact, f"{where} is {got:.6g}: near, but not exactly it")
    for share in (1e-4, 1e-3, 1e-2):
        hits = by_chance(share, 576)
        print(f"one patch in {1 / share:,.0f}: {hits:.0%} of maps")
