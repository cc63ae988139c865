"""The models that parity is tested on: every family, in the shapes in which something may go wrong.

One list for the tests of models, lens, compression and rotary positions, each of which takes the
part that concerns it. `checkpoint` (a fixture, in conftest.py) makes each once a session.
"""

import copy

from whatwhere.book import rehearsal
from whatwhere.book.rehearsal.checkpoints import internvl, llava, qwen2vl, qwen3vl, smolvlm

SHAPES = {  # as today's transformers saves them
    "llava": (llava, {}),
    "llava, class token kept, second-last block, tied, one key head": (
        llava,
        dict(strategy="full", feature_layer=-2, tied=True, vision_blocks=4, kv_heads=1, layers=2),
    ),
    "llava, counted from the front, a key head each": (
        llava,
        dict(feature_layer=2, kv_heads=4, image=32, patch=4),
    ),
    "qwen2vl": (qwen2vl, {}),
    "qwen2vl, no merging, tied": (qwen2vl, dict(merge=1, tied=True)),
    "qwen2vl, merging 3 x 3, one key head": (qwen2vl, dict(merge=3, kv_heads=1, layers=2)),
    "qwen2.5vl": (qwen2vl, dict(window=2)),
    "qwen2.5vl, windows 3 x 3, no merging": (
        qwen2vl,
        dict(window=3, merge=1, vision_blocks=4),
    ),
    "qwen3vl": (qwen3vl, {}),
    "qwen3vl, no merging, tied, the last block added first": (
        qwen3vl,
        dict(merge=1, tied=True, deepstack=(2, 0), kv_heads=1),
    ),
    "internvl": (internvl, {}),
    "internvl, tied, normed after the ViT, queries and keys normed": (
        internvl,
        dict(tied=True, pooled=False, normed=True, image=18),
    ),
    "smolvlm, merging 3 x 3, a last strip of pixels unseen, tied": (
        smolvlm,
        dict(merge=3, image=26, tied=True),
    ),
    "idefics3, merging 4 x 4, no token for the whole image": (
        smolvlm,
        dict(family="idefics3", merge=4, image=32, whole=()),
    ),
}
HUB = [f"hub/{family}" for family in rehearsal.FAMILIES]  # as the hub has them
PARITY = [*SHAPES, *HUB]
# each family once: `families.check` runs on these
CHECK = [*HUB, "smolvlm, merging 3 x 3, a last strip of pixels unseen, tied"]
LENS = [
    "llava, class token kept, second-last block, tied, one key head",
    "qwen2vl, no merging, tied",
    "qwen2vl, merging 3 x 3, one key head",
    "qwen2.5vl",
    "qwen3vl, no merging, tied, the last block added first",
    "internvl, tied, normed after the ViT, queries and keys normed",
    *HUB,
]
COMPRESS = ["llava", "qwen2vl", *HUB]
LANGUAGES = [
    "llava, class token kept, second-last block, tied, one key head",
    "llava, counted from the front, a key head each",
    "qwen2vl, merging 3 x 3, one key head",
    "qwen3vl",
    *HUB,
]


def cut(vlm, depth):
    """A copy of the model, by transformers alone, with the ViT's later blocks taken out."""
    model = copy.deepcopy(vlm.model)
    towers = ("visual", "vision_tower", "vision_model")
    tower = next(getattr(model.model, name) for name in towers if hasattr(model.model, name))
    tower = getattr(tower, "vision_model", tower)  # CLIP's, until transformers 5.6 or so
    if vlm.family == "llava":
        tower.config.num_hidden_layers, model.config.vision_feature_layer = depth, -1
    holder = getattr(tower, "encoder", tower)
    name = next(name for name in ("blocks", "layer", "layers") if hasattr(holder, name))
    setattr(holder, name, getattr(holder, name)[:depth])
    return model
