"""What RoPE scaling costs while it is on: it exchanges one buffer of frequencies, so the answer should be nothing."""

import whatwhere as ww

from . import models, timing


def overhead(names, repeats=300):
    """{model: {"times", "least", "most"}}: how long the vision tower takes while it is scaled, over how long it usually takes."""
    picture = ww.world.scene(seed=7).image
    for name in names:
        vlm = ww.load(name)
        if vlm.adapter.rotary is not None:
            yield name, of(vlm, picture, repeats)
    vlm = models.half(depth=8)
    yield f"{vlm.name}, 8 ViT blocks", of(vlm, picture.resize((16 * models.TOKEN,) * 2), repeats // 15)


def of(vlm, image, repeats):
    def usual():
        vlm.vit_states(image, [vlm.depths])

    def scaled():
        with ww.rope.scaled(vlm, 9, 2):
            vlm.vit_states(image, [vlm.depths])

    took = timing.interleaved({"usual": usual, "scaled": scaled}, repeats, vlm.device, vlm.name)
    return timing.ratio(took["scaled"], took["usual"])
