"""Other words for the things of COCO, and so of POPE: a patch that says *bike* has named a bicycle.

A list of our own. A word stands here for one of the 80 categories only, and parts of things (wheel,
pillow) are not the things. Plurals need none: `lens.forms` has the regular ones.
"""

from __future__ import annotations

_OTHERS = {
    "person": "people man men woman women boy girl child children kid baby guy lady player",
    "bicycle": "bike cycle", "car": "automobile sedan", "motorcycle": "motorbike scooter moped",
    "airplane": "plane aeroplane jet aircraft", "bus": "coach", "train": "locomotive",
    "truck": "lorry pickup", "boat": "ship sailboat canoe kayak yacht",
    "traffic light": "stoplight", "fire hydrant": "hydrant",
    "bird": "pigeon seagull duck goose parrot", "cat": "kitten kitty", "dog": "puppy",
    "horse": "pony foal", "sheep": "lamb ewe", "cow": "cattle calf bull ox", "bear": "grizzly",
    "backpack": "rucksack knapsack", "umbrella": "parasol", "handbag": "purse", "tie": "necktie",
    "suitcase": "luggage baggage", "frisbee": "disc", "skis": "ski",
    "sports ball": "ball football basketball", "skateboard": "longboard",
    "tennis racket": "racket racquet", "wine glass": "wineglass goblet", "cup": "mug",
    "sandwich": "burger hamburger", "hot dog": "hotdog", "donut": "doughnut", "cake": "cupcake",
    "chair": "seat armchair stool", "couch": "sofa settee", "potted plant": "houseplant plant",
    "bed": "bunk", "dining table": "table", "tv": "television monitor", "laptop": "notebook",
    "remote": "clicker", "cell phone": "phone cellphone smartphone mobile", "oven": "stove cooker",
    "refrigerator": "fridge", "book": "novel", "teddy bear": "teddy",
    "hair drier": "hairdryer dryer",
}  # fmt: skip


def synonyms(word: str) -> tuple[str, ...]:
    """The word itself, and what else COCO's thing of that name is called; any other word alone."""
    return (word, *_OTHERS.get(word.lower(), "").split())
