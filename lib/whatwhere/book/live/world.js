// The world of `whatwhere.world`, drawn inside a page, a worker or Node: pixel for pixel as Python
// draws it. `world_data.py` writes the data that is read here, `globalThis.whatwhereWorld`.
//
// A scene is a plain object with the fields of Python's Scene and Thing, as `world_data.fields`
// gives them; what Python has as None is null here, or absent. Scenes are never changed: what edits
// one returns another.
//
// Python's numbers are doubles, and so are those of JavaScript. The few places where numpy or
// Pillow round on the way are marked, since there a pixel would change if they were left out.
globalThis.whatwhereTabletop = (() => {
  const SIZE = 144; // pixels: the side of the picture
  const PLANE = 512; // pixels: the side of a ground, from which the picture's is cut
  const OPPOSITE = {
    left: 'right',
    right: 'left',
    behind: 'front',
    front: 'behind',
    on: 'under',
    under: 'on',
  };

  // When it is asked for, since a page may load the two scripts in either order.
  function world() {
    if (!globalThis.whatwhereWorld)
      throw new Error('The data of the world is loaded before a scene is drawn.');
    return globalThis.whatwhereWorld;
  }

  function remembered(make) {
    const known = new Map();
    return (...about) => {
      const key = about.join();
      if (!known.has(key)) known.set(key, make(...about));
      return known.get(key);
    };
  }

  // As Python and numpy round: a half goes to the even side.
  function round(exact) {
    const nearest = Math.round(exact);
    return Math.abs(exact % 1) === 0.5 && nearest % 2 ? nearest - 1 : nearest;
  }

  const within = (value, least, most) => Math.min(Math.max(value, least), most);

  // ---- Chance -------------------------------------------------------------------------------
  // A ground is made of normal deviates, 600 000 and more, which is too much to send. They are
  // drawn again instead, from the same generator in the same state: numpy's PCG64 (O'Neill's
  // permuted congruential generator, 128 bits of state, the XSL-RR output) and a ziggurat.

  // 0x2360ed051fc65da44385df649fccf645, 16 bits a number from the lowest on: so short that sums of
  // products are exact in a double. BigInt would be shorter to read, and much slower.
  const MULTIPLIER = Float64Array.of(
    0xf645,
    0x9fcc,
    0xdf64,
    0x4385,
    0x5da4,
    0x1fc6,
    0xed05,
    0x2360,
  );

  // A function that sets [high, low], the two halves of the next 64 random bits.
  function bits(generator, halves) {
    const state = Float64Array.from(generator.state);
    const increment = Float64Array.from(generator.increment);
    return () => {
      for (let place = 7; place >= 0; place--) {
        // from the top, since a place needs those below it
        let sum = 0;
        for (let k = 0; k <= place; k++) sum += state[k] * MULTIPLIER[place - k];
        state[place] = sum;
      }
      for (let place = 0, carry = 0; place < 8; place++) {
        const sum = state[place] + increment[place] + carry;
        carry = Math.floor(sum / 65536);
        state[place] = sum - carry * 65536;
      }
      let high = ((state[7] << 16) | state[6]) ^ ((state[3] << 16) | state[2]);
      let low = ((state[5] << 16) | state[4]) ^ ((state[1] << 16) | state[0]);
      let turn = state[7] >> 10; // to the right, by the highest six bits
      if (turn >= 32) [high, low, turn] = [low, high, turn - 32];
      halves[0] = turn ? (high >>> turn) | (low << (32 - turn)) : high;
      halves[1] = turn ? (low >>> turn) | (high << (32 - turn)) : low;
    };
  }

  // Marsaglia's and Tsang's ziggurat: 255 layers of one area under the bell curve, and its tail.
  // Layer n reaches to `edge[n]`, where the curve is `height[n]` high; a deviate of up to `sure[n]`
  // is under the curve without a look. numpy has these numbers as tables to 17 digits; here their
  // last bits may differ, far below what a ground keeps of them (24 of 53). The same holds for the
  // sines of grounds, whose last bit is another on each processor in Python as well.
  const TAIL = 3.6541528853610088;
  const AREA = 0.004928673233974658;
  const LAYERS = 256;
  const bell = x => Math.exp((-x * x) / 2);
  const ziggurat = remembered(() => {
    const edge = new Float64Array(LAYERS);
    const height = new Float64Array(LAYERS);
    const sure = new Float64Array(LAYERS);
    edge[0] = AREA / bell(TAIL);
    height[0] = 1;
    sure[0] = TAIL;
    for (let n = LAYERS - 1, x = TAIL; n > 0; n--) {
      edge[n] = x;
      height[n] = bell(x);
      x = n > 1 ? Math.sqrt(-2 * Math.log(AREA / x + height[n])) : 0;
      sure[n] = x;
    }
    return { edge, height, sure };
  });

  // A function of a number n that draws n normal deviates.
  function normals(generator) {
    const { edge, height, sure } = ziggurat();
    const halves = new Int32Array(2);
    const step = bits(generator, halves);
    const uniform = () => {
      step();
      return ((halves[0] >>> 0) * 2 ** 21 + (halves[1] >>> 11)) / 2 ** 53;
    };
    const one = () => {
      for (;;) {
        step(); // 8 bits for the layer, one for the sign, 52 for the place in the layer
        const [high, low] = halves;
        const layer = low & 255;
        const sign = low & 256 ? -1 : 1;
        const x = (((high & 0x1fffffff) * 2 ** 23 + (low >>> 9)) / 2 ** 52) * edge[layer];
        if (x < sure[layer]) return sign * x;
        if (layer) {
          if ((height[layer - 1] - height[layer]) * uniform() + height[layer] < bell(x))
            return sign * x;
        } else {
          const side = low & (1 << 17) ? -1 : 1; // in the tail numpy takes another bit
          for (;;) {
            const far = -Math.log1p(-uniform()) / TAIL;
            const up = -Math.log1p(-uniform());
            if (up + up > far * far) return side * (TAIL + far);
          }
        }
      }
    };
    return n => {
      const drawn = new Float64Array(n);
      for (let at = 0; at < n; at++) drawn[at] = one();
      return drawn;
    };
  }

  // ---- Grounds ------------------------------------------------------------------------------
  // As in `sprites.background`: how much lighter than its colour a ground is at (x, y).
  const GROUNDS = {
    brick: [
      [148, 92, 76],
      normal => {
        const brick = normal(PLANE * PLANE);
        return (x, y) => {
          const row = Math.floor(y / 10);
          const along = x + 9 * (row % 2);
          return y % 10 < 1 || along % 18 < 1
            ? 45
            : 8 * brick[row * PLANE + Math.floor(along / 18)];
        };
      },
    ],
    grass: [
      [92, 122, 66],
      normal => {
        const blade = normal((PLANE / 4) * PLANE);
        return (x, y) => 16 * blade[(y >> 2) * PLANE + x];
      },
    ],
    sand: [
      [206, 188, 146],
      (_, speckle) => (x, y) => {
        const s = speckle[y * PLANE + x];
        return 13 * (s > 1.3) - 13 * (s < -1.3) + 3 * s;
      },
    ],
    snow: [[212, 220, 230], (_, speckle) => (x, y) => 26 * (speckle[y * PLANE + x] > 2.2) - 3],
    water: [[104, 138, 160], () => (x, y) => 15 * Math.sin(y / 2.2 + 1.6 * Math.sin(x / 9))],
    wood: [
      [152, 114, 76],
      () => (x, y) => 12 * Math.sin(y / 3 + 2.5 * Math.sin(x / 60)) - 30 * (y % 32 < 1),
    ],
  };

  // The whole plane, rows of red, green and blue; a fifth of a second, once for each ground.
  const ground = remembered(name => {
    const normal = normals(world().grounds[name]);
    const speckle = normal(PLANE * PLANE);
    const tone = GROUNDS[name][1](normal, speckle);
    const grain = normal(PLANE * PLANE);
    const plane = new Float32Array(PLANE * PLANE * 3); // 32 bits, as in Python
    for (let y = 0, at = 0; y < PLANE; y++)
      for (let x = 0; x < PLANE; x++, at++) {
        const lighter = tone(x, y) + 3 * grain[at];
        GROUNDS[name][0].forEach((part, k) => {
          plane[3 * at + k] = part + lighter;
        });
      }
    return plane;
  });

  // ---- Shapes -------------------------------------------------------------------------------
  // A mask is { width, height, cells }, cells row by row, 1 inside.

  // Data has masks as the lengths of runs of cells, outside first.
  function unpacked({ width, height, runs }) {
    const cells = new Uint8Array(width * height);
    let at = 0;
    runs.forEach((run, n) => {
      cells.fill(n % 2, at, (at += run));
    });
    return { width, height, cells };
  }

  const silhouette = remembered(category => unpacked(world().silhouettes[category]));
  const tile = remembered(texture => unpacked(world().textures[texture])); // one period

  // Pillow's resampling with the box filter, in its own whole numbers: each of `to` new pixels is
  // the mean of the old ones whose middles it covers, weights have 22 bits behind the point, and a
  // row is rounded to 8 bits before columns are begun.
  function shares(from, to) {
    const scale = from / to;
    const reach = Math.max(scale, 1) / 2;
    return Array.from({ length: to }, (_, n) => {
      const middle = (n + 0.5) * scale;
      const first = Math.max(Math.trunc(middle - reach + 0.5), 0);
      const beyond = Math.min(Math.trunc(middle + reach + 0.5), from);
      const covers = Array.from({ length: beyond - first }, (_, k) => {
        const off = (k + first - middle + 0.5) / Math.max(scale, 1);
        return off > -0.5 && off <= 0.5 ? 1 : 0;
      });
      const sum = covers.reduce((a, b) => a + b, 0);
      return {
        first,
        weights: covers.map(one => Math.trunc(0.5 + (sum ? one / sum : one) * 2 ** 22)),
      };
    });
  }

  function resampled({ width, height, cells }, toWidth, toHeight) {
    const across = shares(width, toWidth);
    const down = shares(height, toHeight);
    const mean = ({ first, weights }, at) => {
      let sum = 2 ** 21;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * at(first + k);
      return within(sum >> 22, 0, 255);
    };
    const rows = new Uint8Array(height * toWidth);
    const made = new Uint8Array(toHeight * toWidth);
    for (let y = 0; y < height; y++)
      for (let x = 0; x < toWidth; x++) {
        rows[y * toWidth + x] = mean(across[x], from => 255 * cells[y * width + from]);
      }
    for (let y = 0; y < toHeight; y++)
      for (let x = 0; x < toWidth; x++) {
        made[y * toWidth + x] = mean(down[y], from => rows[from * toWidth + x]);
      }
    return made;
  }

  // How a thing is drawn: { width, height, inside, edge } of a category with a larger side of
  // `extent` pixels.
  const sprite = remembered((category, extent) => {
    const large = silhouette(category);
    const shrink = extent / Math.max(large.width, large.height);
    const width = Math.max(1, round(large.width * shrink));
    const height = Math.max(1, round(large.height * shrink));
    const inside = resampled(large, width, height).map(value => value > 127);
    const at = (x, y) => x >= 0 && y >= 0 && x < width && y < height && inside[y * width + x];
    const edge = inside.map((here, n) => {
      const x = n % width;
      const y = (n - x) / width;
      return here && !(at(x - 1, y) && at(x + 1, y) && at(x, y - 1) && at(x, y + 1));
    });
    return { width, height, inside, edge };
  });

  // A sign's board with two letters: { width, height, inside, ink }.
  const board = remembered(text => {
    const { alpha, frame, letters, places } = world().board;
    const { width, height, cells: inside } = unpacked(alpha);
    const ink = unpacked(frame).cells;
    [...text].forEach((letter, n) => {
      const glyph = unpacked(letters[letter]);
      glyph.cells.forEach((dark, k) => {
        const x = places[n][0] + (k % glyph.width);
        const y = places[n][1] + Math.floor(k / glyph.width);
        ink[y * width + x] |= dark;
      });
    });
    return { width, height, inside, ink };
  });

  const shape = thing =>
    thing.category === 'sign' ? board(thing.text) : sprite(thing.category, thing.extent);

  // [x0, y0, x1, y1] in pixels, hidden parts included; may reach outside of the picture.
  function box(thing) {
    const { width, height } = shape(thing);
    const left = thing.x - Math.floor(width / 2);
    const top = thing.y - height;
    return [left, top, left + width, top + height];
  }

  // ---- The picture --------------------------------------------------------------------------

  // Indices of things, from the first drawn to the last, which hides the others.
  function drawOrder(scene) {
    return scene.things
      .map((_, n) => n)
      .sort((a, b) => scene.things[a].order - scene.things[b].order || a - b);
  }

  // { rgb, owner }: SIZE x SIZE pixels row by row, red, green and blue, and the index of the thing
  // that each of them shows, -1 for the ground. An Error with a sentence for what is no scene.
  function render(scene) {
    refuse(problems(scene));
    const canvas = new Float32Array(SIZE * SIZE * 3);
    const owner = new Int8Array(SIZE * SIZE).fill(-1);
    const plane = ground(scene.background);
    const [left, top] = scene.window;
    for (let y = 0, at = 0; y < SIZE; y++) {
      // the far end of the table lies in a little shade
      const shade = Math.fround(y === SIZE - 1 ? 1.04 : y * ((1.04 - 0.82) / (SIZE - 1)) + 0.82);
      for (let x = 0; x < SIZE; x++) {
        const from = 3 * (((top + y) % PLANE) * PLANE + ((left + x) % PLANE));
        for (let k = 0; k < 3; k++, at++) canvas[at] = plane[from + k] * shade;
      }
    }
    for (const n of drawOrder(scene)) draw(canvas, owner, scene.things[n], n);
    // kept at 32 bits before and after each step, and cut off at the end, not rounded
    const light = Math.fround(scene.light);
    const rgb = new Uint8Array(canvas.length);
    for (let at = 0; at < rgb.length; at++)
      rgb[at] = within(Math.fround(canvas[at] * light), 0, 255);
    return { rgb, owner };
  }

  function draw(canvas, owner, thing, index) {
    const { width, inside, edge, ink } = shape(thing);
    const [x0, y0, x1, y1] = box(thing);
    const isSign = thing.category === 'sign';
    const dots = isSign ? null : tile(thing.texture);
    const fill = isSign ? [238, 232, 215] : world().colours[thing.colour];
    for (let y = Math.max(y0, 0); y < Math.min(y1, SIZE); y++) {
      for (let x = Math.max(x0, 0); x < Math.min(x1, SIZE); x++) {
        const across = x - x0;
        const down = y - y0;
        const at = down * width + across;
        if (!inside[at]) continue;
        let shade = 1;
        if (isSign) shade = ink[at] ? 0.12 : 1;
        else if (edge[at]) shade = 0.2;
        // a texture begins at the corner of the thing's box, and repeats
        else if (dots.cells[(down % dots.height) * dots.width + (across % dots.width)])
          shade = 0.42;
        const pixel = y * SIZE + x;
        for (let k = 0; k < 3; k++) canvas[3 * pixel + k] = fill[k] * Math.fround(shade);
        owner[pixel] = index;
      }
    }
  }

  // ---- The truth ----------------------------------------------------------------------------

  // The index of the thing under a pixel, or -1. With `reach` also one that is up to so many pixels
  // away, the nearest: a finger is wide, and a key is thin.
  function thingAt(owner, x, y, reach = 0) {
    let nearest = -1;
    let least = Infinity;
    for (let v = Math.max(y - reach, 0); v <= Math.min(y + reach, SIZE - 1); v++) {
      for (let u = Math.max(x - reach, 0); u <= Math.min(x + reach, SIZE - 1); u++) {
        const away = (u - x) ** 2 + (v - y) ** 2;
        if (owner[v * SIZE + u] >= 0 && away <= reach ** 2 && away < least) {
          [nearest, least] = [owner[v * SIZE + u], away];
        }
      }
    }
    return nearest;
  }

  // Whose patch it is, as `stages.owners`: rows x columns row by row, the index of the thing that
  // covers half of the cell or more, -1 for the ground, -2 for neither.
  function owners(owner, rows, columns) {
    if (![rows, columns].every(n => Number.isInteger(n) && n >= 1)) {
      throw new Error('A grid has a whole number of rows and of columns, 1 or more.');
    }
    // In units in which a pixel is `columns` wide and `rows` high and a cell SIZE by SIZE, all
    // areas are whole numbers, also where a grid does not divide the picture.
    const covers = (cell, cells) => {
      const first = Math.floor((cell * SIZE) / cells);
      const beyond = Math.ceil(((cell + 1) * SIZE) / cells);
      return Array.from({ length: beyond - first }, (_, k) => {
        const pixel = (first + k) * cells;
        return [
          first + k,
          Math.min((cell + 1) * SIZE, pixel + cells) - Math.max(cell * SIZE, pixel),
        ];
      });
    };
    const last = 1 + Math.max(...owner); // the ground comes last: of two halves, a thing's is found
    const across = Array.from({ length: columns }, (_, n) => covers(n, columns));
    const whose = new Int8Array(rows * columns);
    for (let row = 0; row < rows; row++) {
      const down = covers(row, rows);
      for (let column = 0; column < columns; column++) {
        const areas = new Float64Array(last + 1);
        for (const [y, high] of down)
          for (const [x, wide] of across[column]) {
            const index = owner[y * SIZE + x];
            areas[index < 0 ? last : index] += high * wide;
          }
        const half = areas.findIndex(area => 2 * area >= SIZE * SIZE);
        whose[row * columns + column] = half < 0 ? -2 : half === last ? -1 : half;
      }
    }
    return whose;
  }

  const isStand = thing => world().stands.includes(thing.category);

  // Where thing `a` is relative to thing `b` as a word, null where none is clear: `rules.relation`.
  function relation(a, b) {
    if (a.place && isStand(b)) return a.place;
    if (b.place && isStand(a)) return OPPOSITE[b.place];
    const across = a.x - b.x;
    const deep = 1.4 * (a.y - b.y);
    if (a.place === 'on' || b.place === 'on' || !(across || deep)) return null;
    if (Math.abs(across) >= 2 * Math.abs(deep)) return across < 0 ? 'left' : 'right';
    if (Math.abs(deep) >= 2 * Math.abs(across)) return deep < 0 ? 'behind' : 'front';
    return null;
  }

  // A thing's own words: its category, its attributes, a sign's letters.
  function words(thing) {
    return [thing.category, thing.colour, thing.texture, ...(thing.text || '')].filter(Boolean);
  }

  // ---- Editing ------------------------------------------------------------------------------

  // The larger side in pixels that a thing has in the world whose foot is at `y`: the nearer, the
  // more.
  function extentAt(category, y) {
    const { far, near, portable, stand, sign } = world().sizes;
    if (category === 'sign') return sign;
    const nearness = (y / SIZE - far) / (near - far);
    return round(
      (world().stands.includes(category) ? stand : portable) *
        (0.82 + 0.36 * within(nearness, 0, 1)),
    );
  }

  function changed(scene, index, fields) {
    return {
      ...scene,
      things: scene.things.map((thing, n) => (n === index ? { ...thing, ...fields } : thing)),
    };
  }

  const lone = y => ({ y, support: null, place: null, order: y });
  const heldBy = (scene, index) =>
    scene.things.flatMap((thing, n) => (thing.support === index ? [n] : []));

  // A thing on or under a stand is drawn just after or before it.
  const orderBy = (stand, place) => (place === 'on' ? stand.order + 0.1 : stand.order - 0.1);

  // The thing moved with its foot to (x, y), or as near to it as keeps all of it inside the
  // picture. It leaves its stand, if it has one; a stand takes along what is on and under it.
  function moved(scene, index, x, y) {
    const along = [index, ...heldBy(scene, index)];
    const boxes = along.map(n => box(scene.things[n]));
    const reach = (most, k) => most(...boxes.map(corners => corners[k]));
    const left = reach(Math.min, 0);
    const right = reach(Math.max, 2);
    const top = reach(Math.min, 1);
    const bottom = reach(Math.max, 3);
    const thing = scene.things[index];
    const across = within(round(x) - thing.x, -left, SIZE - right);
    const down = within(round(y) - thing.y, -top, SIZE - bottom);
    let made = changed(scene, index, { x: thing.x + across, ...lone(thing.y + down) });
    for (const n of along.slice(1)) {
      const held = scene.things[n];
      made = changed(made, n, {
        x: held.x + across,
        y: held.y + down,
        order: orderBy(made.things[index], held.place),
      });
    }
    return made;
  }

  // The thing put "on" or "under" a stand, as small as fits between its legs: `rendering.beside`.
  function put(scene, index, stand, place) {
    const under = scene.things[stand];
    const { width, height } = shape(under);
    return changed(scene, index, {
      x: under.x,
      y: place === 'on' ? under.y - round(0.9 * height) : under.y - 1,
      extent: round(0.58 * Math.max(width, height)),
      support: stand,
      place,
      order: orderBy(under, place),
    });
  }

  // The thing with a larger side of `extent` pixels, within what is allowed, its foot where it was
  // if that is inside the picture; what is on or under a stand is put there again.
  function resized(scene, index, extent) {
    const [least, most] = world().sizes.allowed;
    const thing = scene.things[index];
    if (thing.category === 'sign') return scene;
    let made = changed(scene, index, { extent: within(round(extent), least, most) });
    for (const n of heldBy(scene, index)) made = put(made, n, index, made.things[n].place);
    if (thing.place) return made; // its foot stays on its stand
    return moved(made, index, thing.x, thing.y);
  }

  // The scene with one thing more, which needs a category, and if it is no sign a colour and a
  // texture; where it has no place it stands in the middle, and where it has no size that of its
  // place.
  function added(
    scene,
    { category, colour = null, texture = null, x = SIZE / 2, y = 108, extent, text = null },
  ) {
    const thing = { category, colour, texture, x: SIZE / 2, text, ...lone(108) };
    thing.extent = extent ?? extentAt(category, y);
    const standing = { ...scene, things: [...scene.things, thing] };
    refuse(problems(standing));
    const made = moved(standing, scene.things.length, x, y);
    refuse(problems(made));
    return made;
  }

  // The scene without a thing; what it held stands on the ground below.
  function removed(scene, index) {
    const foot = scene.things[index].y;
    const things = scene.things
      .map(thing => (thing.support === index ? { ...thing, ...lone(foot) } : thing))
      .map(thing => (thing.support > index ? { ...thing, support: thing.support - 1 } : thing));
    return { ...scene, things: things.filter((_, n) => n !== index) };
  }

  // ---- What is no scene ---------------------------------------------------------------------

  function refuse(sentences) {
    if (sentences.length) throw new Error(sentences[0]);
  }

  // As in a sentence: JSON, not too much of it. JSON has no undefined and refuses what holds
  // itself.
  function said(value) {
    let text;
    try {
      text = JSON.stringify(value);
    } catch {
      text = typeof value;
    }
    text = text === undefined ? 'nothing' : text;
    return text.length > 40 ? text.slice(0, 40) + '…' : text;
  }

  const isObject = value => typeof value === 'object' && value !== null && !Array.isArray(value);
  const isWhole = (value, least, most) =>
    Number.isInteger(value) && value >= least && value <= most;

  // A sentence for each thing that is wrong with a scene; none where it can be drawn, asked about
  // and sent.
  function problems(scene) {
    const {
      most,
      light: [dim, bright],
      splits,
    } = world();
    if (!isObject(scene))
      return [`A scene is an object with a background and things; got ${said(scene)}.`];
    const wrong = [];
    const say = sentence => wrong.push(sentence);
    if (!world().words.background.includes(scene.background)) {
      say(
        `No background ${said(scene.background)}; there are ${world().words.background.join(', ')}.`,
      );
    }
    if (!(typeof scene.light === 'number' && scene.light >= dim && scene.light <= bright)) {
      say(
        `Light is a number from ${dim} to ${bright}, where 1 is plain; got ${said(scene.light)}.`,
      );
    }
    const window = scene.window;
    if (
      !(Array.isArray(window) && window.length === 2 && window.every(n => isWhole(n, 0, PLANE - 1)))
    ) {
      say(`A window is two whole numbers from 0 to ${PLANE - 1}; got ${said(window)}.`);
    }
    if ([scene.height, scene.width].some(side => side != null && side !== SIZE)) {
      say(`A picture here is ${SIZE} pixels wide and high.`);
    }
    if (scene.seed != null || scene.split != null) {
      if (!splits.includes(scene.split) || !isWhole(scene.seed, 0, Number.MAX_SAFE_INTEGER)) {
        say(
          `A scene comes from a split (${splits.join(', ')}) and a seed, a whole number, or from neither.`,
        );
      }
    }
    const { things } = scene;
    if (!Array.isArray(things))
      return [...wrong, `The things of a scene are a list; got ${said(things)}.`];
    if (things.length > most)
      say(`A scene holds up to ${most} things; this one has ${things.length}.`);
    for (const [n, thing] of things.entries()) wrong.push(...problemsOf(thing, n, things));
    return wrong;
  }

  function problemsOf(thing, index, things) {
    const {
      words: { category, colour, texture, character },
      sizes: {
        allowed: [least, most],
        sign,
      },
    } = world();
    if (!isObject(thing))
      return [`Thing ${index} is an object with a category; got ${said(thing)}.`];
    if (!category.includes(thing.category)) {
      return [`No category ${said(thing.category)}; there are ${category.join(', ')}.`];
    }
    const the = `the ${thing.category}`;
    const wrong = [];
    const say = sentence => wrong.push(sentence);
    if (
      things.slice(0, index).some(other => isObject(other) && other.category === thing.category)
    ) {
      say(`There are two of ${the}: a category occurs once in a scene.`);
    }
    if (thing.category === 'sign') {
      const { text } = thing;
      if (
        !(
          typeof text === 'string' &&
          text.length === 2 &&
          [...text].every(c => character.includes(c))
        )
      ) {
        say(`A sign holds two of the letters ${character.join(' ')}; got ${said(text)}.`);
      }
      if (thing.colour != null || thing.texture != null)
        say('A sign has no colour and no texture.');
      if (thing.extent !== sign) say(`A sign is ${sign} pixels wide; got ${said(thing.extent)}.`);
    } else {
      if (!colour.includes(thing.colour)) {
        say(`No colour ${said(thing.colour)} for ${the}; there are ${colour.join(', ')}.`);
      }
      if (!texture.includes(thing.texture)) {
        say(`No texture ${said(thing.texture)} for ${the}; there are ${texture.join(', ')}.`);
      }
      if (thing.text != null) say(`Letters are for a sign, and ${the} has some.`);
      if (!isWhole(thing.extent, least, most)) {
        say(
          `The larger side of ${the} is ${least} to ${most} whole pixels; got ${said(thing.extent)}.`,
        );
      }
    }
    for (const axis of ['x', 'y']) {
      if (!Number.isSafeInteger(thing[axis])) {
        say(`The ${axis} of ${the} is a whole number of pixels; got ${said(thing[axis])}.`);
      }
    }
    if (!(Number.isFinite(thing.order) && Math.abs(thing.order) <= 1000)) {
      say(`The order of ${the} is a number from -1000 to 1000; got ${said(thing.order)}.`);
    }
    wrong.push(...problemsOfPlace(thing, things));
    if (!wrong.length) {
      const [x0, y0, x1, y1] = box(thing);
      const wide = Math.min(x1, SIZE) - Math.max(x0, 0);
      const high = Math.min(y1, SIZE) - Math.max(y0, 0);
      if (wide < 0 || high < 0 || 2 * wide * high < (x1 - x0) * (y1 - y0)) {
        say(`More than half of ${the} is outside of the picture.`);
      }
    }
    return wrong;
  }

  function problemsOfPlace(thing, things) {
    if (thing.support == null && thing.place == null) return [];
    const stand = things[thing.support];
    if (
      !['on', 'under'].includes(thing.place) ||
      !isWhole(thing.support, 0, things.length - 1) ||
      !isObject(stand) ||
      !isStand(stand)
    ) {
      const stands = world().stands.join(', ');
      return [`The ${thing.category} is on or under a stand (${stands}) of its scene, or on none.`];
    }
    return world().portable.includes(thing.category)
      ? []
      : [`No ${thing.category} is on or under a ${stand.category}.`];
  }

  // ---- Links --------------------------------------------------------------------------------
  //     ground=wood&window=12,300&light=0.97&thing=table,red,plain,70,120,56
  //         &thing=mug,blue,striped,70,82,32,on,table&thing=sign,ch,30,100
  //
  // A thing is its category, colour, texture, x, y and extent, and perhaps "on" or "under" and the
  // stand; a sign its letters, x and y. `order=` follows where it is not the usual one, and `from=`
  // says of which split and seed a scene was made. Only characters that a link holds as they are.

  const usualOrder = (thing, things) =>
    thing.place ? orderBy(things[thing.support], thing.place) : thing.y;

  // The scene as text after the ? of a link; an Error with a sentence for what is no scene.
  function sceneToQuery(scene) {
    refuse(problems(scene));
    const parts = [`ground=${scene.background}`, `window=${scene.window}`, `light=${scene.light}`];
    for (const thing of scene.things) {
      const { category, colour, texture, x, y, extent, text, support, place, order } = thing;
      const fields =
        category === 'sign' ? [category, text, x, y] : [category, colour, texture, x, y, extent];
      if (place) fields.push(place, scene.things[support].category);
      if (order !== usualOrder(thing, scene.things)) fields.push('order', order);
      parts.push(`thing=${fields}`);
    }
    if (scene.seed != null) parts.push(`from=${scene.split},${scene.seed}`);
    return parts.join('&');
  }

  function number(text, what) {
    if (!/^-?\d+(\.\d+)?(e[+-]?\d+)?$/.test(text ?? '')) {
      throw new Error(`The link has ${said(text)} as ${what}, which is no number.`);
    }
    return Number(text);
  }

  // The scene of a link; other keys of the link are left alone.
  function queryToScene(text) {
    if (typeof text !== 'string') throw new Error(`A link is text; got ${said(text)}.`);
    const given = { thing: [] };
    for (const part of text.replace(/^[?#]/, '').split('&')) {
      const [key, ...rest] = part.split('=');
      if (!['ground', 'window', 'light', 'thing', 'from'].includes(key)) continue;
      let value;
      try {
        value = decodeURIComponent(rest.join('=')); // some programs write %2C for a comma
      } catch {
        throw new Error(`The link is broken at ${said(part)}.`);
      }
      if (key === 'thing') given.thing.push(value.split(','));
      else if (key in given) throw new Error(`The link has two of ${key}.`);
      else given[key] = value;
    }
    if (given.ground === undefined) throw new Error('The link holds no scene: it names no ground.');
    const [split, seed, ...others] = given.from?.split(',') ?? [];
    if (others.length || (given.from !== undefined && seed === undefined)) {
      throw new Error(
        'The link says of a split and a seed where its scene is from, and of nothing else.',
      );
    }
    const scene = {
      seed: seed === undefined ? null : number(seed, 'a seed'),
      split: split ?? null,
      background: given.ground,
      things: given.thing.map(fields =>
        thingOf(
          fields,
          given.thing.map(([category]) => category),
        ),
      ),
      height: SIZE,
      width: SIZE,
      light: given.light === undefined ? 1 : number(given.light, 'light'),
      window:
        given.window === undefined
          ? [0, 0]
          : given.window.split(',').map(n => number(n, 'a window')),
    };
    // the order of a stand is known only when all things are; what is none of a scene is refused
    // below
    for (const thing of scene.things) if (!thing.place) thing.order ??= thing.y;
    for (const thing of scene.things) {
      thing.order ??= scene.things[thing.support] ? usualOrder(thing, scene.things) : 0;
    }
    refuse(problems(scene));
    return scene;
  }

  function thingOf([category, ...fields], categories) {
    const thing = {
      category,
      colour: null,
      texture: null,
      x: null,
      y: null,
      extent: world().sizes.sign,
      text: null,
      support: null,
      place: null,
      order: null,
    };
    if (category === 'sign') thing.text = fields.shift();
    else [thing.colour, thing.texture] = fields.splice(0, 2);
    for (const key of category === 'sign' ? ['x', 'y'] : ['x', 'y', 'extent']) {
      thing[key] = number(fields.shift(), `the ${key} of a thing`);
    }
    while (fields.length) {
      const key = fields.shift();
      const value = fields.shift();
      if (['on', 'under'].includes(key))
        Object.assign(thing, { place: key, support: categories.indexOf(value) });
      else if (key === 'order') thing.order = number(value, 'an order');
      else throw new Error(`The link says ${said(key)} of a thing; it can say on, under or order.`);
    }
    return thing;
  }

  return {
    SIZE,
    ground,
    shape,
    box,
    render,
    drawOrder,
    thingAt,
    owners,
    relation,
    words,
    extentAt,
    changed,
    moved,
    put,
    resized,
    added,
    removed,
    problems,
    sceneToQuery,
    queryToScene,
  };
})();
