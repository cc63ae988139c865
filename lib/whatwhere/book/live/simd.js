/* The one product in which nearly all the time goes, in WebAssembly: four numbers at a time, three
   to five times as fast as JavaScript.

   It is assembled here, instruction by instruction, so that there is no binary file that nobody can
   read. Where a browser lacks this (those from before 2023), `kernels.js` computes the same in
   JavaScript. */
(function (live) {
  'use strict';

  // -- the instructions that are used, by their names in the WebAssembly text format

  const unsigned = n => (n < 128 ? [n] : [(n & 127) | 128, ...unsigned(n >>> 7)]);
  const signed = n => (n >= -64 && n < 64 ? [n & 127] : [(n & 127) | 128, ...signed(n >> 7)]);
  const get = local => [0x20, ...unsigned(local)];
  const set = local => [0x21, ...unsigned(local)];
  const whole = n => [0x41, ...signed(n)];
  const PLUS = [0x6a];
  const MINUS = [0x6b];
  const TIMES = [0x6c];
  const BELOW = [0x48]; // of whole numbers
  const LOOP = [0x03, 0x40];
  const BLOCK = [0x02, 0x40];
  const END = [0x0b];
  const again = depth => [0x0d, depth]; // go to the loop, or leave the block, that many out, if so
  const always = depth => [0x0c, depth];
  const load = offset => [0xfd, 0x00, 2, ...unsigned(offset)]; // four numbers
  const spread = [0xfd, 0x09, 2, 0]; // one number, four times
  const store = offset => [0xfd, 0x0b, 2, ...unsigned(offset)];
  const ZEROS = [0xfd, 0x0c, ...Array(16).fill(0)];
  const FOUR_PLUS = [0xfd, 0xe4, 0x01];
  const FOUR_TIMES = [0xfd, 0xe6, 0x01];

  // -- the function: all places and steps are in bytes, `columns` is a multiple of eight

  const [A, A_STEP, B, B_STEP, OUT, OUT_STEP, ROWS, COLUMNS, INNER] = Array(9).keys();
  // A0 to A0 + 3 are the places in up to four rows
  const [COLUMN, K, B_AT, OUT_AT, A0, A1] = Array.from({ length: 8 }, (_, n) => 9 + n);
  const B_LEFT = 17;
  const B_RIGHT = 18;
  const SUMS = 19; // of four numbers each; two sums for each row
  const LANES = 8;
  const WIDE = 4 * LANES;
  const raise = (local, by) => [...get(local), ...by, ...PLUS, ...set(local)];
  const flat = parts => parts.flat();
  const each = (n, make) => flat(Array.from({ length: n }, (_, r) => make(r)));

  /* While there are n rows left: n rows by eight columns at once, all columns, and the next n
     rows. */
  const rowsOf = n =>
    flat([
      BLOCK,
      LOOP,
      get(ROWS),
      whole(n),
      BELOW,
      again(1),
      whole(0),
      set(COLUMN),
      get(B),
      set(B_AT),
      get(OUT),
      set(OUT_AT),
      LOOP,
      each(2 * n, r => [...ZEROS, ...set(SUMS + r)]),
      get(A),
      set(A0),
      each(n - 1, r => [...get(A0 + r), ...get(A_STEP), ...PLUS, ...set(A1 + r)]),
      whole(0),
      set(K),
      LOOP,
      get(B_AT),
      load(0),
      set(B_LEFT),
      get(B_AT),
      load(16),
      set(B_RIGHT),
      each(n, r =>
        [0, 1].flatMap(half => [
          ...get(A0 + r),
          ...spread,
          ...get(B_LEFT + half),
          ...FOUR_TIMES,
          ...get(SUMS + 2 * r + half),
          ...FOUR_PLUS,
          ...set(SUMS + 2 * r + half),
        ]),
      ),
      each(n, r => raise(A0 + r, whole(4))),
      raise(B_AT, get(B_STEP)),
      raise(K, whole(1)),
      get(K),
      get(INNER),
      BELOW,
      again(0),
      END,
      each(n, r => [
        ...get(OUT_AT),
        ...get(OUT_STEP),
        ...whole(r),
        ...TIMES,
        ...PLUS,
        ...set(A0),
        ...get(A0),
        ...get(SUMS + 2 * r),
        ...store(0),
        ...get(A0),
        ...get(SUMS + 2 * r + 1),
        ...store(16),
      ]),
      raise(COLUMN, whole(LANES)),
      raise(OUT_AT, whole(WIDE)),
      get(B),
      get(COLUMN),
      whole(4),
      TIMES,
      PLUS,
      set(B_AT),
      get(COLUMN),
      get(COLUMNS),
      BELOW,
      again(0),
      END,
      raise(A, [...get(A_STEP), ...whole(n), ...TIMES]),
      raise(OUT, [...get(OUT_STEP), ...whole(n), ...TIMES]),
      get(ROWS),
      whole(n),
      MINUS,
      set(ROWS),
      always(0),
      END,
      END,
    ]);

  /* A module with this one function, which is given its memory. */
  function assembled() {
    const I32 = 0x7f;
    const V128 = 0x7b;
    const name = text => [text.length, ...Array.from(text, c => c.charCodeAt(0))];
    const section = (id, bytes) => [id, ...unsigned(bytes.length), ...bytes];
    const locals = [2, 8, I32, 2 + 8, V128]; // after the nine that are given
    const body = [...locals, ...rowsOf(4), ...rowsOf(1), ...END];
    return Uint8Array.from([
      0x00,
      0x61,
      0x73,
      0x6d,
      1,
      0,
      0,
      0,
      ...section(1, [1, 0x60, 9, ...Array(9).fill(I32), 0]), // a type: nine numbers, and nothing back
      ...section(2, [1, ...name('live'), ...name('memory'), 2, 0, 1]),
      ...section(3, [1, 0]),
      ...section(7, [1, ...name('product'), 0, 0]),
      ...section(10, [1, ...unsigned(body.length), ...body]),
    ]);
  }

  /* {memory, product} where this runs, else null. product: as in kernels.js, on numbers that lie in
     the memory. */
  live.simd = function () {
    try {
      const memory = new WebAssembly.Memory({ initial: 64 });
      const module = new WebAssembly.Module(assembled());
      const { product } = new WebAssembly.Instance(module, { live: { memory } }).exports;
      return {
        memory,
        product: (a, aStep, b, bStep, out, outStep, rows, columns, inner) =>
          product(4 * a, 4 * aStep, 4 * b, 4 * bStep, 4 * out, 4 * outStep, rows, columns, inner),
      };
    } catch {
      return null; // no WebAssembly, or none that knows four numbers at a time, or not allowed
    }
  };
})((globalThis.whatwhereLive = globalThis.whatwhereLive || {}));
