/* The arithmetic of a transformer on flat Float32Arrays, row after row: all that takes time is here.

   No script of this folder imports another: each adds to one global object, so that the same files
   run in a page from a disk, in a Web Worker and in Node, in the order kernels, vit, language,
   engine. */
(function (live) {
    'use strict';

    /* -- products ------------------------------------------------------------------------------ */

    /* out[i][j] = sum over k of a[i][k] b[j][k].

       A matrix is an array, where its first number lies, and how far apart its rows are. Of both
       factors the rows are summed along, so that memory is read in order. Sixteen sums are kept at
       once, since one alone would wait for each addition to end; they are in double precision,
       which a processor adds as fast. */
    function product(a, aAt, aStep, b, bAt, bStep, out, outAt, outStep, rows, columns, inner) {
        const fullRows = rows - rows % 4, fullColumns = columns - columns % 4;
        for (let i = 0; i < fullRows; i += 4) {
            const a0 = aAt + i * aStep, a1 = a0 + aStep, a2 = a1 + aStep, a3 = a2 + aStep;
            for (let j = 0; j < fullColumns; j += 4) {
                const b0 = bAt + j * bStep, b1 = b0 + bStep, b2 = b1 + bStep, b3 = b2 + bStep;
                let s00 = 0, s01 = 0, s02 = 0, s03 = 0, s10 = 0, s11 = 0, s12 = 0, s13 = 0;
                let s20 = 0, s21 = 0, s22 = 0, s23 = 0, s30 = 0, s31 = 0, s32 = 0, s33 = 0;
                for (let k = 0; k < inner; k++) {
                    const y0 = b[b0 + k], y1 = b[b1 + k], y2 = b[b2 + k], y3 = b[b3 + k];
                    const x0 = a[a0 + k], x1 = a[a1 + k], x2 = a[a2 + k], x3 = a[a3 + k];
                    s00 += x0 * y0; s01 += x0 * y1; s02 += x0 * y2; s03 += x0 * y3;
                    s10 += x1 * y0; s11 += x1 * y1; s12 += x1 * y2; s13 += x1 * y3;
                    s20 += x2 * y0; s21 += x2 * y1; s22 += x2 * y2; s23 += x2 * y3;
                    s30 += x3 * y0; s31 += x3 * y1; s32 += x3 * y2; s33 += x3 * y3;
                }
                let at = outAt + i * outStep + j;
                out[at] = s00; out[at + 1] = s01; out[at + 2] = s02; out[at + 3] = s03;
                at += outStep;
                out[at] = s10; out[at + 1] = s11; out[at + 2] = s12; out[at + 3] = s13;
                at += outStep;
                out[at] = s20; out[at + 1] = s21; out[at + 2] = s22; out[at + 3] = s23;
                at += outStep;
                out[at] = s30; out[at + 1] = s31; out[at + 2] = s32; out[at + 3] = s33;
            }
        }
        // what no square of four by four covers: the last columns, then the last rows
        for (let i = 0; i < rows; i++) {
            for (let j = i < fullRows ? fullColumns : 0; j < columns; j++) {
                const a0 = aAt + i * aStep, b0 = bAt + j * bStep;
                let sum = 0;
                for (let k = 0; k < inner; k++) sum += a[a0 + k] * b[b0 + k];
                out[outAt + i * outStep + j] = sum;
            }
        }
    }

    /* A linear layer {weight, bias or undefined, outputs, inputs} of x (rows, inputs):
       (rows, outputs). */
    function linear(x, rows, layer) {
        const { weight, bias, outputs, inputs } = layer, out = new Float32Array(rows * outputs);
        product(x, 0, inputs, weight, 0, inputs, out, 0, outputs, rows, outputs, inputs);
        if (bias) {
            for (let at = 0; at < out.length; at += outputs) {
                for (let j = 0; j < outputs; j++) out[at + j] += bias[j];
            }
        }
        return out;
    }

    /* x += y, number by number. */
    function add(x, y) {
        for (let i = 0; i < x.length; i++) x[i] += y[i];
    }

    /* -- norms --------------------------------------------------------------------------------- */

    /* LayerNorm of x (rows, width) by {weight, bias}. */
    function layerNorm(x, norm, epsilon) {
        const { weight, bias } = norm, width = weight.length, out = new Float32Array(x.length);
        for (let at = 0; at < x.length; at += width) {
            let sum = 0, squares = 0;
            for (let i = 0; i < width; i++) sum += x[at + i];
            const mean = sum / width;
            for (let i = 0; i < width; i++) squares += (x[at + i] - mean) * (x[at + i] - mean);
            const scale = 1 / Math.sqrt(squares / width + epsilon);
            for (let i = 0; i < width; i++) out[at + i] = (x[at + i] - mean) * scale * weight[i] + bias[i];
        }
        return out;
    }

    /* RMSNorm of x (rows, width) by {weight}. */
    function rmsNorm(x, norm, epsilon) {
        const { weight } = norm, width = weight.length, out = new Float32Array(x.length);
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

    const STEPS = 64, POWERS = new Float64Array(64 * STEPS + 1).map((_, n) => Math.pow(2, -n / STEPS));
    const PER_UNIT = STEPS / Math.LN2;

    /* exp(x) for x ≤ 0, to nine digits: a power of two from the table, and a short series for the
       rest. Below −44 it is 0. */
    function exponential(x) {
        const steps = -x * PER_UNIT;
        if (!(steps < POWERS.length - 1)) return steps === steps ? 0 : NaN;
        const whole = steps | 0, rest = (whole - steps) / PER_UNIT;
        return POWERS[whole] * (1 + rest * (1 + rest * (0.5 + rest / 6)));
    }

    const REACH = 6, FINE = 1024, GELU = geluTable();

    /* x Φ(x) from −REACH to REACH in steps of 1 / FINE. Φ is its own density summed up, by
       Simpson's rule. */
    function geluTable() {
        const table = new Float64Array(2 * REACH * FINE + 2);
        const density = x => Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI);
        let share = 9.865876e-10; // Φ(−6)
        for (let n = 0; n < table.length; n++) {
            const x = n / FINE - REACH, next = x + 1 / FINE;
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
            if (value <= -REACH) { x[i] = 0; continue; }
            const at = (value + REACH) * FINE, n = at | 0; // of NaN 0, and its rest is NaN
            x[i] = GELU[n] + (at - n) * (GELU[n + 1] - GELU[n]);
        }
    }

    /* gate = SiLU(gate) · x, in place. */
    function gated(gate, x) {
        for (let i = 0; i < gate.length; i++) {
            const value = gate[i], small = exponential(-Math.abs(value));
            gate[i] = value * x[i] * (value >= 0 ? 1 : small) / (1 + small);
        }
    }

    /* Softmax in place of (rows, width) logits. */
    function softmax(logits, width) {
        for (let at = 0; at < logits.length; at += width) softmaxRow(logits, at, width, width, 1, null);
    }

    /* Softmax of one row: of `seen` logits, each times `scale` plus its bias; the row's others, up
       to `width`, become 0. */
    function softmaxRow(row, at, seen, width, scale, bias) {
        let most = -Infinity, sum = 0;
        for (let j = 0; j < seen; j++) {
            const logit = bias ? row[at + j] * scale + bias[j] : row[at + j] * scale;
            row[at + j] = logit;
            if (logit > most) most = logit;
        }
        for (let j = 0; j < seen; j++) sum += (row[at + j] = exponential(Math.min(0, row[at + j] - most)));
        for (let j = 0; j < seen; j++) row[at + j] /= sum;
        row.fill(0, at + seen, at + width);
    }

    /* -- attention ----------------------------------------------------------------------------- */

    /* Cosines and sines by which tokens are turned: {cos, sin}, each (tokens, pairs).

       positions: (tokens, axes) numbers. frequencies: (pairs,), radians a step. axes: (pairs,), by
       which of a token's positions each pair turns. */
    function rotations(positions, nAxes, frequencies, axes) {
        const pairs = frequencies.length, tokens = positions.length / nAxes;
        const cos = new Float32Array(tokens * pairs), sin = new Float32Array(tokens * pairs);
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
                    const c = cos[t * pairs + p], s = sin[t * pairs + p];
                    const u = x[first + p], v = x[first + pairs + p];
                    x[first + p] = u * c - v * s;
                    x[first + pairs + p] = v * c + u * s;
                }
            }
        }
    }

    const CHUNK = 32; // queries at a time: their weights stay in the processor's nearest memory

    /* What each of the last `rows` tokens collects from all: (rows, heads × size).

       queries: {values, at, step}, a row for each of these tokens; keys and values: the same, a row
       for each of `length` tokens, in `shared` times fewer heads. causal: whether a token sees only
       those up to itself. bias: (length,) numbers added to the logits of keys, or null. off: a Set
       of heads that give on zeros, or null. */
    function attention(queries, keys, values, { rows, length, heads, shared, size, causal, bias, off }) {
        const width = heads * size, scale = 1 / Math.sqrt(size), past = length - rows;
        const out = new Float32Array(rows * width), weights = new Float32Array(CHUNK * length);
        const across = new Float32Array(size * length); // one head's values, a row for each feature
        for (let h = 0; h < heads; h++) {
            if (off && off.has(h)) continue;
            const of = Math.floor(h / shared) * size;
            for (let t = 0; t < length; t++) {
                const from = values.at + t * values.step + of;
                for (let d = 0; d < size; d++) across[d * length + t] = values.values[from + d];
            }
            for (let first = 0; first < rows; first += CHUNK) {
                const n = Math.min(CHUNK, rows - first), reach = causal ? past + first + n : length;
                product(queries.values, queries.at + first * queries.step + h * size, queries.step,
                    keys.values, keys.at + of, keys.step, weights, 0, reach, n, reach, size);
                for (let i = 0; i < n; i++) {
                    const seen = causal ? past + first + i + 1 : length;
                    softmaxRow(weights, i * reach, seen, reach, scale, bias);
                }
                product(weights, 0, reach, across, 0, length, out, first * width + h * size, width,
                    n, size, reach);
            }
        }
        return out;
    }

    /* -- weights ------------------------------------------------------------------------------- */

    /* Half-precision numbers, in base64 and with the lower byte first, as a Float32Array. */
    function halves(text) {
        const bytes = atob(text), out = new Float32Array(bytes.length / 2), bits = new Uint32Array(out.buffer);
        for (let i = 0; i < out.length; i++) {
            const half = bytes.charCodeAt(2 * i) | bytes.charCodeAt(2 * i + 1) << 8, size = half & 0x7fff;
            // the exponent counts from −15 in halves and from −127 in singles; below 2^−14 there is none
            if (size >= 0x400) bits[i] = (half & 0x8000) << 16 | size + (112 << 10) << 13;
            else out[i] = (half & 0x8000 ? -size : size) / 16777216;
        }
        return out;
    }

    Object.assign(live, {
        add, attention, exponential, gated, gelu, halves, layerNorm, linear, product, rmsNorm,
        rotate, rotations, softmax,
    });
})(globalThis.whatwhereLive = globalThis.whatwhereLive || {});
