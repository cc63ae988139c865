/* What the book's experiments compute from a picture, besides what an Organism does: runs of words
   (chapter 6), what a thing's patches hold (chapters 12 and 14), and where a token looks. */
(function (live) {
  'use strict';
  const { exponential, layerNorm, linear, rmsNorm, rotate, rotations } = live;

  /* Chapter 6's run-length code, as `compress.by_words` has it: (tokens,) groups for `sight`, whole
     numbers that are the same along a run of a line, and −1 for what is dropped.

     reading: {ids (tokens, top)}, what a lens says; columns: of the map. method: the paper's, 1
     drops nothing, 2 tokens whose first word is a punctuation mark, 3 those whose first and second
     are. same: how many of two neighbours' first words must agree. */
  function runs({ ids }, top, columns, punctuation, { method, same }) {
    const marks = new Set(punctuation);
    const tokens = ids.length / top;
    if (![1, 2, 3].includes(method)) throw new Error(`The method is 1, 2 or 3, not ${method}.`);
    if (!(Number.isInteger(same) && same >= 1 && same <= top)) {
      throw new Error(`From 1 to ${top} words can be asked to agree, not ${same}.`);
    }
    const word = (n, rank) => ids[n * top + rank];
    const dropped = n =>
      method > 1 && marks.has(word(n, 0)) && (method === 2 || marks.has(word(n, 1)));
    const alike = (a, b) =>
      Array.from({ length: same }, (_, rank) => rank).every(
        rank => word(a, rank) === word(b, rank),
      );
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
    const sum = Array.from({ length: width }, () => 0);
    for (const row of rows) for (let i = 0; i < width; i++) sum[i] += states[row * width + i];
    return sum.map(each => each / rows.length);
  }

  /* For each thing, given by its patches, their mean state at a place of the model, "ViT 4" or
     "LM 0": what `geometry.thing_vectors` has. Patches are counted in raster order: of the ViT's in
     the ViT, visual tokens in the LM. states: of the ViT, a list; sight: of the last. */
  function thingVectors(organism, states, sight, place, things) {
    const [tower, number] = place.split(' ');
    const { vision, language } = organism;
    if (tower === 'LM') {
      const seen = organism.seenAt(sight, Number(number));
      return things.map(rows => mean(seen, language.width, rows));
    }
    const seen = vision.patchStates(states[Number(number)]);
    return things.map(rows =>
      mean(
        seen,
        vision.width,
        rows.map(patch => vision.inOrder(patch)),
      ),
    );
  }

  /* (heads, seen) attention of one row to the first `seen` rows, in [queries, keys, …] of a block,
     which are turned already. */
  function weights(three, row, seen, { step, heads, shared, size, keysAt, bias = null }) {
    const out = new Float32Array(heads * seen);
    const scale = 1 / Math.sqrt(size);
    for (let h = 0; h < heads; h++) {
      const logits = new Float64Array(seen);
      const from = row * step + h * size;
      for (let t = 0; t < seen; t++) {
        const at = t * step + keysAt + Math.floor(h / shared) * size;
        let sum = 0;
        for (let i = 0; i < size; i++) sum += three[from + i] * three[at + i];
        logits[t] = sum * scale + (bias ? bias[t] : 0);
      }
      const most = Math.max(...logits);
      const raised = logits.map(each => exponential(each - most));
      const sum = raised.reduce((a, b) => a + b);
      raised.forEach((each, t) => {
        out[h * seen + t] = each / sum;
      });
    }
    return out;
  }

  /* What some tokens collect from the patches, on average, as `vlm.attention` has it: {weights
     (rows × columns), columns, elsewhere}, where the last is what goes to tokens that are none.

     place: "ViT 4" or "LM 2", a block, counted from 1. head: its number, or 'mean'. from: 'patch',
     the visual token at row and column; or, in the LM, 'last', the prompt's last token, or a word
     of the question, by its number. */
  function looks(organism, states, sight, question, { place, head, from, row, column }) {
    const [tower, number] = place.split(' ');
    const n = Number(number);
    const { vision, language, text } = organism;
    const chosen = row * vision.grid + column;
    const inLM = tower === 'LM';
    const part = inLM ? language : vision;
    live.checkRange('visual token', chosen, vision.tokens - 1);
    if (head !== 'mean') live.checkRange('head', head, part.heads - 1);
    live.checkRange('block', n, inLM ? language.layers : vision.depth);
    const { width, heads, size } = part;
    const block = part.blocks[n - 1];
    let three;
    let step;
    let tokens;
    let first;
    let seen;
    let about;
    let order;
    if (inLM) {
      const ids = organism.questionIds(question);
      const { states: hidden } = organism.hidden(sight, question);
      const given = hidden[n - 1];
      const length = given.length / width;
      const tail = text.between.length + ids.length + text.after.length;
      const positions = [
        ...language.counted(text.before.length, 0),
        ...sight.positions,
        ...language.counted(tail, sight.next),
      ];
      const turned = rotations(positions, language.nAxes, language.frequencies, language.axes);
      step = width + 2 * language.keyWidth;
      three = linear(rmsNorm(given, block.norm1, language.epsilon), length, block.heads);
      rotate(three, 0, step, length, heads, turned);
      rotate(three, width, step, length, language.keyHeads, turned);
      first = text.before.length;
      const token =
        from === 'patch'
          ? first + chosen
          : from === 'last'
            ? length - 1
            : length - tail + text.between.length + from;
      live.checkRange('token', token, length - 1);
      [tokens, seen, order] = [
        [token],
        token + 1,
        Array.from({ length: vision.tokens }, (_, k) => first + k),
      ];
      about = { shared: heads / language.keyHeads };
    } else {
      const given = states[n - 1];
      const length = given.length / width;
      const turned = vision.rotation(n);
      const { leading, merge, side } = vision;
      step = 3 * width;
      three = linear(layerNorm(given, block.norm1, vision.epsilon), length, block.heads);
      for (const at of turned ? [0, width] : []) rotate(three, at, step, length, heads, turned);
      const own = Array.from(
        { length: merge * merge },
        (_, k) => (row * merge + Math.floor(k / merge)) * side + column * merge + (k % merge),
      );
      tokens = own.map(patch => leading + vision.inOrder(patch));
      [seen, order] = [
        length,
        Array.from({ length: vision.patches }, (_, patch) => leading + vision.inOrder(patch)),
      ];
      about = { shared: 1 };
    }
    const chosenHeads = head === 'mean' ? [...Array(heads).keys()] : [head];
    const sum = new Float32Array(seen);
    for (const token of tokens) {
      const all = weights(three, token, seen, { step, heads, size, keysAt: width, ...about });
      for (const h of chosenHeads)
        for (let t = 0; t < seen; t++)
          sum[t] += all[h * seen + t] / chosenHeads.length / tokens.length;
    }
    const found = order.map(t => (t < seen ? sum[t] : 0)); // a token sees none after itself
    return {
      weights: found,
      columns: Math.sqrt(found.length),
      elsewhere: 1 - found.reduce((a, b) => a + b, 0),
    };
  }

  Object.assign(live, { looks, runs, thingVectors });
})((globalThis.whatwhereLive = globalThis.whatwhereLive || {}));
