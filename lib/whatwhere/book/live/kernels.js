/* The arithmetic of a transformer on flat Float32Arrays, row after row: all that takes time is here.

   No script of this folder imports another: each adds to one global object, so that the same files
   run in a page from a disk, in a Web Worker and in Node, in the order simd, kernels,
   vit, language, engine. */
(function (live) {
  'use strict';

  /* -- products ------------------------------------------------------------------------------ */

  /* Factors and products lie in one block of memory, as WebAssembly wants it: the weights first,
     for good, and after them what a layer needs while it runs. Nothing outside of this file has a
     view of it, so that it may grow. Places in it are multiples of LANES, and so are the rows of
     what is a right factor or a product. */
  const LANES = 8;
  const fast = live.simd ? live.simd() : null;
  let floats = new Float32Array(fast ? fast.memory.buffer : 0);
  let settled = 0;
  let product = fast ? fast.product : plainProduct;

  const rounded = n => Math.ceil(n / LANES) * LANES;

  /* Make sure that there is memory up to here. */
  function reserve(end) {
    if (end <= floats.length) return;
    if (fast) {
      fast.memory.grow(Math.ceil((4 * (end - floats.length)) / 65536) + 64);
      floats = new Float32Array(fast.memory.buffer);
    } else {
      const larger = new Float32Array(end + (1 << 20));
      larger.set(floats);
      floats = larger;
    }
  }

  /* out[i][j] = sum over k of a[i][k] b[k][j], as WebAssembly computes it, in JavaScript.

     A matrix is a place in memory, and how far apart its rows are. Sixteen sums are kept at once,
     since one alone would wait for each addition to end. columns: a multiple of LANES. */
  function plainProduct(aAt, aStep, bAt, bStep, outAt, outStep, rows, columns, inner) {
    const x = floats;
    const full = rows - (rows % 4);
    for (let i = 0; i < full; i += 4) {
      const a0 = aAt + i * aStep;
      const a1 = a0 + aStep;
      const a2 = a1 + aStep;
      const a3 = a2 + aStep;
      for (let j = 0; j < columns; j += 4) {
        let s00 = 0;
        let s01 = 0;
        let s02 = 0;
        let s03 = 0;
        let s10 = 0;
        let s11 = 0;
        let s12 = 0;
        let s13 = 0;
        let s20 = 0;
        let s21 = 0;
        let s22 = 0;
        let s23 = 0;
        let s30 = 0;
        let s31 = 0;
        let s32 = 0;
        let s33 = 0;
        for (let k = 0, b = bAt + j; k < inner; k++, b += bStep) {
          const y0 = x[b];
          const y1 = x[b + 1];
          const y2 = x[b + 2];
          const y3 = x[b + 3];
          const x0 = x[a0 + k];
          const x1 = x[a1 + k];
          const x2 = x[a2 + k];
          const x3 = x[a3 + k];
          s00 += x0 * y0;
          s01 += x0 * y1;
          s02 += x0 * y2;
          s03 += x0 * y3;
          s10 += x1 * y0;
          s11 += x1 * y1;
          s12 += x1 * y2;
          s13 += x1 * y3;
          s20 += x2 * y0;
          s21 += x2 * y1;
          s22 += x2 * y2;
          s23 += x2 * y3;
          s30 += x3 * y0;
          s31 += x3 * y1;
          s32 += x3 * y2;
          s33 += x3 * y3;
        }
        let at = outAt + i * outStep + j;
        x[at] = s00;
        x[at + 1] = s01;
        x[at + 2] = s02;
        x[at + 3] = s03;
        at += outStep;
        x[at] = s10;
        x[at + 1] = s11;
        x[at + 2] = s12;
        x[at + 3] = s13;
        at += outStep;
        x[at] = s20;
        x[at + 1] = s21;
        x[at + 2] = s22;
        x[at + 3] = s23;
        at += outStep;
        x[at] = s30;
        x[at + 1] = s31;
        x[at + 2] = s32;
        x[at + 3] = s33;
      }
    }
    for (let i = full; i < rows; i++) {
      for (let j = 0; j < columns; j++) {
        let sum = 0;
        for (let k = 0; k < inner; k++) sum += x[aAt + i * aStep + k] * x[bAt + k * bStep + j];
        x[outAt + i * outStep + j] = sum;
      }
    }
  }

  /* A weight (outputs, inputs) where products find it, for good: {at, step, inputs, outputs}, its
     transpose. */
  function settle(weight, outputs, inputs) {
    const at = settled;
    const step = rounded(outputs);
    settled = at + step * inputs;
    reserve(settled);
    for (let i = 0; i < inputs; i++) {
      for (let o = 0; o < outputs; o++) floats[at + i * step + o] = weight[o * inputs + i];
    }
    return { at, step, inputs, outputs };
  }

  /* A linear layer, settled, with a bias (outputs,) or none, of x (rows, inputs): (rows, outputs). */
  function linear(x, rows, { at, step, inputs, outputs, bias }) {
    const from = settled;
    const to = rounded(from + x.length);
    const out = new Float32Array(rows * outputs);
    reserve(to + rows * step);
    floats.set(x, from);
    product(from, inputs, at, step, to, step, rows, step, inputs);
    for (let row = 0; row < rows; row++) {
      const mine = row * outputs;
      const theirs = to + row * step;
      if (bias) for (let j = 0; j < outputs; j++) out[mine + j] = floats[theirs + j] + bias[j];
      else for (let j = 0; j < outputs; j++) out[mine + j] = floats[theirs + j];
    }
    return out;
  }

  /* Whether WebAssembly is used, if there is any; or only asked. */
  function useFast(use) {
    if (use !== undefined) product = use && fast ? fast.product : plainProduct;
    return product !== plainProduct;
  }

  /* x += y, number by number. */
  function add(x, y) {
    for (let i = 0; i < x.length; i++) x[i] += y[i];
  }

  /* -- norms --------------------------------------------------------------------------------- */

  /* LayerNorm of x (rows, width) by {weight, bias}. */
  function layerNorm(x, norm, epsilon) {
    const { weight, bias } = norm;
    const width = weight.length;
    const out = new Float32Array(x.length);
    for (let at = 0; at < x.length; at += width) {
      let sum = 0;
      let squares = 0;
      for (let i = 0; i < width; i++) sum += x[at + i];
      const mean = sum / width;
      for (let i = 0; i < width; i++) squares += (x[at + i] - mean) * (x[at + i] - mean);
      const scale = 1 / Math.sqrt(squares / width + epsilon);
      for (let i = 0; i < width; i++)
        out[at + i] = (x[at + i] - mean) * scale * weight[i] + bias[i];
    }
    return out;
  }

  /* RMSNorm of x (rows, width) by {weight}. */
  function rmsNorm(x, norm, epsilon) {
    const { weight } = norm;
    const width = weight.length;
    const out = new Float32Array(x.length);
    for (let at = 0; at < x.length; at += width) {
      let squares = 0;
      for (let i = 0; i < width; i++) squares += x[at + i] * x[at + i];
      const scale = 1 / Math.sqrt(squares / width + epsilon);
      for (let i = 0; i < width; i++) out[at + i] = x[at + i] * scale * weight[i];
    }
    return out;
  }

  /* -- curved functions, from tables --------------------------------------------------------- */

  // Math.exp and an error function would take a good part of the time that the products take.

  const STEPS = 16;
  const POWERS = new Float64Array(64 * STEPS + 1).map((_, n) => Math.pow(2, -n / STEPS));
  const PER_UNIT = STEPS / Math.LN2;

  /* exp(x) for x ≤ 0, to nine digits: a power of two from the table, and a short series for the
     rest. Below −44 it is 0. */
  function exponential(x) {
    const steps = -x * PER_UNIT;
    if (!(steps < POWERS.length - 1)) return steps === steps ? 0 : NaN;
    const whole = steps | 0;
    const rest = (whole - steps) / PER_UNIT;
    return POWERS[whole] * (1 + rest * (1 + rest * (1 / 2 + rest * (1 / 6 + rest / 24))));
  }

  const REACH = 6;
  const FINE = 1024;
  const GELU = geluTable();

  /* x Φ(x) from −REACH to REACH in steps of 1 / FINE. Φ is its own density summed up, by
     Simpson's rule. */
  function geluTable() {
    const table = new Float64Array(2 * REACH * FINE + 2);
    const density = x => Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
    let share = 9.865876e-10; // Φ(−6)
    for (let n = 0; n < table.length; n++) {
      const x = n / FINE - REACH;
      const next = x + 1 / FINE;
      table[n] = x * share;
      share += (density(x) + 4 * density((x + next) / 2) + density(next)) / (6 * FINE);
    }
    return table;
  }

  /* GELU in place, exact to seven digits: between two places of the table it is a straight line. */
  function gelu(x) {
    for (let i = 0; i < x.length; i++) {
      const value = x[i];
      if (value >= REACH) continue;
      if (value <= -REACH) {
        x[i] = 0;
        continue;
      }
      const at = (value + REACH) * FINE;
      const n = at | 0; // of NaN 0, and its rest is NaN
      x[i] = GELU[n] + (at - n) * (GELU[n + 1] - GELU[n]);
    }
  }

  /* gate = SiLU(gate) · x, in place. */
  function gated(gate, x) {
    for (let i = 0; i < gate.length; i++) {
      const value = gate[i];
      const small = exponential(-Math.abs(value));
      gate[i] = (value * x[i] * (value >= 0 ? 1 : small)) / (1 + small);
    }
  }

  /* Softmax in place of (rows, width) logits. */
  function softmax(logits, width) {
    for (let at = 0; at < logits.length; at += width) {
      const sum = weigh(logits, at, width, width, 1, null);
      for (let j = 0; j < width; j++) logits[at + j] /= sum;
    }
  }

  /* The softmax of one row before it is divided by its sum, which is given back: of `seen` logits,
     each times `scale` plus its bias; the row's others, up to `width`, become 0. */
  function weigh(row, at, seen, width, scale, bias) {
    if (bias) {
      for (let j = 0; j < seen; j++) row[at + j] = row[at + j] * scale + bias[j];
      scale = 1;
    }
    let most = -Infinity;
    let sum = 0;
    for (let j = 0; j < seen; j++) if (row[at + j] > most) most = row[at + j];
    for (let j = 0; j < seen; j++) sum += row[at + j] = exponential((row[at + j] - most) * scale);
    for (let j = seen; j < width; j++) row[at + j] = 0;
    return sum;
  }

  /* -- attention ----------------------------------------------------------------------------- */

  /* Cosines and sines by which tokens are turned: {cos, sin}, each (tokens, pairs).

     positions: (tokens, axes) numbers. frequencies: (pairs,), radians a step. axes: (pairs,), by
     which of a token's positions each pair turns. */
  function rotations(positions, nAxes, frequencies, axes) {
    const pairs = frequencies.length;
    const tokens = positions.length / nAxes;
    const cos = new Float32Array(tokens * pairs);
    const sin = new Float32Array(tokens * pairs);
    for (let t = 0; t < tokens; t++) {
      for (let p = 0; p < pairs; p++) {
        const angle = positions[t * nAxes + axes[p]] * frequencies[p];
        cos[t * pairs + p] = Math.cos(angle);
        sin[t * pairs + p] = Math.sin(angle);
      }
    }
    return { cos, sin, pairs };
  }

  /* Turn the `heads` heads of each row of x in place, which begin at `at` of a row and are rows of
     `step`; pair p of a head are its p-th number and the one half a head further. */
  function rotate(x, at, step, rows, heads, rotation) {
    const { cos, sin, pairs } = rotation;
    for (let t = 0; t < rows; t++) {
      for (let h = 0; h < heads; h++) {
        const first = at + t * step + h * 2 * pairs;
        for (let p = 0; p < pairs; p++) {
          const c = cos[t * pairs + p];
          const s = sin[t * pairs + p];
          const u = x[first + p];
          const v = x[first + pairs + p];
          x[first + p] = u * c - v * s;
          x[first + pairs + p] = v * c + u * s;
        }
      }
    }
  }

  const CHUNK = 32; // queries at a time: their weights stay in the processor's nearest memory

  /* What each of the last `rows` tokens collects from all: (rows, heads × size).

     queries: {values, at, step}, a row for each of these tokens; keys and values: the same, a row
     for each of `length` tokens, in `shared` times fewer heads. size: of a head, a multiple of
     LANES. causal: whether a token sees only those up to itself. bias: (length,) numbers added to
     the logits of keys, or null. off: a Set of heads that give on zeros, or null. */
  function attention(
    queries,
    keys,
    values,
    { rows, length, heads, shared, size, causal, bias, off },
  ) {
    const width = heads * size;
    const scale = 1 / Math.sqrt(size);
    const past = length - rows;
    const reachable = rounded(length);
    const lie = n => {
      const at = end;
      end = rounded(end + n);
      return at;
    };
    let end = settled;
    const sums = new Float64Array(CHUNK);
    const asked = lie(rows * queries.step);
    const held = lie(length * values.step);
    const across = lie(size * reachable);
    const weights = lie(CHUNK * reachable);
    const out = lie(rows * width);
    reserve(end);
    floats.set(queries.values.subarray(queries.at, queries.at + rows * queries.step), asked);
    floats.set(values.values.subarray(values.at, values.at + length * values.step), held);
    if (off && off.size) floats.fill(0, out, out + rows * width);
    for (let h = 0; h < heads; h++) {
      if (off && off.has(h)) continue;
      const of = Math.floor(h / shared) * size;
      for (let t = 0; t < length; t++) {
        // a row for each feature of this head's keys
        const from = keys.at + t * keys.step + of;
        for (let d = 0; d < size; d++) floats[across + d * reachable + t] = keys.values[from + d];
      }
      for (let first = 0; first < rows; first += CHUNK) {
        const n = Math.min(CHUNK, rows - first);
        const reach = causal ? past + first + n : length;
        product(
          asked + first * queries.step + h * size,
          queries.step,
          across,
          reachable,
          weights,
          reachable,
          n,
          rounded(reach),
          size,
        );
        for (let i = 0; i < n; i++) {
          const seen = causal ? past + first + i + 1 : length;
          sums[i] = weigh(floats, weights + i * reachable, seen, reach, scale, bias);
        }
        const to = out + first * width + h * size;
        product(weights, reachable, held + of, values.step, to, width, n, size, reach);
        for (let i = 0; i < n; i++) {
          // of fewer numbers than the weights are
          for (let d = 0; d < size; d++) floats[to + i * width + d] /= sums[i];
        }
      }
    }
    return floats.slice(out, out + rows * width);
  }

  /* -- weights ------------------------------------------------------------------------------- */

  /* Half-precision numbers, in base64 and with the lower byte first, as a Float32Array. */
  function halves(text) {
    const bytes = atob(text);
    const out = new Float32Array(bytes.length / 2);
    const bits = new Uint32Array(out.buffer);
    for (let i = 0; i < out.length; i++) {
      const half = bytes.charCodeAt(2 * i) | (bytes.charCodeAt(2 * i + 1) << 8);
      const size = half & 0x7fff;
      // the exponent counts from −15 in halves and from −127 in singles; below 2^−14 there is none
      if (size >= 0x400) bits[i] = ((half & 0x8000) << 16) | ((size + (112 << 10)) << 13);
      else out[i] = (half & 0x8000 ? -size : size) / 16777216;
    }
    return out;
  }

  Object.assign(live, {
    add,
    attention,
    exponential,
    gated,
    gelu,
    halves,
    layerNorm,
    linear,
    rmsNorm,
    rotate,
    rotations,
    settle,
    softmax,
    useFast,
  });
})((globalThis.whatwhereLive = globalThis.whatwhereLive || {}));
