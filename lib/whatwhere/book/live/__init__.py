"""Live figures: the organisms run inside a page, in JavaScript of our own, with no network and no
kernel.

    weights     an organism as a script (`weights.export("toy-llava")`), and all of the engine as
                one (`weights.engine()`)
    engine.js   what a page calls: maps, answers, chances; from simd.js and kernels.js, products
                and attention; vit.js, eyes and connector; language.js, the language model;
                experiments.js, runs of words and what a thing's patches hold
    world.js    the drawn world; world_data, what it needs to know
    tabletop    a scene that a reader changes and a model reads again (`Tabletop(scene)`), and all
                files to which a page refers (`tabletop.assets(folder)`); tabletop.js wakes a
                figure, figure.js and tabletop.css are the live one; panels.js, the book's
                experiments in it; worker.js, the models beside the page
    notes       what two things' patches hold of where they are, for chapters 12 and 14
"""
