"""Checks of the chapter in which the model is met."""

from typing import Any

import numpy as np

from ... import world
from ...world.rendering import extent_at
from .. import figures
from . import array, exercise, expect, number, pair


def largest(category: str) -> int:
    """The larger side of the largest thing of a category in scenes of training, in pixels."""
    return extent_at(category, world.SIZE, world.SIZE)


@exercise("every pixel that was tried lies in the patch that you named")
def token_at(token_at: Any, side: Any, grid: Any) -> None:
    rows, columns = grid
    whose = np.kron(np.arange(rows * columns).reshape(grid), np.ones((side, side), int))
    bottom, right = whose.shape[0] - 1, whose.shape[1] - 1
    tried = [(0, 0), (right, 0), (0, bottom), (right, bottom), (side - 1, side)]
    tried.append((min(5, columns - 1) * side + 1, min(2, rows - 1) * side))
    found = {}
    for x, y in tried:
        got = number(token_at(x, y), f"token_at({x}, {y})")
        expect(got == int(got), f"token_at({x}, {y}) is the number of a patch, a whole one")
        found[x, y] = int(got)
    turned = all(whose[min(x, bottom), min(y, right)] == n for (x, y), n in found.items())
    right_ones = [whose[y, x] == n for (x, y), n in found.items()]
    expect(all(right_ones) or not turned, "rows and columns are the other way round")
    for ((x, y), n), holds in zip(found.items(), right_ones):
        expect(holds, f"the pixel in column {x} and row {y} does not lie in patch {n}")


class _Parrot:
    """A model that says the same words in turn, whatever it is asked."""

    def __init__(self, *words) -> None:
        self.words, self.said, self.asked = words, [], []

    def answer(self, image: Any, question: Any, *more, **options) -> Any:
        pictures = image if isinstance(image, list) else [image]
        for picture in pictures:
            expect(np.ptp(np.asarray(picture)) == 0, "the picture should be plain grey")
        self.asked += question if isinstance(question, list) else [question] * len(pictures)
        many = isinstance(image, list) or isinstance(question, list)
        asked = len(question) if isinstance(question, list) else len(pictures)
        said = [self.words[(len(self.said) + n) % len(self.words)] for n in range(asked)]
        self.said += said
        return said if many else said[0]


@exercise("the parrot knows a few words, and your function knows the parrot")
def right_kind(right_kind: Any, vlm: Any) -> None:
    for family in ("colour", "texture"):
        for words in (("red",), ("striped",), ("red", "striped", "mug")):
            parrot = _Parrot(*words)
            got = number(right_kind(parrot, family, 6), f"the share of family {family!r}")
            expect(0 <= got <= 1, f"a share lies between 0 and 1; you have {got:.3g}")
            texts = []
            for each in world.scenes("dev", 6):
                texts += [question.text for question in world.questions(each, [family])]
            expect(
                len(parrot.said) == len(texts),
                f"the first 6 scenes have another number of {family} questions than the "
                f"{len(parrot.said)} that were asked",
            )
            expect(
                sorted(parrot.asked) == sorted(texts),
                f"these are not the {family} questions of the first 6 development scenes",
            )
            kind = np.mean([word in world.words_of(family) for word in parrot.said])
            expect(
                abs(got - kind) < 1e-9,
                f"of {family} questions to a parrot that says {', '.join(words)}, you count "
                f"{got:.0%}: an answer counts if it is in the list of this kind's words",
            )
    for family in ("colour", "texture", "category", "background"):
        print(f"{family}: {right_kind(vlm, family, 20):.0%} of the answers are of the right kind")


@exercise("a visible thing that the model calls by a wrong name")
def found(found: Any, vlm: Any) -> None:
    scene, index = pair(found, "found")
    things: tuple[Any, ...] = getattr(scene, "things", ())
    expect(things, "found is (scene, index): first a scene, then a number")
    n = int(array(index, (), "the index"))
    expect(0 <= n < len(things), f"the scene has things 0 to {len(things) - 1}, not {n}")
    thing = things[n]
    colours = [each.colour for each in things]
    lone = thing.colour and colours.count(thing.colour) == 1
    expect(lone, "the question names the thing by its colour: no other may have the same")
    expect(scene.light >= 0.5, "it is so dark that nobody sees at once what it is")
    expect(
        thing.extent <= largest(thing.category),
        f"{thing.extent} pixels are more than any {thing.category} had in training "
        f"({largest(thing.category)} at most)",
    )
    seen = scene.visible[n]
    expect(seen >= 0.95, f"only {seen:.0%} of the {thing.category} is visible")
    said = vlm.answer(scene.image, f"what is the {thing.colour} object ?")
    expect(said != thing.category, f"the model says {said}, and it is right")
    print(f"a {thing.category} of {thing.extent} pixels, and the model says {said!r}")
    figures.show(
        figures.scene(scene.image, size=2.6),
        f"A changed scene with a {thing.colour} {thing.category} of {thing.extent} pixels.",
    )
