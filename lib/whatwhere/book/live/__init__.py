"""Live figures: the organisms run inside a page, in JavaScript of our own, with no network and no
kernel.

    weights     an organism as a script (`weights.export("toy-llava")`), and all of the engine as
                one (`weights.engine()`)
    engine.js   what a page calls: maps, answers, chances; from simd.js and kernels.js, products
                and attention; vit.js, eyes and connector; language.js, the language model
"""
