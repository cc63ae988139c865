/* What the book's experiments compute from a picture, besides what an Organism does: runs of words
   (chapter 6), and what a thing's patches hold (chapters 10 and 11). */
(function (live) {
    'use strict';
    const { checkRange } = live;

    /* Chapter 6's run-length code, as `compress.by_words` has it: (tokens,) groups for `sight`, whole
       numbers that are the same along a run of a line, and −1 for what is dropped.

       reading: {ids (tokens, top)}, what a lens says; columns: of the map. method: the paper's, 1
       drops nothing, 2 tokens whose first word is a punctuation mark, 3 those whose first and second
       are. same: how many of two neighbours' first words must agree. */
    function runs({ ids }, top, columns, punctuation, { method, same }) {
        const marks = new Set(punctuation), tokens = ids.length / top;
        checkRange('method', method, 3);
        checkRange('number of words that agree', same, top);
        const word = (n, rank) => ids[n * top + rank];
        const dropped = n => method > 1 && marks.has(word(n, 0)) && (method === 2 || marks.has(word(n, 1)));
        const alike = (a, b) => Array.from({ length: same }, (_, rank) => rank).every(rank => word(a, rank) === word(b, rank));
        const of = [];
        for (let n = 0, run = -1; n < tokens; n++) {
            const goesOn = n % columns && !dropped(n) && !dropped(n - 1) && alike(n, n - 1);
            if (!dropped(n) && !goesOn) run++;
            of.push(dropped(n) ? -1 : run);
        }
        return of;
    }

    /* The mean of some rows of (rows, width) numbers: a list. */
    function mean(states, width, rows) {
        const sum = new Array(width).fill(0);
        for (const row of rows) for (let i = 0; i < width; i++) sum[i] += states[row * width + i];
        return sum.map(each => each / rows.length);
    }

    /* For each thing, given by its patches, their mean state at a place of the model, "ViT 4" or
       "LM 0": what `geometry.thing_vectors` has. Patches are counted in raster order: of the ViT's in
       the ViT, visual tokens in the LM. states: of the ViT, a list; sight: of the last. */
    function thingVectors(organism, states, sight, place, things) {
        const [tower, number] = place.split(' '), { vision, language } = organism;
        if (tower === 'LM') {
            const seen = organism.seenAt(sight, Number(number));
            return things.map(rows => mean(seen, language.width, rows));
        }
        const seen = vision.patchStates(states[Number(number)]);
        return things.map(rows => mean(seen, vision.width, rows.map(patch => vision.inOrder(patch))));
    }

    Object.assign(live, { runs, thingVectors });
})(globalThis.whatwhereLive = globalThis.whatwhereLive || {});
