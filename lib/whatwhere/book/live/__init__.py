"""Live figures: the organisms run inside a page, in JavaScript of our own, with no network and no
kernel.

    weights     an organism as a script (`weights.export("toy-llava")`)
    engine.js   its eyes, connector and language model, from the parts in kernels.js, vit.js and
                language.js
"""
