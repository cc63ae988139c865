/* The book's experiments as a reader does them by hand: what can be set, what the models beside the
   page are asked for, what is drawn of it, and the Python that does the same.

   Each experiment of `whatwhereExperiments.all` has

       title, about      its name in a menu, and a sentence
       fields(model)     what can be set: [{key, label, kind, usual, …}], see `Controls` below
       pair              true where it is about two things, the satellite and the nucleus
       question(about)   what is asked when it is chosen; always, where it is about two things
       notes             true where it needs notes.py's script
       trial(about)      its part of a message to worker.js; an Error with a sentence where it cannot be done
       draw(about, found) elements that show what came of it
       code(about)       Python, after `scene`, `vlm` and `maps`

   Settings are texts, as an address has them. `about` is {scene, owner, model, notes, settings, pair,
   layer, lens, question}: pair are the indices of satellite and nucleus, owner whose each pixel is. */
globalThis.whatwhereExperiments = (() => {
  'use strict';
  const RELATIONS = ['behind', 'front', 'left', 'right'];
  const AREA = 0.25; // of a patch that a thing covers at least: `geometry.masks`
  const PATCH = 9; // pixels: a patch of toy-qwen2vl's ViT
  const FURTHEST = 10; // patches between two things that both fit into the picture
  const tabletop = () => globalThis.whatwhereTabletop;

  // SVG's namespace, by its parser: it is an address, and no file of ours has one.
  function drawing() {
    const box = document.createElement('div');
    box.innerHTML = '<svg></svg>';
    return box.firstChild.namespaceURI;
  }

  function make(tag, about = {}, ...children) {
    const svg = ['svg', 'line', 'circle', 'text', 'path'].includes(tag);
    const element = svg ? document.createElementNS(drawing(), tag) : document.createElement(tag);
    for (const [key, value] of Object.entries(about)) {
      if (!svg && key in element && !/^aria|^class/.test(key)) element[key] = value;
      else element.setAttribute(key, value);
    }
    element.append(...children);
    return element;
  }

  // ---- Things and patches ---------------------------------------------------------------------

  // Patches of which a thing covers a quarter, and no other thing more, in raster order of side ×
  // side: `geometry.masks`. The side divides the picture.
  function patchesOf(owner, thing, side) {
    const { SIZE } = tabletop();
    const cell = SIZE / side;
    const found = [];
    const areas = Array.from({ length: side * side }, () => new Map());
    owner.forEach((n, at) => {
      const patch =
        Math.floor(Math.floor(at / SIZE) / cell) * side + Math.floor((at % SIZE) / cell);
      if (n >= 0) areas[patch].set(n, (areas[patch].get(n) ?? 0) + 1);
    });
    areas.forEach((area, patch) => {
      const mine = area.get(thing) ?? 0;
      const most = [...area].every(
        ([n, pixels]) => n === thing || pixels < mine || (pixels === mine && n > thing),
      );
      if (mine >= AREA * cell * cell && most) found.push(patch);
    });
    return found;
  }

  const sideOf = ({ picture: { size, patch, merge } }, place) =>
    size / patch / (place.startsWith('LM') ? merge : 1);

  // Each thing's patches at a place, or a sentence where one has none.
  function bothPatches({ scene, owner, model, pair }, place) {
    return pair.map(n => {
      const found = patchesOf(owner, n, sideOf(model, place));
      if (!found.length)
        throw new Error(
          `The ${scene.things[n].category} has no patch of its own here: make it larger, or take it to where it is seen.`,
        );
      return found;
    });
  }

  // Satellite and nucleus, as indices: those that are set, as far as the picture has them; where
  // none is set, two of which one word says where they are, no signs if there are others.
  function pairOf(scene, settings) {
    const { things } = scene;
    const named = key => things.findIndex(thing => thing.category === settings[key]);
    const free = taken => things.findIndex((_, n) => n !== taken);
    let satellite = named('satellite');
    let nucleus = named('nucleus');
    if (satellite < 0 && nucleus < 0) {
      const pairs = things.flatMap((_, a) => things.flatMap((_, b) => (a === b ? [] : [[a, b]])));
      const clear = pairs.filter(([a, b]) =>
        RELATIONS.includes(tabletop().relation(things[a], things[b])),
      );
      const signs = ([a, b]) => [a, b].filter(n => things[n].category === 'sign').length;
      [satellite, nucleus] = clear.sort((one, other) => signs(one) - signs(other))[0] ?? [-1, -1];
    }
    if (satellite < 0) satellite = free(nucleus);
    if (nucleus < 0 || nucleus === satellite) nucleus = free(satellite);
    return satellite < 0 || nucleus < 0 ? null : [satellite, nucleus];
  }

  const whereIs = ({ scene, pair }) =>
    pair
      ? `where is the ${scene.things[pair[0]].category} relative to the ${scene.things[pair[1]].category} ?`
      : '';

  // The relation that the picture shows, one of the four that notes know.
  function present({ scene, pair: [a, b] }) {
    const { things } = scene;
    const word = tabletop().relation(things[a], things[b]);
    if (!RELATIONS.includes(word)) {
      throw new Error(
        `This needs the ${things[a].category} clearly behind, in front, left or right of the ${things[b].category}; ` +
          (word ? `here it is ${word} it.` : 'here no one word says where it is.'),
      );
    }
    return word;
  }

  // ---- Numbers ----------------------------------------------------------------------------------

  const dot = (a, b) => a.reduce((sum, each, n) => sum + each * b[n], 0);
  const less = (a, b) => a.map((each, n) => each - b[n]);
  const times = (a, factor) => a.map(each => factor * each);
  const cosine = (a, b) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));

  // {relation: cosine} of what two things' patches hold, as `notes.told`.
  function told({ places }, place, [satellite, nucleus]) {
    const found = places[place];
    const vector = less(less(satellite, nucleus), found.middle);
    return Object.fromEntries(
      RELATIONS.map((word, n) => [
        word,
        cosine(vector, less(found.satellite[n], found.nucleus[n])),
      ]),
    );
  }

  // g(i) = 1 + α (2i/d)^p for n frequencies of an axis: `rope.gains`.
  const gains = (n, alpha, p) => Array.from({ length: n }, (_, i) => 1 + alpha * (i / n) ** p);

  // "4.2,6.0" → [[4, 2], [6, 0]]
  const headsOf = text => (text ? text.split(',').map(each => each.split('.').map(Number)) : []);
  const wordsOf = question => question.match(/[\p{L}\p{N}_]+|[^\p{L}\p{N}_\s]+/gu) ?? [];
  const blocksOf = text => (text ? text.split(',').map(Number) : null);
  const list = values => `[${values.join(', ')}]`;

  // ---- Pictures ---------------------------------------------------------------------------------

  // What is left of a picture: each token the mean colour of its patches, what is dropped dark.
  function mosaic(canvas, { rgb, groups }) {
    const { SIZE } = tabletop();
    const side = Math.sqrt(groups.length);
    const cell = SIZE / side;
    const token = pixel =>
      groups[
        Math.floor(Math.floor(pixel / SIZE) / cell) * side + Math.floor((pixel % SIZE) / cell)
      ];
    const sums = new Map();
    const pixels = new ImageData(SIZE, SIZE);
    for (let pixel = 0; pixel < SIZE * SIZE; pixel++) {
      const of = token(pixel);
      if (!sums.has(of)) sums.set(of, [0, 0, 0, 0]);
      const sum = sums.get(of);
      for (let k = 0; k < 3; k++) sum[k] += rgb[3 * pixel + k];
      sum[3]++;
    }
    for (let pixel = 0; pixel < SIZE * SIZE; pixel++) {
      const of = token(pixel);
      const sum = sums.get(of);
      for (let k = 0; k < 3; k++) pixels.data[4 * pixel + k] = of < 0 ? 24 : sum[k] / sum[3];
      pixels.data[4 * pixel + 3] = 255;
    }
    canvas.getContext('2d').putImageData(pixels, 0, 0);
  }

  // A cross of the four relations, and where the vector points among them.
  function dial(cosines, truth) {
    const at = { left: [-1, 0], right: [1, 0], behind: [0, -1], front: [0, 1] };
    const middle = 90;
    const reach = 58;
    const [x, y] = RELATIONS.reduce(
      ([u, v], word) => [
        u + (at[word][0] * cosines[word]) / 2,
        v + (at[word][1] * cosines[word]) / 2,
      ],
      [0, 0],
    );
    const said = Object.entries(cosines)
      .map(([word, value]) => `${word} ${value.toFixed(2)}`)
      .join(', ');
    return make(
      'svg',
      {
        viewBox: '0 0 180 180',
        class: 'ww-dial',
        role: 'img',
        'aria-label': `Cosines of the relation vector: ${said}.`,
      },
      make('circle', { cx: middle, cy: middle, r: reach }),
      make('line', { x1: middle - reach, y1: middle, x2: middle + reach, y2: middle }),
      make('line', { x1: middle, y1: middle - reach, x2: middle, y2: middle + reach }),
      make('line', {
        class: 'ww-needle',
        x1: middle,
        y1: middle,
        x2: middle + reach * x,
        y2: middle + reach * y,
      }),
      make('circle', { class: 'ww-tip', cx: middle + reach * x, cy: middle + reach * y, r: 5 }),
      ...RELATIONS.map(word =>
        make(
          'text',
          {
            x: middle + at[word][0] * (reach + 16),
            y: middle + at[word][1] * (reach + 12) + 4,
            'text-anchor': 'middle',
            class: word === truth ? 'ww-true' : '',
          },
          word,
        ),
      ),
    );
  }

  // ---- The experiments -----------------------------------------------------------------------

  const pairFields = [
    { key: 'satellite', label: 'the thing', kind: 'thing', usual: '' },
    { key: 'nucleus', label: 'relative to', kind: 'thing', usual: '' },
  ];
  const relationField = {
    key: 'toward',
    label: 'towards',
    kind: 'menu',
    of: RELATIONS,
    usual: 'right',
  };

  const runs = {
    title: 'Runs of words (chapter 6)',
    about: 'Neighbours in a line that say the same word go on to the language model as one token.',
    fields: () => [
      {
        key: 'method',
        label: 'method',
        kind: 'menu',
        of: ['1', '2', '3'],
        usual: '1',
        shown: { 1: '1: join runs', 2: '2: and drop punctuation', 3: '3: drop it if second, too' },
      },
      { key: 'same', label: 'words that agree', kind: 'menu', of: ['1', '2', '3'], usual: '1' },
      {
        key: 'lengths',
        label: 'keep the lengths of runs',
        kind: 'check',
        usual: 'dropped',
        on: 'kept',
        off: 'dropped',
      },
      {
        key: 'positions',
        label: 'number positions anew',
        kind: 'check',
        usual: 'kept',
        on: 'renumbered',
        off: 'kept',
      },
    ],
    question: () => 'how many objects are there ?',
    trial: ({ settings: { method, same, lengths, positions } }) => ({
      runs: { method: Number(method), same: Number(same), lengths, positions },
    }),
    draw({ rgb }, { groups }) {
      if (!groups) return [];
      const kept = new Set(groups.filter(n => n >= 0)).size;
      const { SIZE } = tabletop();
      const canvas = make('canvas', {
        width: SIZE,
        height: SIZE,
        class: 'ww-mosaic',
        role: 'img',
        'aria-label': 'What is left of the picture: each token in the mean colour of its patches.',
      });
      mosaic(canvas, { rgb, groups });
      return [
        canvas,
        make(
          'p',
          {},
          `${kept} of ${groups.length} visual tokens are left. Each has the mean colour of its patches; what is dropped is dark.`,
        ),
      ];
    },
    code: ({ settings: { method, same, lengths, positions }, question }) =>
      'import numpy as np\nfrom whatwhere.compress import compressed, groups\nfrom whatwhere.compress.decoder import punctuation\n\n' +
      `best = maps.top_ids[-1].reshape(-1, maps.top_ids[-1].shape[-1])  # (tokens, words)\n` +
      `labels = np.unique(best[:, :${same}], axis=0, return_inverse=True)[1].ravel()\n` +
      `blank = punctuation(vlm.texts)[best]\n` +
      `dropped = ${{ 1: 'np.zeros(len(best), bool)', 2: 'blank[:, 0]', 3: 'blank[:, :2].all(1)' }[method]}\n` +
      'runs = groups.rows(np.where(dropped, -1, labels).reshape(maps.words[-1].shape))\n' +
      'runs = np.where(dropped, -1, runs)\nprint(groups.count(runs), "of", runs.size, "tokens are left")\n' +
      `with compressed(vlm, lambda sight: runs, lengths="${lengths}", positions="${positions}"):\n` +
      `    print(vlm.answer(scene.image, ${JSON.stringify(question)}))\n`,
  };

  const knockout = {
    title: 'Silence heads (chapter 11)',
    about:
      'Heads of the vision encoder that are pressed put out zeros. Blocks are counted from 1, heads from 0.',
    fields: model => [
      {
        key: 'heads',
        label: 'heads',
        kind: 'heads',
        depth: model.vision.depth,
        heads: model.vision.heads,
        usual: '',
        presets:
          model.name !== 'toy-qwen2vl'
            ? { none: '' }
            : {
                none: '',
                'the two left-and-right heads': '4.2,6.0',
                'two others of the same blocks': '4.3,6.1',
              },
      },
    ],
    question: whereIs,
    trial: ({ settings }) => ({ change: { headsOff: headsOf(settings.heads) } }),
    draw: () => [],
    code({ settings, question }) {
      const blocks = new Map();
      for (const [block, head] of headsOf(settings.heads))
        blocks.set(block, [...(blocks.get(block) ?? []), head]);
      const cuts = [...blocks].map(
        ([block, heads]) => `ww.intervene.knockout(vlm, depths=[${block}], heads=${list(heads)})`,
      );
      const answer = `print(vlm.answer(scene.image, ${JSON.stringify(question)}))\n`;
      if (!cuts.length) return '';
      return `from contextlib import ExitStack\n\nwith ExitStack() as stack:\n${cuts.map(cut => `    stack.enter_context(${cut})\n`).join('')}    ${answer}`;
    },
  };

  const relation = {
    title: 'Relation vectors (chapter 12)',
    about:
      'What the thing’s patches hold less what those of the other hold. Drag one around the other, and see where the vector points.',
    pair: true,
    notes: true,
    question: whereIs,
    fields: model => [
      ...pairFields,
      {
        key: 'place',
        label: 'read at',
        kind: 'menu',
        usual: 'LM 0',
        of: [
          ...Array.from({ length: model.vision.depth + 1 }, (_, n) => `ViT ${n}`),
          ...Array.from({ length: model.language.layers + 1 }, (_, n) => `LM ${n}`),
        ],
      },
    ],
    trial(about) {
      const { place } = about.settings;
      return { place, things: bothPatches(about, place) };
    },
    draw(about, { vectors }) {
      if (!vectors || !about.notes) return [];
      const cosines = told(about.notes, about.settings.place, vectors);
      const { things } = about.scene;
      const [a, b] = about.pair;
      const best = RELATIONS.reduce((one, other) => (cosines[other] > cosines[one] ? other : one));
      const truth = tabletop().relation(things[a], things[b]);
      return [
        dial(cosines, truth),
        make(
          'p',
          {},
          `The vector is most like ${best} (cosine ${cosines[best].toFixed(2)}). In the picture the ${things[a].category} is ` +
            `${truth ? `${truth === 'front' ? 'in front' : truth}${['left', 'right', 'front'].includes(truth) ? ' of' : ''} the ${things[b].category}` : 'where no one word says it'}.`,
        ),
      ];
    },
    code: ({ settings: { place }, pair, model }) =>
      'from whatwhere.book.live import notes\n\n' +
      `vectors = ww.geometry.thing_vectors(vlm, [scene], (${pair.join(', ')}))["${place}"][0]\n` +
      `print(notes.told("${model.name}", "${place}", vectors[0] - vectors[1]))\n`,
  };

  const steering = {
    title: 'Add a step (chapter 14)',
    about:
      'The step from the relation in the picture to another one is added to the visual tokens of the two things, as the language model receives them.',
    pair: true,
    notes: true,
    question: whereIs,
    fields: () => [
      ...pairFields,
      relationField,
      { key: 'dose', label: 'dose', kind: 'range', min: 0, max: 2, step: 0.25, usual: '1' },
      {
        key: 'who',
        label: 'added to',
        kind: 'menu',
        of: ['both', 'satellite', 'nucleus'],
        usual: 'both',
        shown: {
          both: 'both things, each its own',
          satellite: 'the thing alone',
          nucleus: 'the other alone',
        },
      },
    ],
    trial(about) {
      const { toward, dose, who } = about.settings;
      const from = RELATIONS.indexOf(present(about));
      const to = RELATIONS.indexOf(toward);
      const notes = about.notes.places['LM 0'];
      const own = bothPatches(about, 'LM 0');
      const added = ['satellite', 'nucleus'].map((thing, n) => ({
        tokens: own[n],
        vector: times(less(notes[thing][to], notes[thing][from]), Number(dose)),
      }));
      return { change: { added: who === 'both' ? added : [added[who === 'satellite' ? 0 : 1]] } };
    },
    draw: () => [],
    code(about) {
      const { toward, dose, who } = about.settings;
      const which = { both: [0, 1], satellite: [0], nucleus: [1] }[who];
      return (
        'from contextlib import ExitStack\nfrom whatwhere.book.live import notes\n\n' +
        `steps = notes.step("${about.model.name}", "LM 0", "${present(about)}", "${toward}")\n` +
        `own = [ww.geometry.patches(vlm, [scene], n, "LM 0")[0] for n in (${about.pair.join(', ')})]\n` +
        `with ExitStack() as stack:\n    for n in ${list(which)}:\n` +
        `        stack.enter_context(ww.intervene.added(vlm, own[n], ${dose} * steps[n], layer=0))\n` +
        `    print(vlm.answer(scene.image, ${JSON.stringify(about.question)}))\n`
      );
    },
  };

  const rotation = {
    title: 'Turn the angle (chapter 14)',
    about:
      'The thing’s patches are taken to be elsewhere, that many patches away; not a pixel changes. In toy-llava they are given the vectors of other places.',
    pair: true,
    question: whereIs,
    fields: model => [
      ...pairFields,
      {
        key: 'columns',
        label: 'to the right',
        kind: 'range',
        min: -12,
        max: 12,
        step: 1,
        usual: '0',
      },
      { key: 'rows', label: 'towards you', kind: 'range', min: -8, max: 8, step: 1, usual: '0' },
      ...(model.vision.frequencies
        ? [
            {
              key: 'blocks',
              label: 'in blocks',
              kind: 'blocks',
              depth: model.vision.depth,
              usual: '',
            },
          ]
        : []),
    ],
    trial(about) {
      const { rows, columns, blocks } = about.settings;
      const [patches] = bothPatches(about, 'ViT 0');
      return {
        change: {
          moved: [
            { patches, steps: [Number(rows), Number(columns)], blocks: blocksOf(blocks ?? '') },
          ],
        },
      };
    },
    draw: () => [],
    code: ({ settings: { rows, columns, blocks }, pair: [a], question }) =>
      `own = ww.geometry.patches(vlm, [scene], ${a}, "ViT 0")[0]\n` +
      `with ww.intervene.moved(vlm, own, (${rows}, ${columns})${blocks ? `, blocks=${list(blocksOf(blocks))}` : ''}):\n` +
      `    print(vlm.answer(scene.image, ${JSON.stringify(question)}))\n`,
  };

  // Both things alone, one beside the other, so many patches apart; null where one does not fit.
  function apart({ scene, pair: [a, b] }, columns) {
    const half = Math.floor((PATCH * columns) / 2);
    const left = scene.things[a].x <= scene.things[b].x;
    const { y } = scene.things[b];
    const middle = tabletop().SIZE / 2;
    const put = (n, x) => ({ ...scene.things[n], x, y, order: y, support: null, place: null });
    const xs = [middle - half, middle + PATCH * columns - half];
    const things = [put(a, xs[left ? 0 : 1]), put(b, xs[left ? 1 : 0])];
    const made = { ...scene, things };
    return tabletop().problems(made).length ? null : made;
  }

  const drawn = new Map(); // pixels of pictures that were drawn before, by what they show

  function pixelsOf(scene) {
    const key = JSON.stringify([scene.background, scene.light, scene.window, scene.things]);
    if (drawn.size > 200) drawn.clear();
    if (!drawn.has(key)) drawn.set(key, tabletop().render(scene).rgb);
    return { key, pixels: drawn.get(key) };
  }

  const gain = {
    title: 'A faster ruler (chapter 15)',
    about:
      'Frequency i turns 1 + α (2i/d)ᵖ times as fast. The two things alone, nearer and further, are asked about as well.',
    pair: true,
    question: whereIs,
    models: ['toy-qwen2vl'],
    fields: () => [
      ...pairFields,
      { key: 'alpha', label: 'gain α', kind: 'range', min: 0, max: 99, step: 1, usual: '9' },
      { key: 'p', label: 'power p', kind: 'menu', of: ['1', '2', '4', '8'], usual: '2' },
    ],
    trial(about, { busy }) {
      const {
        settings: { alpha, p },
        model,
      } = about;
      const change = { gains: gains(model.vision.frequencies.length, Number(alpha), Number(p)) };
      if (busy) return { change }; // pictures at other distances wait until a thing is let go
      const pictures = Array.from({ length: FURTHEST }, (_, n) => [
        n + 1,
        apart(about, n + 1),
      ]).filter(([, scene]) => scene);
      return {
        change,
        apart: pictures.map(([columns]) => columns),
        series: pictures.map(([, scene]) => ({ ...pixelsOf(scene), question: about.question })),
      };
    },
    draw({ scene, pair: [a, b] }, { series, apart: columns }) {
      if (!columns) return [];
      const truth = scene.things[a].x <= scene.things[b].x ? 'left' : 'right';
      const cell = word =>
        make(
          'td',
          {
            class: word ? (word === truth ? 'ww-right' : 'ww-wrong') : '',
            title: word ?? 'not asked yet',
          },
          word ? (word === truth ? '✓' : word) : '·',
        );
      const line = (name, which) =>
        make(
          'tr',
          {},
          make('th', { scope: 'row' }, name),
          ...columns.map((_, k) => cell(series?.[k]?.[which])),
        );
      const table = make(
        'table',
        { class: 'ww-strip' },
        make(
          'tr',
          {},
          make('th', { scope: 'row' }, 'apart'),
          ...columns.map(n => make('th', { scope: 'col' }, n)),
        ),
        line('as it is', 0),
        line('faster', 1),
      );
      return [
        make(
          'p',
          {},
          `Both things alone, the ${scene.things[a].category} on the ${truth}, so many patches apart: is the answer “${truth}”?`,
        ),
        make(
          'div',
          { class: 'ww-scroll', tabindex: 0, role: 'group', 'aria-label': 'Answers by distance' },
          table,
        ),
      ];
    },
    code: ({ scene, settings: { alpha, p }, pair: [a, b], question }) =>
      'from dataclasses import replace\n\n' +
      `with ww.rope.scaled(vlm, ${alpha}, ${p}):\n    print(vlm.answer(scene.image, ${JSON.stringify(question)}))\n\n` +
      `y = scene.things[${b}].y\none, other = (replace(scene.things[n], y=y, order=y, support=None, place=None) for n in (${a}, ${b}))\n` +
      `for columns in range(1, ${FURTHEST + 1}):\n    half = ${PATCH} * columns // 2\n    near, far = 72 - half, 72 + ${PATCH} * columns - half\n` +
      `    things = replace(one, x=${scene.things[a].x <= scene.things[b].x ? 'near' : 'far'}), replace(other, x=${scene.things[a].x <= scene.things[b].x ? 'far' : 'near'})\n` +
      `    with ww.rope.scaled(vlm, ${alpha}, ${p}):\n        print(columns, vlm.answer(replace(scene, things=things).image, ${JSON.stringify(question)}))\n`,
  };

  const attention = {
    title: 'Attention of a word or a patch',
    about:
      'What a token collects from the patches: the darker, the less. Click a patch to choose it, or set its row and column.',
    question: () => '',
    fields: model => [
      {
        key: 'place',
        label: 'block',
        kind: 'menu',
        usual: 'LM 2',
        of: [
          ...Array.from({ length: model.language.layers }, (_, n) => `LM ${n + 1}`),
          ...Array.from({ length: model.vision.depth }, (_, n) => `ViT ${n + 1}`),
        ],
      },
      {
        key: 'head',
        label: 'head',
        kind: 'menu',
        usual: 'mean',
        of: [
          'mean',
          ...Array.from({ length: Math.max(model.vision.heads, model.language.heads) }, (_, n) =>
            String(n),
          ),
        ],
      },
      { key: 'token', label: 'of', kind: 'word', usual: 'last' },
      ...['row', 'column'].map(key => ({
        key,
        label: key,
        kind: 'range',
        min: 0,
        max: sideOf(model, 'LM') - 1,
        step: 1,
        usual: '4',
      })),
    ],
    pointed: ([row, column]) => ({ token: 'patch', row: String(row), column: String(column) }),
    trial({ question, settings: { place, head, token, row, column } }) {
      if (place.startsWith('LM') && !question)
        throw new Error('The language model reads a question: ask one first.');
      const word = place.startsWith('ViT') ? 'patch' : /^\d+$/.test(token) ? Number(token) : token;
      return {
        looks: {
          place,
          head: head === 'mean' ? head : Number(head),
          from: word,
          row: Number(row),
          column: Number(column),
        },
      };
    },
    draw: ({ settings: { place, token } }, { looks }) =>
      looks
        ? [
            make(
              'p',
              {},
              `${Math.round(100 * (1 - looks.elsewhere))}% of what it collects comes from the patches` +
                `${place.startsWith('LM') ? ', the rest from words' : ''}.${place.startsWith('ViT') && token !== 'patch' ? ' The vision encoder has no words: this is the patch at the row and the column.' : ''}`,
            ),
          ]
        : [],
    code({ settings: { place, head, token, row, column }, question, model }) {
      const [tower, block] = place.split(' ');
      const {
        picture: { merge },
        text: { before, between },
      } = model;
      const side = sideOf(model, 'LM');
      const heads = head === 'mean' ? 'mean(0)' : `squeeze(0)`;
      const of = head === 'mean' ? ':' : `${head}:${Number(head) + 1}`;
      if (tower === 'ViT') {
        const own = Array.from(
          { length: merge * merge },
          (_, k) =>
            (row * merge + Math.floor(k / merge)) * side * merge + column * merge + (k % merge),
        );
        return (
          `seen = vlm.attention(scene.image, depths=[${block}])\nown = seen.places[${list(own)}]\n` +
          `print(seen.weights[0, ${of}][:, own].mean(1).${heads}[seen.places].reshape(seen.grid))\n`
        );
      }
      const index =
        token === 'last'
          ? '-1'
          : token === 'patch'
            ? `seen.places[${row * side + Number(column)}]`
            : before.length + side * side + between.length + Number(token);
      return (
        `seen = vlm.attention(scene.image, ${JSON.stringify(question)}, layers=[${block}])\n` +
        `print(seen.weights[0, ${of}, ${index}].${heads}[seen.places].reshape(seen.grid))\n`
      );
    },
  };

  const all = { runs, knockout, relation, steering, rotation, gain, attention };

  // ---- Controls -----------------------------------------------------------------------------
  // A field's kind is
  //     menu    one of the texts `of`, shown as `shown` has it
  //     word    a word of the question by its number, 'patch' or 'last'
  //     thing   the category of a thing in the picture, '' for any
  //     range   a number from min to max
  //     check   the text `on` or `off`
  //     heads   heads of the vision encoder, "4.2,6.0", with `presets`
  //     blocks  its blocks, "4,6", '' for all

  // What the text of a field has to be, '' where it is that. about: {scene, question}, for kinds that
  // need them.
  function due(field, text, about) {
    const { kind, of, min, max, step, on, off, usual, depth, heads } = field;
    const whole = (n, least, most) => /^\d+$/.test(n) && Number(n) >= least && Number(n) <= most;
    const oneOf = options =>
      options.includes(text) ? '' : `one of ${options.filter(Boolean).join(', ')}`;
    if (kind === 'menu') return oneOf(of);
    if (kind === 'check') return oneOf([on, off]);
    if (kind === 'thing') {
      const others = about.scene.things.map(({ category }) => category).join(', ');
      return text === usual ? '' : `a thing in the picture (${others}), and another than the other`;
    }
    if (kind === 'range') {
      const steps = (Number(text) - min) / step;
      const fits = /^-?\d+(\.\d+)?$/.test(text) && Number(text) >= min && Number(text) <= max;
      return fits && Number.isInteger(steps)
        ? ''
        : `a number from ${min} to ${max} in steps of ${step}`;
    }
    if (kind === 'word') {
      const last = wordsOf(about.question).length - 1;
      return ['patch', 'last'].includes(text) || whole(text, 0, last)
        ? ''
        : `patch, last or the number of a word of the question, from 0 to ${last}`;
    }
    const parts = text === '' ? [] : text.split(',').map(part => part.split('.'));
    if (kind === 'heads') {
      return parts.every(
        ([block, head, ...more]) =>
          whole(block, 1, depth) && whole(head, 0, heads - 1) && !more.length,
      )
        ? ''
        : `a list of block.head, such as 4.2,6.0, of blocks 1 to ${depth} and heads 0 to ${heads - 1}`;
    }
    // kind is 'blocks'
    return parts.every(([block, ...more]) => whole(block, 1, depth) && !more.length)
      ? ''
      : `a list of blocks from 1 to ${depth}, such as 4,6`;
  }

  /* Texts as far as fields allow them, and a sentence for each that they do not: {settings, problems}.

     given: {key: text}, where what is missing or null is as usual. about: {scene, question}, see `due`. */
  function checked(fields, given, about = {}) {
    const settings = {};
    const problems = [];
    for (const field of fields) {
      const { key, usual } = field;
      const text = String(given[key] ?? usual);
      const what = due(field, text, about);
      settings[key] = what ? usual : text;
      if (what)
        problems.push(
          `“${key}” is ${what}; got ${JSON.stringify(text.slice(0, 40))}. Shown instead: ${usual || 'none'}.`,
        );
    }
    return { settings, problems };
  }

  // The same of an experiment, with a model, as the state of a figure has it.
  function settingsOf(name, model, { scene, question, settings, link }) {
    const pair = pairOf(scene, settings);
    const given = { ...settings };
    const fields = all[name].fields(model).map(field => {
      if (field.kind !== 'thing') return field;
      // a thing that was taken away by hand is no mistake
      if (!link) delete given[field.key];
      return {
        ...field,
        usual: scene.things[pair?.[field.key === 'satellite' ? 0 : 1]]?.category ?? '',
      };
    });
    return checked(fields, given, { scene, question });
  }

  // Elements for the fields of an experiment, each of which calls set(key, text), and a function
  // that shows settings in them.
  function controls(name, model, set) {
    const shows = [];
    const elements = all[name].fields(model).map(field => {
      const { key, label, kind } = field;
      const own = { 'data-lm-suppress-shortcuts': '' };
      const row = (...children) => make('label', {}, make('span', {}, label), ...children);
      if (['menu', 'thing', 'word'].includes(kind)) {
        const select = make('select', { ...own, onchange: () => set(key, select.value) });
        shows.push(({ settings, scene, pair, question }) => {
          const of = {
            menu: () => field.of.map(text => [text, field.shown?.[text] ?? text]),
            thing: () => scene.things.map(({ category }) => [category, category]),
            word: () => [
              ['last', 'the last token, before the answer'],
              ['patch', 'the patch at'],
              ...wordsOf(question).map((word, n) => [String(n), `“${word}”`]),
            ],
          }[kind]();
          if (
            [...select.options].map(each => each.value + each.text).join() !==
            of.map(each => each.join('')).join()
          ) {
            select.replaceChildren(...of.map(([value, text]) => make('option', { value }, text)));
          }
          select.value =
            kind === 'thing'
              ? (scene.things[pair?.[key === 'satellite' ? 0 : 1]]?.category ?? '')
              : settings[key];
        });
        return row(select);
      }
      if (kind === 'range') {
        const output = make('output');
        const range = make('input', {
          ...own,
          type: 'range',
          min: field.min,
          max: field.max,
          step: field.step,
          oninput: () => set(key, range.value),
        });
        shows.push(({ settings }) => {
          range.value = settings[key];
          output.textContent = settings[key];
        });
        return row(range, output);
      }
      if (kind === 'check') {
        const box = make('input', {
          ...own,
          type: 'checkbox',
          onchange: () => set(key, box.checked ? field.on : field.off),
        });
        shows.push(({ settings }) => {
          box.checked = settings[key] === field.on;
        });
        return make('label', { class: 'ww-check' }, box, label);
      }
      if (kind === 'blocks') {
        const boxes = Array.from({ length: model.vision.depth }, (_, n) =>
          make('input', {
            ...own,
            type: 'checkbox',
            onchange: () => {
              const on = boxes.flatMap((box, k) => (box.checked ? [k + 1] : []));
              set(key, on.length === boxes.length || !on.length ? '' : on.join());
            },
            'aria-label': `block ${n + 1}`,
          }),
        );
        shows.push(({ settings }) =>
          boxes.forEach((box, n) => {
            box.checked = !settings[key] || blocksOf(settings[key]).includes(n + 1);
          }),
        );
        return make(
          'div',
          { class: 'ww-boxes', role: 'group', 'aria-label': label },
          make('span', {}, label),
          ...boxes.map((box, n) => make('label', {}, box, n + 1)),
        );
      }
      const { depth, heads } = model.vision;
      const buttons = []; // kind is 'heads'
      const table = make('div', {
        class: 'ww-heads',
        role: 'group',
        'aria-label': 'Heads that are silent',
        style: `--heads:${heads}`,
      });
      let silent = [];
      for (let block = 1; block <= depth; block++) {
        table.append(make('span', {}, `block ${block}`));
        for (let head = 0; head < heads; head++) {
          const id = `${block}.${head}`;
          const button = make(
            'button',
            {
              ...own,
              type: 'button',
              'aria-label': `block ${block}, head ${head}`,
              onclick: () =>
                set(
                  key,
                  (silent.includes(id) ? silent.filter(each => each !== id) : [...silent, id])
                    .sort()
                    .join(),
                ),
            },
            head,
          );
          buttons.push([id, button]);
          table.append(button);
        }
      }
      shows.push(({ settings }) => {
        silent = settings[key] ? settings[key].split(',') : [];
        for (const [id, button] of buttons)
          button.setAttribute('aria-pressed', silent.includes(id));
      });
      return make(
        'div',
        {},
        table,
        make(
          'p',
          { class: 'ww-buttons ww-presets' },
          ...Object.entries(field.presets).map(([text, chosen]) =>
            make('button', { type: 'button', onclick: () => set(key, chosen) }, text),
          ),
        ),
      );
    });
    return { elements, show: about => shows.forEach(show => show(about)) };
  }

  return { all, checked, controls, gains, pairOf, patchesOf, settingsOf, told };
})();
