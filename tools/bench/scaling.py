"""What RoPE scaling costs while it is on: it exchanges one buffer of frequencies, so the answer
should be nothing."""

import whatwhere as ww
from tools.trials.rehearse import now

from . import models, timing


def overhead(names, repeats=300):
    """{model: {"times", "least", "most"}}: how long the vision tower takes while it is scaled, over
    how long it usually takes."""
    picture = ww.world.scene(seed=7).image
    for name in names:
        vlm = ww.load(name)
        if vlm.adapter.rotary is not None:
            yield name, of(vlm, picture, repeats)
    vlm = models.half(depth=8)
    yield (
        f"{vlm.name}, 8 ViT blocks",
        of(vlm, picture.resize((16 * models.TOKEN,) * 2), repeats // 15),
    )


def of(vlm, image, repeats):
    """The median over pairs of runs, in either order; exchanging the frequencies is not timed,
    since one does it once."""
    took = {0: [], 9: []}
    for n in range(repeats):
        for alpha in ((0, 9), (9, 0))[n % 2]:
            with ww.rope.scaled(vlm, alpha, 2):
                start = now(vlm.device)
                vlm.vit_states(image, [vlm.last_depth])
                took[alpha].append(now(vlm.device) - start)
    return timing.ratio(took[9], took[0])
