"""`tabletop`: a small rendered world in which the truth about every pixel is known.

    scene = world.scene(seed=7)              # a test scene: .image, .things, .owner, .masks
    world.questions(scene)                   # questions of every family, with answers
    world.controlled("A", n=10)              # the same pair in all four relations
    world.gestalt.occluded(world.gestalt.lone(7), (12, 12))   # one thing, not whole

The world knows nothing of models. Everything is a function of a seed: same seed, same bytes.
"""

from . import gestalt
from .controlled_sets import RELATIONS_A, RELATIONS_B, SPACING, ControlledSet, controlled
from .question_bank import (
    ABSENTEES,
    QUESTION_FAMILIES,
    Question,
    description,
    existence,
    kinds_of_words,
    questions,
    relation_question,
    vocabulary,
    words_of,
)
from .rendering import SPLITS, Scene, Thing, held_out, scene, scenes
from .rules import relation
from .sprites import BACKGROUNDS, CATEGORIES, CHARACTERS, COLOURS, PORTABLE, SIZE, STANDS, TEXTURES

__all__ = [
    "ABSENTEES", "BACKGROUNDS", "CATEGORIES", "CHARACTERS", "COLOURS", "PORTABLE",
    "QUESTION_FAMILIES", "RELATIONS_A", "RELATIONS_B", "SIZE", "SPACING", "SPLITS", "STANDS",
    "TEXTURES", "ControlledSet", "Question", "Scene", "Thing", "controlled",
    "description", "existence", "gestalt", "held_out", "questions", "relation", "relation_question",
    "kinds_of_words", "scene", "scenes", "vocabulary", "words_of",
]  # fmt: skip
