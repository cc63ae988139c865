"""Live figures: the organisms run inside a page, in JavaScript of our own, with no network and no
kernel.

    weights     an organism as a script (`weights.export("toy-llava")`), and all of the engine as
                one (`weights.engine()`)
    engine.js   what a page calls: maps, answers, chances; from simd.js and kernels.js, products
                and attention; vit.js, eyes and connector; language.js, the language model
    world.js    the drawn world; world_data, what it needs to know
    tabletop    a scene that a reader changes and a model reads again (`Tabletop(scene)`), and all
                files to which a page refers (`tabletop.assets(folder)`); tabletop.js and .css, the
                figure; worker.js, the models beside the page
"""
