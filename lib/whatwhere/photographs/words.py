"""Other words for the things of COCO, and so of POPE: a patch that says *bike* has named a bicycle.

A list of our own. A word stands here only if it means no other of the 80 categories: "cup" has no
*mug* for *wine glass*, and parts of things (wheel, pillow) are not the things.
"""

from __future__ import annotations

_OTHERS = {
    "person": "people man men woman women boy girl child children kid baby guy lady player",
    "bicycle": "bike cycle", "car": "automobile sedan", "motorcycle": "motorbike scooter moped",
    "airplane": "plane aeroplane jet aircraft", "bus": "coach", "train": "locomotive",
    "truck": "lorry pickup", "boat": "ship sailboat canoe kayak yacht", "traffic light":
    "stoplight", "fire hydrant": "hydrant", "bird": "pigeon seagull duck goose parrot",
    "cat": "kitten kitty", "dog": "puppy", "horse": "pony foal", "sheep": "lamb ewe",
    "cow": "cattle calf bull ox", "bear": "grizzly", "giraffe": "giraffes", "backpack": "rucksack "
    "knapsack", "umbrella": "parasol", "handbag": "purse", "tie": "necktie", "suitcase": "luggage "
    "baggage", "frisbee": "disc", "skis": "ski", "sports ball": "ball football basketball "
    "baseball", "skateboard": "longboard", "tennis racket": "racket racquet", "wine glass":
    "wineglass goblet", "cup": "mug", "banana": "bananas", "sandwich": "burger hamburger",
    "hot dog": "hotdog", "donut": "doughnut", "cake": "cupcake", "chair": "seat armchair stool",
    "couch": "sofa settee", "potted plant": "houseplant plant", "bed": "bunk", "dining table":
    "table", "tv": "television monitor", "laptop": "notebook", "remote": "clicker",
    "cell phone": "phone cellphone smartphone mobile", "microwave": "microwaves",
    "oven": "stove cooker", "refrigerator": "fridge", "book": "novel", "vase": "pot",
    "teddy bear": "teddy", "hair drier": "hairdryer dryer",
}  # fmt: skip


def synonyms(word: str) -> tuple[str, ...]:
    """The word itself, and what else COCO's thing of that name is called; any other word alone."""
    return (word, *_OTHERS.get(word.lower(), "").split())
