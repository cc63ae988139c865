/* The language model of an organism: from words and visual tokens to states after each of its
   blocks, and to the word that comes next.

   A *context* is what has been read so far: the keys and values of each block, from which what
   follows is computed without reading again. */
(function (live) {
  'use strict';
  const { add, attention, gated, linear, rmsNorm, rotate, rotations, softmax } = live;

  const LENSES = ['logit', 'embedding'];

  class Language {
    /* model, weights: as for Vision. */
    constructor(model, weights) {
      Object.assign(this, model.language);
      this.size = this.width / this.heads;
      this.keyWidth = this.keyHeads * this.size;
      this.nAxes = Math.max(...this.axes) + 1;
      this.words = weights('language.words').weight;
      this.blocks = Array.from({ length: this.layers }, (_, n) => ({
        norm1: weights(`language.${n}.norm1`),
        heads: weights(`language.${n}.heads`),
        joined: weights(`language.${n}.joined`),
        norm2: weights(`language.${n}.norm2`),
        gate: weights(`language.${n}.gate`),
        wide: weights(`language.${n}.wide`),
        narrow: weights(`language.${n}.narrow`),
      }));
      this.norm = weights('language.norm');
      this.said = weights('language.said');
    }

    /* (ids, width) embeddings of words. */
    embed(ids) {
      const out = new Float32Array(ids.length * this.width);
      ids.forEach((id, n) => {
        out.set(this.words.subarray(id * this.width, (id + 1) * this.width), n * this.width);
      });
      return out;
    }

    /* (n, axes) positions of n words from `first` on: on all axes at once. */
    counted(n, first) {
      return Float64Array.from(
        { length: n * this.nAxes },
        (_, i) => first + Math.floor(i / this.nAxes),
      );
    }

    /* An empty context with room for so many tokens. */
    context(room) {
      const rows = () => this.blocks.map(() => new Float32Array(room * this.keyWidth));
      return { length: 0, room, keys: rows(), values: rows(), bias: null };
    }

    /* The same context with room for `more` tokens; what is read in one is not read in the
       other. */
    fork(context, more) {
      const out = this.context(context.length + more);
      const used = context.length * this.keyWidth;
      out.length = context.length;
      for (const part of ['keys', 'values']) {
        context[part].forEach((rows, n) => out[part][n].set(rows.subarray(0, used)));
      }
      if (context.bias) {
        out.bias = new Float32Array(out.room);
        out.bias.set(context.bias.subarray(0, context.length));
      }
      return out;
    }

    /* Read tokens: their states (n, width) at layer 0, 1, … `layers`, a list; the last by default.

       positions: (n, axes). bias: (n,) numbers added to the attention that each of these gets,
       now and later; none by default. */
    read(context, given, positions, { layers = this.layers, bias = null } = {}) {
      const rows = given.length / this.width;
      const { heads, keyHeads, size, keyWidth, width } = this;
      const rotation = rotations(positions, this.nAxes, this.frequencies, this.axes);
      const first = context.length;
      const length = first + rows;
      const step = width + 2 * keyWidth;
      if (bias) {
        context.bias = context.bias || new Float32Array(context.room);
        context.bias.set(bias, first);
      }
      const states = [given];
      for (let n = 0; n < layers; n++) {
        const block = this.blocks[n];
        const out = states[n].slice();
        const three = linear(rmsNorm(out, block.norm1, this.epsilon), rows, block.heads);
        rotate(three, 0, step, rows, heads, rotation);
        rotate(three, width, step, rows, keyHeads, rotation);
        const keys = context.keys[n];
        const values = context.values[n];
        for (let t = 0; t < rows; t++) {
          const from = t * step + width;
          const to = (first + t) * keyWidth;
          keys.set(three.subarray(from, from + keyWidth), to);
          values.set(three.subarray(from + keyWidth, from + 2 * keyWidth), to);
        }
        const collected = attention(
          { values: three, at: 0, step },
          { values: keys, at: 0, step: keyWidth },
          { values, at: 0, step: keyWidth },
          {
            rows,
            length,
            heads,
            shared: heads / keyHeads,
            size,
            causal: true,
            bias: context.bias,
            off: null,
          },
        );
        add(out, linear(collected, rows, block.joined));
        const normed = rmsNorm(out, block.norm2, this.epsilon);
        const gate = linear(normed, rows, block.gate);
        gated(gate, linear(normed, rows, block.wide));
        add(out, linear(gate, rows, block.narrow));
        states.push(out);
      }
      context.length = length;
      return states;
    }

    /* (rows, vocabulary) probabilities of the next word, by the final norm and the unembedding:
       the logit lens, where states (rows, width) are of any layer. */
    probabilities(states) {
      const out = linear(
        rmsNorm(states, this.norm, this.epsilon),
        states.length / this.width,
        this.said,
      );
      softmax(out, this.said.outputs);
      return out;
    }

    /* (rows, vocabulary) cosines of states with the embeddings of words: the embedding lens. */
    cosines(states) {
      const { width, words } = this;
      const n = words.length / width;
      const rows = states.length / width;
      const out = new Float32Array(rows * n);
      const one = directions(states, width);
      this.ways = this.ways || directions(words, width);
      for (let row = 0; row < rows; row++) {
        for (let word = 0; word < n; word++) {
          let sum = 0;
          for (let i = 0; i < width; i++) sum += one[row * width + i] * this.ways[word * width + i];
          out[row * n + word] = sum;
        }
      }
      return out;
    }

    /* The `top` best words of each state: {ids, probabilities}, each (rows, top), best first.
       kind: 'logit' or 'embedding', the lens; the latter's are no probabilities but cosines. */
    lens(states, top, kind = 'logit') {
      if (!LENSES.includes(kind))
        throw new Error(`There is no ${kind} lens here; there are ${LENSES.join(' and ')}.`);
      const all = kind === 'logit' ? this.probabilities(states) : this.cosines(states);
      const n = this.said.outputs;
      const rows = all.length / n;
      const ids = new Uint16Array(rows * top);
      const probabilities = new Float32Array(rows * top);
      for (let row = 0; row < rows; row++) {
        const of = all.subarray(row * n, (row + 1) * n);
        for (let rank = 0; rank < top; rank++) {
          const best = largest(of);
          ids[row * top + rank] = best;
          probabilities[row * top + rank] = of[best];
          of[best] = -2; // below any cosine, so that the next best is the largest
        }
      }
      return { ids, probabilities };
    }
  }

  /* Rows at length 1; one without length stays as it is. */
  function directions(states, width) {
    const out = new Float32Array(states.length);
    for (let at = 0; at < states.length; at += width) {
      let squares = 0;
      for (let i = 0; i < width; i++) squares += states[at + i] * states[at + i];
      for (let i = 0; i < width; i++) out[at + i] = states[at + i] / (Math.sqrt(squares) || 1);
    }
    return out;
  }

  /* Where the largest number is; of equals the first. */
  function largest(values) {
    let best = 0;
    for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
    return best;
  }

  Object.assign(live, { Language, largest });
})((globalThis.whatwhereLive = globalThis.whatwhereLive || {}));
