/* The eyes of an organism: from pixels to the states of its patches after each block of the vision
   transformer, and through the connector to visual tokens.

   Patches come in the ViT's own order: those that are merged into one visual token are neighbours,
   and the tokens come in raster order. CLIP's class token comes before them. */
(function (live) {
  'use strict';
  const { add, attention, gelu, layerNorm, linear, rotate, rotations, settle } = live;

  class Vision {
    /* model: what weights.py wrote. weights: a function of a layer's name, as `engine.js` has. */
    constructor(model, weights) {
      const { size, patch, merge } = model.picture;
      const { width, heads, depth } = model.vision;
      Object.assign(this, model.vision, { picture: model.picture, merge });
      this.side = size / patch;
      this.patches = this.side * this.side;
      this.grid = this.side / merge; // visual tokens along a side
      this.tokens = this.grid * this.grid;
      this.size = width / heads;
      this.places = placesOf(this.side, merge);
      this.levels = levelsOf(model.picture);
      this.patchEmbedding = folded(weights('vision.patch'), patch);
      this.table = numbers(weights('vision.places'));
      this.classToken = numbers(weights('vision.class'));
      this.leading = this.classToken ? 1 : 0;
      this.before = weights('vision.before');
      this.blocks = Array.from({ length: depth }, (_, n) => ({
        norm1: weights(`vision.${n}.norm1`),
        heads: weights(`vision.${n}.heads`),
        joined: weights(`vision.${n}.joined`),
        norm2: weights(`vision.${n}.norm2`),
        wide: weights(`vision.${n}.wide`),
        narrow: weights(`vision.${n}.narrow`),
      }));
      this.connector = {
        norm: weights('connector.norm'),
        wide: weights('connector.wide'),
        narrow: weights('connector.narrow'),
      };
    }

    /* (patches, 3 × patch × patch) numbers as the ViT takes them, from a picture's bytes: three a
       pixel, or four, of which the last is passed over; or an ImageData.

       Throws an Error for a picture of another size. */
    prepare(pixels) {
      const { size, patch } = this.picture;
      const bytes = pixels.data || pixels;
      const channels = bytes.length / (size * size);
      const shaped = 'width' in pixels;
      if ((channels !== 3 && channels !== 4) || (shaped && pixels.width !== size)) {
        const found = shaped
          ? `${pixels.width} × ${pixels.height} pixels`
          : `${bytes.length} numbers`;
        throw new Error(
          `This model sees pictures of ${size} × ${size} pixels, with three or four ` +
            `numbers for each, and this one has ${found}.`,
        );
      }
      const out = new Float32Array(this.patches * 3 * patch * patch);
      for (let n = 0, at = 0; n < this.patches; n++) {
        const top = this.places[2 * n] * patch;
        const left = this.places[2 * n + 1] * patch;
        for (let c = 0; c < 3; c++) {
          for (let y = 0; y < patch; y++) {
            let from = ((top + y) * size + left) * channels + c;
            for (let x = 0; x < patch; x++, from += channels) {
              out[at++] = this.levels[c][bytes[from]];
            }
          }
        }
      }
      return out;
    }

    /* One state after another, {depth, state}: 0 before the first block, then after each; a state
       is (leading + patches, width).

       What can be changed, in plain values that a message to a Worker can carry; blocks are
       counted from 1, heads from 0:
         gains: [of each frequency], or [[block], [of each frequency]]: how much faster it turns.
         headsOff: [[block, head], …] that give on zeros.
         moved: [{tokens, steps: [rows, columns], blocks}, …]: visual tokens whose patches are
            taken to be elsewhere, that many patches away, in these blocks, or in all; or
            `patches` instead of tokens, in raster order. */
    *states(pixels, { gains, headsOff, moved } = {}) {
      checkHeads(headsOff, this);
      let state = this.embedded(this.prepare(pixels), moved);
      yield { depth: 0, state };
      for (let n = 1; n <= this.depth; n++) {
        const off = new Set((headsOff || []).filter(each => each[0] === n).map(each => each[1]));
        state = this.block(state, n, this.rotation(n, gains, moved), off);
        yield { depth: n, state };
      }
    }

    embedded(patches, moved) {
      const embedded = linear(patches, this.patches, this.patchEmbedding);
      if (!this.classToken) return embedded;
      const state = new Float32Array(this.classToken.length + embedded.length);
      state.set(this.classToken);
      state.set(embedded, this.classToken.length);
      add(state, this.placed(moved));
      return layerNorm(state, this.before, this.epsilon);
    }

    /* The learnt vectors of places, where some patches are given those of others. */
    placed(moved) {
      if (!moved || !moved.length) return this.table;
      const out = this.table.slice();
      const at = this.movedPlaces(moved, null);
      const { width, side } = this;
      for (let n = 0; n < this.patches; n++) {
        const row = at[2 * n];
        const column = at[2 * n + 1];
        const whole = Number.isInteger(row) && Number.isInteger(column);
        if (!whole || Math.min(row, column) < 0 || Math.max(row, column) >= side) {
          throw new Error(
            'This model has a table of places, so that patches move by whole ' +
              'steps and stay in the picture.',
          );
        }
        const from = (this.leading + row * side + column) * width;
        out.set(this.table.subarray(from, from + width), (this.leading + n) * width);
      }
      return out;
    }

    /* The turning of queries and keys in block n; null where places are a learnt table. */
    rotation(n, gains, moved) {
      if (!this.frequencies) {
        if (gains)
          throw new Error('This model has no rotary frequencies: its places are a learnt table.');
        return null;
      }
      const own = gains && (typeof gains[0] === 'number' ? gains : gains[n - 1]);
      if (own && own.length !== this.frequencies.length) {
        throw new Error(`Gains are ${this.frequencies.length} numbers, one for each frequency.`);
      }
      const scaled = this.frequencies.map((each, i) => (own ? each * own[i] : each));
      const axes = [...scaled.map(() => 0), ...scaled.map(() => 1)]; // rows, then columns
      return rotations(this.movedPlaces(moved, n), 2, [...scaled, ...scaled], axes);
    }

    /* (patches, 2) row and column of each patch in block n, or before the first (null). */
    movedPlaces(moved, n) {
      if (!moved || !moved.length) return this.places;
      const out = Float64Array.from(this.places);
      const each = this.merge * this.merge;
      for (const { tokens = [], patches = [], steps, blocks } of moved) {
        if (blocks && n !== null && !blocks.includes(n)) continue;
        const own = Array.from(patches, patch => this.inOrder(patch));
        for (const token of tokens) {
          checkRange('visual token', token, this.tokens - 1);
          for (let k = token * each; k < (token + 1) * each; k++) own.push(k);
        }
        for (const k of own) {
          out[2 * k] += steps[0];
          out[2 * k + 1] += steps[1];
        }
      }
      return out;
    }

    /* Where in the ViT's own order a patch is that is counted in raster order. */
    inOrder(patch) {
      checkRange('patch', patch, this.patches - 1);
      if (!this.order) {
        this.order = new Int32Array(this.patches);
        for (let k = 0; k < this.patches; k++) {
          this.order[this.places[2 * k] * this.side + this.places[2 * k + 1]] = k;
        }
      }
      return this.order[patch];
    }

    block(state, n, rotation, off) {
      const { width, heads, size, epsilon } = this;
      const block = this.blocks[n - 1];
      const rows = state.length / width;
      const out = state.slice();
      const three = linear(layerNorm(state, block.norm1, epsilon), rows, block.heads);
      const step = 3 * width;
      if (rotation) {
        rotate(three, 0, step, rows, heads, rotation);
        rotate(three, width, step, rows, heads, rotation);
      }
      const part = at => ({ values: three, at, step });
      const collected = attention(part(0), part(width), part(2 * width), {
        rows,
        length: rows,
        heads,
        shared: 1,
        size,
        causal: false,
        bias: null,
        off,
      });
      add(out, linear(collected, rows, block.joined));
      const wide = linear(layerNorm(out, block.norm2, epsilon), rows, block.wide);
      gelu(wide);
      add(out, linear(wide, rows, block.narrow));
      return out;
    }

    /* A state without its class token, one row for each visual token: what `vlm.vit_states` has. */
    patchStates(state) {
      return state.subarray(this.leading * this.width);
    }

    /* (tokens, LM width) visual tokens of a state. */
    connect(state) {
      const { norm, wide, narrow } = this.connector;
      let patches = this.patchStates(state);
      if (norm) patches = layerNorm(patches, norm, this.epsilon);
      const between = linear(patches, this.tokens, wide);
      gelu(between);
      return linear(between, this.tokens, narrow);
    }
  }

  function numbers(layer) {
    return layer && layer.weight;
  }

  /* (patches, 2) row and column of each patch, in the ViT's order. */
  function placesOf(side, merge) {
    const out = [];
    for (let row = 0; row < side; row += merge) {
      for (let column = 0; column < side; column += merge) {
        for (let y = 0; y < merge; y++) {
          for (let x = 0; x < merge; x++) out.push(row + y, column + x);
        }
      }
    }
    return Float64Array.from(out);
  }

  /* For each channel the 256 values that a byte can become, rounded as the image processor does. */
  function levelsOf({ rescale, mean, deviation }) {
    return mean.map((middle, c) =>
      Float32Array.from({ length: 256 }, (_, byte) =>
        Math.fround(Math.fround(Math.fround(byte * rescale) - middle) / deviation[c]),
      ),
    );
  }

  /* The patch embedding (width, 3, frames, patch, patch) as a linear layer on one frame: a still
     picture is shown twice to a ViT for films, which is the same as adding up its weights. */
  function folded({ weight, shape }, patch) {
    const area = patch * patch;
    const inputs = 3 * area;
    const frames = shape[2];
    const outputs = shape[0];
    const out = new Float32Array(outputs * inputs);
    for (let row = 0; row < outputs * 3; row++) {
      for (let f = 0; f < frames; f++) {
        for (let k = 0; k < area; k++) out[row * area + k] += weight[(row * frames + f) * area + k];
      }
    }
    return settle(out, outputs, inputs);
  }

  function checkHeads(headsOff, { depth, heads }) {
    for (const [block, head] of headsOff || []) {
      if (!(block >= 1 && block <= depth && head >= 0 && head < heads)) {
        throw new Error(
          `Blocks are counted from 1 to ${depth} here and heads from 0 to ` +
            `${heads - 1}; there is no head ${head} in block ${block}.`,
        );
      }
    }
  }

  function checkRange(what, value, highest) {
    if (!Number.isInteger(value) || value < 0 || value > highest) {
      throw new Error(
        `The ${what} is a whole number from 0 to ${highest} in this model, not ${value}.`,
      );
    }
  }

  Object.assign(live, { checkRange, Vision });
})((globalThis.whatwhereLive = globalThis.whatwhereLive || {}));
