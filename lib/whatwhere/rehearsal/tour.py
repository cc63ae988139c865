"""Every chapter's calls, once each, on one model: what works on it, and what it says of what does not."""

import numpy as np
import pandas as pd
import torch

from .. import compress, geometry, images, intervene, lens, rope


def tour(vlm, picture, question="what is this ?"):
    """A DataFrame with a row for each kind of call: its chapter, and "yes" or the sentence with which it was refused.

    It runs the model some thirty times, on a picture that may be anything `images.read` takes. Only a ValueError counts as a
    refusal; any other error is raised. What the answers are worth is not looked at: see each family's parity tests.
    """
    picture = images.read(picture)
    rows, columns = vlm.patch_grid(picture)
    one = np.zeros((rows, columns), bool)
    one[0, 0] = True
    fine = one.repeat(vlm.adapter.merge, 0).repeat(vlm.adapter.merge, 1)  # the same place on the ViT's own grid
    decoder = compress.distil(vlm, compress.lessons(vlm, [picture], progress=False), epochs=1)

    def answered(change):
        with change:
            vlm.answer(picture, question, max_new_tokens=2)

    width = vlm.unembedding.weight.shape[1]
    calls = {
        (1, "answers a question"): lambda: vlm.answer(picture, question, max_new_tokens=2),
        (2, "token maps, at every depth"): lambda: lens.token_maps(vlm, picture),
        (3, "the ViT's states, at every depth"): lambda: vlm.vit_states(picture),
        (4, "a visual decoder"): lambda: lens.token_maps(vlm, picture, decoder=decoder),
        (5, "compression, by words"): lambda: [answered(compress.method(vlm, n, decoder)) for n in (1, 2, 3)],
        (5, "compression, the baselines"): lambda: [answered(compress.method(vlm, b, keep=0.5)) for b in compress.BASELINES],
        (6, "patches moved elsewhere"): lambda: answered(intervene.moved(vlm, fine, (0, 1 if columns > 1 else 0))),
        (8, "queries and keys of the ViT's 2-D RoPE"): lambda: rope.heads(vlm, picture),
        (8, "queries and keys of the language model"): lambda: rope.language_heads(vlm, picture, question),
        (9, "states at every place"): lambda: geometry.states(vlm, [picture]),
        (10, "a vector added, in the language model"): lambda: answered(intervene.added(vlm, one, torch.zeros(width), layer=1)),
        (11, "RoPE scaling"): lambda: answered(rope.scaled(vlm, alpha=9, p=2)),
    }
    found = [{"chapter": chapter, "what": what, "works": _tried(call)} for (chapter, what), call in calls.items()]
    return pd.DataFrame(found)


def _tried(call):
    try:
        call()
    except ValueError as error:
        return str(error)
    return "yes"
