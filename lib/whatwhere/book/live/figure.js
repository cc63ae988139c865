/* A live figure: the scene as a reader changes it, and what the model says of it. tabletop.js loads
   this when a figure wakes, after the world and the experiments.

   The state of a figure is {scene, name (of the model), depth, layer, lens, question, experiment (a
   name of panels.js, '' for none), settings (of it), plain (whether maps are of the model as it is),
   link (whether it is as a link has it), checked (whether it is known to fit the model)}; `act` is
   the one place where it changes, and `draw` the one place where what is seen follows. */
(function () {
  'use strict';
  const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const STRIDE = 9; // pixels, with Shift: the side of a patch of the ViT
  const GROW = 3; // pixels, for + and −
  const FINGER = 5; // pixels of the picture by which a finger may miss a thing
  const PATIENCE = 30000; // milliseconds without an answer before that is said
  const QUIET = 700; // milliseconds without a change before a sentence is said, or the address set
  const SETS = ['category', 'colour', 'texture'];
  const LENSES = ['logit', 'embedding'];
  // what a link can say: of the scene, and of its reading
  const SCENE = ['ground', 'window', 'light', 'thing', 'from'];
  const OWN = ['model', 'depth', 'layer', 'lens', 'ask', 'try'];

  // ---- Small things -------------------------------------------------------------------------

  // An element: make('label', {class: 'x', onclick: f}, child, …). Properties where there are such,
  // else attributes.
  function make(tag, about = {}, ...children) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(about)) {
      if (key === 'class') element.className = value;
      else if (key in element && !key.startsWith('aria')) element[key] = value;
      else element.setAttribute(key, value);
    }
    element.append(...children);
    return element;
  }

  // A word on an island, so that one that is read from right to left leaves its surroundings in
  // order.
  const island = text => make('bdi', {}, text);
  const percent = p => (p > 0 && p < 0.005 ? '<1' : Math.round(100 * p)) + '%';
  const tabletop = () => globalThis.whatwhereTabletop;
  const experiments = () => globalThis.whatwhereExperiments;

  // For each patch the things that show in it, -1 the ground: sets.
  function showing(owner, rows, columns) {
    const { SIZE } = tabletop();
    const sets = Array.from({ length: rows * columns }, () => new Set());
    owner.forEach((n, at) => {
      const x = at % SIZE;
      const y = (at - x) / SIZE;
      sets[Math.floor((y * rows) / SIZE) * columns + Math.floor((x * columns) / SIZE)].add(n);
    });
    return sets;
  }

  // Options and choice of a menu; its options stay where they are the same, so that it can stay
  // open.
  function choose(select, words, chosen, shown = word => word) {
    const same =
      select.options.length === words.length &&
      words.every((word, n) => select.options[n].value === String(word));
    if (!same) select.replaceChildren(...words.map(word => make('option', { value: word })));
    words.forEach((word, n) => {
      if (select.options[n].text !== shown(word)) select.options[n].text = shown(word);
    });
    select.value = chosen;
  }

  // ---- The model beside the page ---------------------------------------------------------------

  // One Worker for all figures of a page. `hear` is told what it says to a figure.
  const figures = new Map();
  let worker = null;

  async function reader(load, name) {
    await Promise.all([load('worker.js'), load(name + '.js')]);
    if (!worker) {
      if (!globalThis.Worker)
        throw new Error('This browser has no Workers, and the model runs in one.');
      const address = URL.createObjectURL(
        new Blob([globalThis.whatwhereWorker], { type: 'text/javascript' }),
      );
      worker = new Worker(address);
      worker.onmessage = ({ data }) => figures.get(data.figure).hear(data);
      worker.onerror = event => {
        for (const figure of figures.values())
          figure.problem(
            `The model has stopped: ${event.message || 'its script does not run here'}.`,
          );
      };
    }
    const model = globalThis.whatwhereModels[name];
    if (model.weights) {
      worker.postMessage({ model });
      delete model.weights; // the Worker has them now
    }
    return model;
  }

  // ---- The address ----------------------------------------------------------------------------
  // #tabletop?ground=…&thing=…&model=toy-llava&depth=3&layer=0&ask=is+there+a+mug&try=gain&alpha=29

  function toAddress(id, { scene, name, depth, layer, lens, question, experiment, settings }) {
    const more = new URLSearchParams({ model: name, depth, layer, ask: question });
    if (lens !== LENSES[0]) more.set('lens', lens);
    if (experiment)
      for (const [key, value] of Object.entries({ try: experiment, ...settings }))
        more.set(key, value);
    return `#${id}?${tabletop().sceneToQuery(scene)}&${more}`;
  }

  // ---- What is said ---------------------------------------------------------------------------

  const called = thing =>
    thing.category === 'sign'
      ? `sign ${thing.text}`
      : [thing.colour, thing.texture === 'plain' ? '' : thing.texture, thing.category]
          .filter(Boolean)
          .join(' ');

  const withArticle = thing => (/^[aeiou]/.test(called(thing)) ? 'an ' : 'a ') + called(thing);

  function where(thing) {
    const third = (n, words) =>
      words[Math.min(2, Math.max(0, Math.floor((3 * n) / tabletop().SIZE)))];
    const across = third(thing.x, ['on the left', 'in the middle', 'on the right']);
    return across + third(thing.y - 20, [', far away', '', ', near']);
  }

  function described(scene) {
    const places = scene.things.map(thing =>
      thing.place
        ? `${withArticle(thing)} ${thing.place} the ${scene.things[thing.support].category}`
        : `${withArticle(thing)} ${where(thing)}`,
    );
    return `A picture of a ground of ${scene.background}: ${places.join('; ') || 'nothing stands on it'}.`;
  }

  // Python that makes the same scene and asks the same of it.
  function code({ scene, name, depth, layer, lens, question }, more) {
    const text = value => JSON.stringify(value);
    const indent = '        ';
    const things = scene.things
      .map(thing => {
        const named =
          thing.category === 'sign'
            ? [text('sign'), `text=${text(thing.text)}`]
            : [thing.category, thing.colour, thing.texture].map(text);
        const { x, y, extent, order } = thing;
        const fields = { x, y, extent, order };
        if (thing.place)
          Object.assign(fields, { support: thing.support, place: text(thing.place) });
        return `${indent}Thing(${[...named, ...Object.entries(fields).map(([key, value]) => `${key}=${value}`)].join(', ')}),\n`;
      })
      .join('');
    const asks = question ? `print(vlm.answer(scene.image, ${text(question)}))\n` : '';
    return (
      'import whatwhere as ww\nfrom whatwhere.world import Scene, Thing\n\n' +
      `scene = Scene(\n    seed=${scene.seed ?? 0}, split=${text(scene.split ?? 'test')}, background=${text(scene.background)},\n` +
      `    light=${scene.light}, window=(${scene.window.join(', ')}),\n    things=(\n${things}    ),\n)\n` +
      `vlm = ww.load(${text(name)})\n` +
      `maps = ww.lens.token_maps(vlm, scene.image, layer=${layer}${lens === 'embedding' ? ', lens=ww.lens.EmbeddingLens(vlm)' : ''})\n` +
      `print(maps.words[${depth}])  # ViT depth ${depth}\nmaps.show()\n${asks}${more ? '\n' + more : ''}`
    );
  }

  // ---- A figure -------------------------------------------------------------------------------

  class Figure {
    /* root: the element around the still figure. bar: in its place comes the live one. given: what
       tabletop.py wrote. load: a function that loads a file of the assets. */
    constructor({ root, bar, given, load }) {
      Object.assign(this, {
        root,
        bar,
        given,
        load,
        id: root.id,
        models: given.models,
        picked: 0,
        turn: 0,
        picture: 0,
        asked: 0,
        notices: [],
        maps: new Map(),
        scenes: new Map(),
        found: {},
      });
      const { depth, layer, question, experiment, settings } = given;
      this.state = {
        scene: null,
        name: given.model,
        depth,
        layer,
        lens: LENSES[0],
        question,
        experiment: experiment === 'all' ? '' : (experiment ?? ''),
        settings,
        plain: false,
        link: false,
        checked: false,
      };
      figures.set(this.id, this);
      this.build();
      document.addEventListener('visibilitychange', () => this.resume());
    }

    // Begin with the scene of the page, or with what a link says.
    begin(link) {
      const { things } = this.given.scene;
      const asked = things.findIndex(thing => this.given.question.includes(` ${thing.category} `));
      const { portable } = globalThis.whatwhereWorld;
      const first = things.findIndex(thing => portable.includes(thing.category));
      this.picked = Math.max(0, asked < 0 ? first : asked);
      if (link === null) this.act({ scene: this.given.scene });
      else this.follow(link);
    }

    // A page that was asleep may have lost what it asked for: ask again.
    resume() {
      if (document.hidden || !this.model || this.read?.turn === this.turn) return;
      this.wished = null;
      this.request();
    }

    // Show what a link says, as far as it can be shown, and a sentence for each part that cannot.
    follow(text) {
      const given = new URLSearchParams(text);
      const { state, models, offered } = this;
      const problems = [];
      let scene = state.scene ?? this.given.scene;
      try {
        scene = tabletop().queryToScene(text);
      } catch (error) {
        problems.push(`${error.message} Shown instead: the scene that was here.`);
      }
      const rest = {};
      for (const key of new Set(given.keys())) {
        if (SCENE.includes(key)) continue;
        rest[key] = given.get(key);
        if (given.getAll(key).length > 1)
          problems.push(`The link has two of ${key}: the first is shown.`);
      }
      const { model, depth, layer, lens, ask, try: experiment, ...settings } = rest;
      const usual = { model: state.name, lens: state.lens, try: state.experiment };
      const own = experiments().checked(
        Object.entries({ model: models, lens: LENSES, try: offered }).map(([key, of]) => ({
          key,
          of,
          kind: 'menu',
          usual: usual[key],
        })),
        { model, lens, try: experiment },
      );
      this.act({
        scene,
        name: own.settings.model,
        lens: own.settings.lens,
        experiment: own.settings.try,
        // another model begins with its own
        depth: depth ?? (own.settings.model === state.name ? state.depth : null),
        layer: layer ?? (own.settings.model === state.name ? state.layer : null),
        question: ask ?? state.question,
        settings,
        link: true,
      });
      if (ask !== undefined && ask !== this.state.question)
        problems.push(
          `This experiment has a question of its own. Shown instead of ${JSON.stringify(ask.slice(0, 80))}: ${this.state.question}`,
        );
      this.notice([...problems, ...own.problems]);
    }

    // Make of the state one that the model has, and say what was asked for otherwise.
    check(state, model) {
      const { all, checked, settingsOf } = experiments();
      const { depth, layer, experiment, link } = state;
      const range = (key, max, usual) => ({
        key,
        kind: 'range',
        min: 0,
        max,
        step: 1,
        usual: String(usual),
      });
      const reading = checked(
        [
          range('depth', model.vision.depth, model.vision.depth),
          range('layer', model.language.layers, model.language.lensLayer),
        ],
        { depth, layer },
      );
      const trial = all[experiment]
        ? settingsOf(experiment, model, state)
        : { settings: {}, problems: [] };
      const unknown = Object.keys(state.settings).filter(key => !(key in trial.settings));
      Object.assign(state, {
        depth: Number(reading.settings.depth),
        layer: Number(reading.settings.layer),
        settings: trial.settings,
        checked: true,
      });
      const names = [...SCENE, ...OWN, ...Object.keys(trial.settings)];
      this.notice([
        ...reading.problems,
        ...trial.problems,
        ...(link && unknown.length
          ? [
              `The link has ${unknown.map(key => `“${key.slice(0, 40)}”`).join(', ')}, but here it can have only ${names.join(', ')}.`,
            ]
          : []),
      ]);
    }

    // -- the elements -------------------------------------------------------------------------

    build() {
      const parts = (this.parts = {});
      const { SIZE } = tabletop();
      const { words, sizes, light } = globalThis.whatwhereWorld;
      const own = { 'data-lm-suppress-shortcuts': '' }; // JupyterLab leaves such keys alone
      const keep = (key, element) => (parts[key] = element);
      const field = (label, element, ...more) =>
        make('label', {}, make('span', {}, label), element, ...more);
      const pick = (key, onchange) =>
        keep(key, make('select', { ...own, onchange: () => onchange(parts[key].value) }));
      const range = (key, min, max, step, oninput) =>
        keep(
          key,
          make('input', {
            ...own,
            type: 'range',
            min,
            max,
            step,
            oninput: () => oninput(Number(parts[key].value)),
          }),
        );
      const button = (key, text, onclick) =>
        keep(key, make('button', { type: 'button', onclick }, text));

      const stage = keep(
        'stage',
        make(
          'div',
          { class: 'ww-stage' },
          keep('canvas', make('canvas', { width: SIZE, height: SIZE, role: 'img' })),
          keep(
            'veil',
            make('canvas', {
              class: 'ww-veil',
              width: SIZE,
              height: SIZE,
              hidden: true,
              'aria-hidden': 'true',
            }),
          ),
          keep(
            'words',
            make('div', {
              class: 'ww-words',
              role: 'table',
              'aria-label': 'The words of the patches',
            }),
          ),
          keep('heard', make('span', { class: 'ww-heard', 'aria-live': 'polite' })), // where a thing has come, for who moves it by keys
          keep(
            'handles',
            make('div', {
              class: 'ww-handles',
              role: 'group',
              'aria-label': 'Things in the picture',
            }),
          ),
        ),
      );
      this.listen(stage);

      const reading = make(
        'div',
        { class: 'ww-reading' },
        field(
          'ViT depth',
          range('depth', 0, 0, 1, depth => this.act({ depth })),
          keep('depthSaid', make('output')),
        ),
        keep('names', make('div', { class: 'ww-names', role: 'group' })),
        field(
          'LM layer',
          range('layer', 0, 0, 1, layer => this.act({ layer })),
          keep('layerSaid', make('output')),
        ),
        field(
          'lens',
          pick('lens', lens => this.act({ lens })),
        ),
        make(
          'label',
          { class: 'ww-check' },
          make('input', {
            ...own,
            type: 'checkbox',
            onchange: event => stage.classList.toggle('ww-bare', event.target.checked),
          }),
          'picture only',
        ),
      );
      const key = (mark, text) =>
        make('span', { class: 'ww-key' }, make('i', { class: mark }, 'word'), text);
      const legend = make(
        'p',
        { class: 'ww-legend' },
        key('ww-right', 'true of the patch'),
        key('ww-wrong', 'true of nothing in it'),
        key('', 'neither'),
      );

      const thing = keep(
        'thing',
        make(
          'fieldset',
          {},
          make('legend', {}, 'Thing'),
          field(
            'which',
            pick('which', n => this.select(Number(n))),
          ),
          ...SETS.map(part =>
            field(
              part,
              pick(part, word => this.dress(part, word)),
            ),
          ),
          field(
            'letters',
            make(
              'span',
              { class: 'ww-pair' },
              ...[0, 1].map(n => {
                const letter = pick('letter' + n, word =>
                  this.dress('text', n ? this.thing.text[0] + word : word + this.thing.text[1]),
                );
                letter.setAttribute('aria-label', `letter ${n + 1} of the sign`);
                return letter;
              }),
            ),
          ),
          field(
            'size',
            range('size', ...sizes.allowed, 1, extent =>
              this.edit(scene => tabletop().resized(scene, this.picked, extent)),
            ),
            keep('sizeSaid', make('output')),
          ),
          field(
            'stands',
            pick('place', place => this.stand(place)),
          ),
          make(
            'p',
            { class: 'ww-buttons' },
            button('remove', 'Remove', () => this.remove()),
            keep(
              'add',
              make('select', { ...own, 'aria-label': 'Add a thing', onchange: () => this.add() }),
            ),
          ),
        ),
      );
      const setting = make(
        'fieldset',
        {},
        make('legend', {}, 'Scene'),
        field(
          'ground',
          pick('ground', background => this.edit(scene => ({ ...scene, background }))),
        ),
        field(
          'light',
          range('light', ...light, 0.01, value => this.edit(scene => ({ ...scene, light: value }))),
          keep('lightSaid', make('output')),
        ),
        field(
          'model',
          pick('model', name => this.act({ name, layer: null, depth: null })),
        ),
        make(
          'p',
          { class: 'ww-buttons' },
          button('reset', 'Start again', () => this.act(this.first)),
        ),
      );
      const question = make(
        'form',
        {
          class: 'ww-ask',
          onsubmit: event => {
            event.preventDefault();
            this.act({ question: parts.question.value.trim() });
          },
        },
        field(
          'Question',
          keep(
            'question',
            make('input', { ...own, type: 'text', autocomplete: 'off', spellcheck: false }),
          ),
        ),
        make('button', { type: 'submit' }, 'Ask'),
        keep('answer', make('div', { class: 'ww-answer-said', 'aria-live': 'polite' })),
        keep('bars', make('div', { class: 'ww-bars' })),
      );

      const { experiment } = this.given;
      const { all } = experiments();
      this.offered = experiment === 'all' ? ['', ...Object.keys(all)] : [experiment ?? ''];
      const trial = make(
        'fieldset',
        { class: 'ww-trial', hidden: !experiment },
        keep('trialTitle', make('legend', {}, 'Experiment')),
        field(
          'try',
          pick('experiment', name => this.choose(name)),
        ),
        keep('about', make('p', { class: 'ww-hint' })),
        keep('controls', make('div')),
        make(
          'label',
          { class: 'ww-check' },
          keep(
            'plain',
            make('input', {
              ...own,
              type: 'checkbox',
              onchange: event => this.act({ plain: event.target.checked }),
            }),
          ),
          'map without the change',
        ),
        keep('trialProblem', make('p', { class: 'ww-problem', role: 'alert', hidden: true })),
        keep('result', make('div', { class: 'ww-result' })),
      );
      parts.experiment.closest('label').hidden = experiment !== 'all';

      const copied = (name, label) => {
        const text = keep(
          name,
          make('textarea', {
            ...own,
            readOnly: true,
            rows: name === 'code' ? 16 : 3,
            spellcheck: false,
            'aria-label': label,
            wrap: name === 'code' ? 'off' : 'soft',
          }),
        );
        const copy = make(
          'button',
          {
            type: 'button',
            onclick: async () => {
              text.select();
              // a page that is read from a disk may have no clipboard; what is selected can be
              // copied by hand
              try {
                await navigator.clipboard.writeText(text.value);
                copy.textContent = 'Copied';
              } catch {
                copy.textContent = 'Selected: copy it';
              }
              setTimeout(() => {
                copy.textContent = 'Copy';
              }, 2000);
            },
          },
          'Copy',
        );
        return make('details', {}, make('summary', {}, label), text, copy);
      };
      this.live = make(
        'figure',
        { class: 'ww-paper ww-table' },
        keep('problem', make('p', { class: 'ww-problem', role: 'alert', hidden: true })),
        make(
          'div',
          { class: 'ww-sides' },
          make(
            'div',
            {},
            keep('window', make('div', { class: 'ww-window' }, stage)),
            legend,
            keep('patch', make('p', { class: 'ww-patch' }, 'Point at a patch for its best words.')),
            reading,
            keep(
              'says',
              make('p', { class: 'ww-says', 'aria-live': 'polite' }, 'The model wakes up …'),
            ),
          ),
          make(
            'div',
            { class: 'ww-panel' },
            ...(experiment && experiment !== 'all'
              ? [
                  trial,
                  question,
                  make(
                    'details',
                    {},
                    make('summary', {}, 'Change the things, the ground or the model'),
                    thing,
                    setting,
                  ),
                ]
              : [thing, trial, question, setting]),
          ),
        ),
        make(
          'figcaption',
          {},
          make(
            'p',
            { class: 'ww-hint', id: this.id + '-keys' },
            'Drag a thing, or pick one with the Tab key: arrow keys move it by a pixel, ' +
              'with Shift by 9; + and − change its size, Delete removes it.',
          ),
        ),
        copied('link', 'A link to this scene'),
        copied('code', 'The same in Python'),
      );
      choose(parts.ground, words.background, words.background[0]);
      for (const part of ['category', 'colour', 'texture'])
        choose(parts[part], words[part], words[part][0]);
      for (const n of [0, 1]) choose(parts['letter' + n], words.character, words.character[0]);
      choose(parts.model, this.models, this.state.name);
      choose(parts.lens, LENSES, this.state.lens, lens => `${lens} lens`);
      choose(parts.experiment, this.offered, this.state.experiment, name =>
        name ? all[name].title : 'none',
      );
      this.first = { ...this.state, scene: this.given.scene };
      for (const child of this.root.children) if (child.tagName === 'FIGURE') child.hidden = true;
      this.bar.replaceWith(this.live);
    }

    // -- what a reader does -------------------------------------------------------------------

    get thing() {
      return this.state.scene.things[this.picked];
    }

    // Change the state: what is drawn, read, said and linked follows.
    act(changes) {
      const { problems, render } = tabletop();
      const before = this.state;
      const state = { ...before, link: false, checked: false, ...changes };
      if (state.scene !== before.scene) {
        const [wrong] = problems(state.scene);
        if (wrong) return this.problem(wrong);
        this.drawn = render(state.scene);
      }
      this.touched ||= Boolean(before.scene);
      const trial = experiments().all[state.experiment];
      const pair = trial && experiments().pairOf(state.scene, state.settings);
      if (trial?.pair && pair) state.question = trial.question({ scene: state.scene, pair }); // it is about these two
      this.state = state;
      this.picked = Math.max(0, Math.min(this.picked, state.scene.things.length - 1));
      this.notices = [];
      this.problem('');
      if (state.scene !== before.scene || state.name !== before.name) this.picture++;
      if (
        ['scene', 'name', 'layer', 'lens', 'experiment', 'settings', 'plain'].some(
          key => state[key] !== before[key],
        )
      )
        this.turn++;
      if (state.question !== before.question) this.asked++;
      this.draw();
      this.request();
      clearTimeout(this.later);
      this.later = setTimeout(() => this.settle(), QUIET);
    }

    // In an experiment about a patch, the one at which the pointer is.
    choosePatch() {
      const { pointed } = experiments().all[this.state.experiment] ?? {};
      const grid = this.maps.get(this.state.depth);
      if (!pointed || !grid) return;
      const at = this.pointed.map(n =>
        Math.min(grid.columns - 1, Math.max(0, Math.floor((n * grid.columns) / tabletop().SIZE))),
      );
      this.act({ settings: { ...this.state.settings, ...pointed([at[1], at[0]]) } });
    }

    // Another experiment: with settings of its own, and what it asks.
    choose(experiment) {
      const { scene, name } = this.state;
      const { all, pairOf } = experiments();
      const pair = pairOf(scene, {});
      const question =
        (experiment && all[experiment].question({ scene, pair })) || this.state.question; // '' keeps it
      const { models } = all[experiment] ?? {};
      this.act({
        experiment,
        question,
        settings: {},
        plain: false,
        ...(models && !models.includes(name) ? { name: models[0], depth: null, layer: null } : {}),
      });
    }

    edit(change) {
      try {
        this.act({ scene: change(this.state.scene) });
      } catch (error) {
        this.problem(error.message);
        this.draw(); // a control that was refused shows again what holds
      }
    }

    select(n, focus = false) {
      this.picked = n;
      this.draw();
      this.showPicked();
      if (focus) this.parts.handles.children[n].focus({ preventScroll: true });
    }

    dress(part, word) {
      this.edit(scene => {
        if (part !== 'category') return tabletop().changed(scene, this.picked, { [part]: word });
        const { thing, picked } = this;
        const sign = word === 'sign';
        const { sizes } = globalThis.whatwhereWorld;
        const free = scene.things.map((each, n) =>
          each.support === picked || n === picked // what it held stands on the ground
            ? { ...each, support: null, place: null, order: each.y }
            : each,
        );
        return tabletop().changed({ ...scene, things: free }, picked, {
          category: word,
          text: sign ? 'ch' : null,
          colour: sign ? null : (thing.colour ?? 'red'),
          texture: sign ? null : (thing.texture ?? 'plain'),
          extent: sign
            ? sizes.sign
            : thing.category === 'sign'
              ? tabletop().extentAt(word, thing.y)
              : thing.extent,
        });
      });
    }

    // "on 2", "under 2", or the ground.
    stand(place) {
      const [how, n] = place.split(' ');
      this.edit(scene =>
        n
          ? tabletop().put(scene, this.picked, Number(n), how)
          : tabletop().moved(scene, this.picked, this.thing.x, Math.min(this.thing.y + 20, 140)),
      );
    }

    remove() {
      if (!this.thing) return;
      const inside = this.parts.handles.contains(document.activeElement);
      this.edit(scene => tabletop().removed(scene, this.picked));
      if (inside && this.thing) this.select(this.picked, true); // the focus goes on to another thing
    }

    add() {
      const category = this.parts.add.value;
      const { things } = this.state.scene;
      const { words } = globalThis.whatwhereWorld;
      this.parts.add.value = '';
      if (!category) return;
      // where there is most room, and in a colour and a texture that are its own
      const rooms = [30, 72, 114].flatMap(x => [70, 100, 132].map(y => ({ x, y })));
      const room = ({ x, y }) =>
        Math.min(200, ...things.map(thing => Math.hypot(x - thing.x, y - thing.y)));
      const place = rooms.reduce((best, each) => (room(each) > room(best) ? each : best));
      const unused = part =>
        words[part].find(word => things.every(thing => thing[part] !== word)) ?? words[part][0];
      const dress =
        category === 'sign'
          ? { text: 'ch' }
          : { colour: unused('colour'), texture: unused('texture') };
      this.edit(scene => tabletop().added(scene, { category, ...place, ...dress }));
      if (this.state.scene.things.length > things.length) this.select(things.length);
    }

    // -- mouse, touch and keys on the picture ------------------------------------------------

    listen(stage) {
      const at = event => {
        const { left, top, width } = stage.getBoundingClientRect();
        const { SIZE } = tabletop();
        return [((event.clientX - left) * SIZE) / width, ((event.clientY - top) * SIZE) / width];
      };
      const hit = (event, reach) =>
        tabletop().thingAt(this.drawn.owner, ...at(event).map(Math.floor), reach);
      let drag = null;
      // A finger on a thing drags it, one on the ground scrolls the page.
      stage.addEventListener(
        'touchstart',
        event => {
          if (event.touches.length === 1 && hit(event.touches[0], FINGER) >= 0)
            event.preventDefault();
        },
        { passive: false },
      );
      const point = event => {
        this.pointed = at(event);
        this.drawPatch();
      };
      stage.addEventListener('pointerdown', event => {
        point(event);
        this.choosePatch();
        const n =
          event.button || !event.isPrimary
            ? -1
            : hit(event, event.pointerType === 'mouse' ? 1 : FINGER);
        if (n < 0) return;
        event.preventDefault();
        this.select(n, true);
        const [x, y] = at(event);
        drag = { n, dx: this.thing.x - x, dy: this.thing.y - y, moved: false };
        stage.setPointerCapture(event.pointerId);
      });
      stage.addEventListener('pointermove', event => {
        point(event);
        if (!drag) {
          stage.style.cursor = hit(event, 1) >= 0 ? 'grab' : '';
          return;
        }
        // one picture for each that the screen shows
        const [x, y] = at(event);
        const { n, dx, dy } = drag;
        const wait = drag.to;
        drag.to = [x + dx, y + dy];
        stage.style.cursor = 'grabbing';
        const held = drag;
        if (!wait)
          requestAnimationFrame(() => {
            const [u, v] = held.to;
            const { things } = this.state.scene;
            held.to = null;
            // what only trembles stays on its stand
            if (things[n] && (held.moved ||= Math.hypot(u - things[n].x, v - things[n].y) >= 1)) {
              this.busy = drag === held;
              this.edit(scene => tabletop().moved(scene, n, u, v));
            }
          });
      });
      const end = () => {
        const moved = drag?.moved;
        drag = null;
        this.busy = false;
        stage.style.cursor = '';
        if (moved) this.request(); // what has waited
      };
      stage.addEventListener('pointerup', end);
      stage.addEventListener('pointercancel', end);
      stage.addEventListener('keydown', event => {
        const n = [...this.parts.handles.children].indexOf(event.target);
        const step = KEYS[event.key];
        if (n < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
        this.picked = n;
        const { x, y, extent } = this.thing;
        const stride = event.shiftKey ? STRIDE : 1;
        const grow = { '+': GROW, '=': GROW, '-': -GROW, '−': -GROW }[event.key];
        if (step)
          this.edit(scene =>
            tabletop().moved(scene, n, x + stride * step[0], y + stride * step[1]),
          );
        else if (grow) this.edit(scene => tabletop().resized(scene, n, extent + grow));
        else if (event.key === 'Delete' || event.key === 'Backspace') this.remove();
        else return;
        event.preventDefault();
        event.stopPropagation(); // the page has arrow keys of its own
      });
    }

    // -- the model ----------------------------------------------------------------------------

    async request() {
      const { name } = this.state;
      let model;
      try {
        model = await reader(this.load, name);
      } catch (error) {
        this.model = null; // its maps, if there are any, are of another model
        this.parts.says.textContent = '';
        return this.problem(error.message);
      }
      const { state } = this;
      if (state.name !== name) return; // another was chosen meanwhile
      this.model = model;
      if (!state.checked) this.check(state, model);
      this.drawReading();
      const trial = await this.trial();
      if (this.state !== state) return;
      // a depth that is only looked at asks for nothing: all depths of a picture are sent
      const wish = [this.turn, this.asked, Boolean(trial?.series)].join();
      if (wish === this.wished) return;
      this.wished = wish;
      const { turn, picture, asked } = this;
      const { scene, depth, layer, lens, question } = state;
      this.scenes.set(turn, {
        turn,
        scene,
        model,
        owner: this.drawn.owner,
        rgb: this.drawn.rgb,
        about: this.about,
        apart: trial?.apart,
      });
      worker.postMessage({
        figure: this.id,
        turn,
        picture,
        name,
        pixels: this.drawn.rgb,
        layer,
        depth,
        lens,
        question,
        asked,
        trial,
      });
      clearTimeout(this.patience);
      this.patience = setTimeout(() => {
        if (!document.hidden)
          this.problem(
            'The model has not answered for half a minute. If it stays so, load the page again: the address holds the scene.',
          );
      }, PATIENCE);
    }

    sayOfTrial(sentence) {
      const { trialProblem } = this.parts;
      trialProblem.hidden = !sentence;
      if (trialProblem.textContent !== sentence) trialProblem.textContent = sentence;
    }

    // What the experiment asks of the model, null where there is none or where it cannot be done:
    // then a sentence says why.
    async trial() {
      const { state, parts } = this;
      const { experiment, scene, name } = state;
      const { all, pairOf, controls } = experiments();
      const say = sentence => this.sayOfTrial(sentence);
      const one = all[experiment];
      parts.plain.closest('label').hidden =
        !one || ['runs', 'relation', 'attention'].includes(experiment);
      if (one?.notes) await this.load(name + '_notes.js').catch(error => say(error.message));
      if (this.state !== state) return null;
      const kind = [experiment, name].join();
      if (this.controlled !== kind) {
        this.controlled = kind;
        this.found = {};
        parts.controls.replaceChildren();
        parts.about.textContent = one?.about ?? '';
        parts.trialTitle.textContent = one?.title ?? 'Experiment';
        this.shown = null;
        if (one) {
          this.shown = controls(experiment, this.model, (key, text) =>
            this.act({ settings: { ...this.state.settings, [key]: text } }),
          );
          parts.controls.append(...this.shown.elements);
        }
      }
      this.about = null;
      if (!one) return (say(''), this.drawTrial(), null);
      const { layer, lens, question, settings } = state;
      const pair = pairOf(scene, settings);
      const { owner, rgb } = this.drawn;
      const about = {
        scene,
        owner,
        rgb,
        model: this.model,
        notes: globalThis.whatwhereNotes?.[name],
        settings,
        pair,
        layer,
        lens,
        question,
      };
      parts.plain.checked = state.plain;
      this.shown.show(about);
      say('');
      try {
        if (one.models && !one.models.includes(name))
          throw new Error(
            `This needs ${one.models.join(' or ')}: ${name} has a table of places and no frequencies.`,
          );
        if (one.pair && !pair) throw new Error('This needs two things in the picture: add one.');
        if (one.notes && !about.notes)
          throw new Error(`What ${name} has learnt of relations could not be loaded.`);
        const trial = one.trial(about, { busy: this.busy });
        this.about = about;
        return { ...trial, plain: state.plain };
      } catch (error) {
        say(error.message);
        parts.result.replaceChildren();
        return null;
      }
    }

    // What came of the experiment, as far as it is known.
    drawTrial() {
      const { about, apart } = this.read ?? {};
      const { experiment } = this.state;
      const one = experiments().all[experiment];
      this.drawVeil();
      this.parts.result.replaceChildren(
        ...(one && about && this.about ? one.draw(about, { ...this.found, apart }) : []),
      );
    }

    // What the Worker says. Maps of an older picture are shown too: while a thing is dragged there
    // is always a newer one.
    hear({
      turn,
      map,
      asked,
      answer,
      chances,
      changed,
      vectors,
      groups,
      looks,
      series,
      said,
      impossible,
      problem,
    }) {
      clearTimeout(this.patience);
      if (turn === this.read?.turn && (vectors || groups || looks || said)) {
        if (vectors) this.found.vectors = vectors;
        if (looks) this.found.looks = looks;
        if (groups) this.found.groups = groups;
        if (said) (this.found.series ||= [])[series] = said;
        this.drawTrial();
        if (groups) this.drawRuns();
      } else if (map) {
        if (turn < (this.read?.turn ?? 0)) return;
        if (turn !== this.read?.turn) {
          this.read = this.scenes.get(turn);
          this.maps = new Map();
          this.found = {};
          this.drawTrial();
          for (const old of this.scenes.keys()) if (old < turn) this.scenes.delete(old);
        }
        this.maps.set(map.depth, map);
        if (map.depth === this.state.depth) this.drawWords();
        else this.drawNames();
      } else if (asked !== undefined) {
        if (asked === this.asked) this.drawAnswer(answer, chances, problem, this.about && changed);
      } else if (impossible && turn === this.turn) this.sayOfTrial(impossible);
      else if (problem) this.problem(problem);
    }

    // -- what is seen -------------------------------------------------------------------------

    draw() {
      const {
        parts,
        state: { scene, name, question },
        thing,
      } = this;
      const { SIZE, box } = tabletop();
      const { rgb } = this.drawn;
      const pixels = new ImageData(SIZE, SIZE);
      for (let from = 0, to = 0; from < rgb.length; to++) {
        for (let k = 0; k < 3; k++) pixels.data[to++] = rgb[from++];
        pixels.data[to] = 255;
      }
      parts.canvas.getContext('2d').putImageData(pixels, 0, 0);
      parts.canvas.setAttribute('aria-label', described(scene));
      parts.words.classList.toggle('ww-stale', this.read?.turn !== this.turn);

      const { handles } = parts;
      while (handles.children.length > scene.things.length) handles.lastChild.remove();
      while (handles.children.length < scene.things.length) {
        const handle = make('button', {
          type: 'button',
          'aria-describedby': this.id + '-keys',
          'data-lm-suppress-shortcuts': '',
        });
        handle.addEventListener('focus', () => {
          const n = [...handles.children].indexOf(handle);
          if (n !== this.picked) this.select(n);
        });
        handles.append(handle);
      }
      scene.things.forEach((each, n) => {
        const [x0, y0, x1, y1] = box(each);
        const part = length => (100 * length) / SIZE + '%';
        const handle = handles.children[n];
        Object.assign(handle.style, {
          left: part(x0),
          top: part(y0),
          width: part(x1 - x0),
          height: part(y1 - y0),
        });
        handle.setAttribute('aria-label', `${called(each)}, ${where(each)}`);
        handle.setAttribute('aria-pressed', n === this.picked);
      });

      const { words, stands, portable, most } = globalThis.whatwhereWorld;
      const taken = scene.things.map(each => each.category);
      const free = words.category.filter(word => !taken.includes(word));
      choose(
        parts.which,
        scene.things.map((_, n) => n),
        this.picked,
        n => called(scene.things[n]),
      );
      const room = taken.length < most;
      choose(
        parts.add,
        ['', ...(room ? free : [])],
        '',
        word => word || (room ? 'Add …' : `${most} things at most`),
      );
      const isSign = thing?.category === 'sign';
      const row = key => parts[key].closest('label');
      parts.remove.disabled = !thing;
      for (const key of ['which', 'category', 'colour', 'texture', 'size', 'place', 'letter0'])
        row(key).hidden = !thing;
      if (thing) {
        choose(
          parts.category,
          words.category.filter(word => word === thing.category || !taken.includes(word)),
          thing.category,
        );
        for (const part of ['colour', 'texture']) {
          row(part).hidden = isSign;
          if (!isSign) choose(parts[part], words[part], thing[part]);
        }
        row('letter0').hidden = !isSign;
        if (isSign)
          [...thing.text].forEach((letter, n) =>
            choose(parts['letter' + n], words.character, letter),
          );
        row('size').hidden = isSign;
        parts.size.value = thing.extent;
        parts.sizeSaid.textContent = `${thing.extent} px`;
        const on = scene.things.flatMap((each, n) =>
          n !== this.picked && stands.includes(each.category) ? [`on ${n}`, `under ${n}`] : [],
        );
        row('place').hidden = !on.length || !portable.includes(thing.category);
        choose(
          parts.place,
          ['ground', ...on],
          thing.place ? `${thing.place} ${thing.support}` : 'ground',
          word => {
            const [how, n] = word.split(' ');
            return n ? `${how} the ${scene.things[n].category}` : 'on the ground';
          },
        );
      }
      choose(parts.ground, words.background, scene.background);
      parts.light.value = scene.light;
      parts.lightSaid.textContent = scene.light.toFixed(2);
      choose(parts.model, this.models, name);
      choose(parts.experiment, this.offered, this.state.experiment, one =>
        one ? experiments().all[one].title : 'none',
      );
      choose(parts.lens, LENSES, this.state.lens, lens => `${lens} lens`);
      parts.question.readOnly = Boolean(experiments().all[this.state.experiment]?.pair);
      if (document.activeElement !== parts.question || parts.question.readOnly)
        parts.question.value = question;
      this.drawReading();
    }

    drawReading() {
      const {
        parts,
        model,
        state: { depth, layer },
      } = this;
      const set = (key, value, highest) => {
        parts[key].disabled = !model;
        parts[key].max = highest;
        parts[key].value = value;
        parts[key + 'Said'].textContent = model ? `${value} of ${highest}` : '';
        parts[key].setAttribute('aria-valuetext', `${value} of ${highest}`);
      };
      set('depth', depth, model?.vision.depth ?? 0);
      set('layer', layer, model?.language.layers ?? 0);
      this.drawWords();
    }

    // The mark of a word on a patch: 'right' where it is true of what covers half of the patch or
    // more, 'wrong' where it is true of nothing that shows there at all, '' for what is between,
    // and for words that name no object, attribute, letter or ground.
    verdict(word, whose, shown, scene) {
      const kinds = globalThis.whatwhereWorld.words;
      if (!Object.values(kinds).some(words => words.includes(word))) return '';
      const truth = n => (n < 0 ? [scene.background] : tabletop().words(scene.things[n]));
      if (whose > -2 && truth(whose).includes(word)) return 'right';
      return [...shown].some(n => truth(n).includes(word)) ? '' : 'wrong';
    }

    drawWords() {
      const map = this.maps.get(this.state.depth);
      const { words } = this.parts;
      words.classList.toggle('ww-stale', this.read?.turn !== this.turn);
      const other = map && (map.layer !== this.state.layer || map.lens !== this.state.lens);
      if (!map || !this.model || (other && this.read.turn === this.turn)) return;
      const { rows, columns, top, ids } = map;
      const { scene, owner, model } = this.read;
      if (words.children.length !== rows || words.firstChild.children.length !== columns) {
        this.parts.stage.style.setProperty('--columns', columns);
        this.showPicked();
        words.replaceChildren(
          ...Array.from({ length: rows }, () =>
            make(
              'div',
              { role: 'row' },
              ...Array.from({ length: columns }, () => make('div', { role: 'cell' }, make('span'))),
            ),
          ),
        );
      }
      const whose = tabletop().owners(owner, rows, columns);
      const shown = showing(owner, rows, columns);
      const cells = words.querySelectorAll('span');
      const said = model.text.words;
      const tally = { right: 0, covered: 0 };
      const counts = new Map();
      cells.forEach((cell, n) => {
        const word = said[ids[n * top]];
        const verdict = this.verdict(word, whose[n], shown[n], scene);
        if (cell.textContent !== word) cell.textContent = word;
        cell.className = verdict && 'ww-' + verdict;
        cell.style.setProperty('--n', Math.max(word.length, 5));
        // for the eye a border, for a screen reader a word
        cell.parentNode.setAttribute('aria-label', verdict ? `${word}, ${verdict}` : word);
        tally.covered += whose[n] >= 0;
        tally.right += whose[n] >= 0 && verdict === 'right';
        counts.set(word, (counts.get(word) ?? 0) + 1);
      });
      this.summary = { tally, counts };
      this.drawNames();
      this.drawRuns();
      this.drawPatch();
      if (!this.everTold) this.settle();
    }

    // Where the picture is wider than its window, scroll it so that the thing is in sight.
    showPicked() {
      const { window, handles } = this.parts;
      const handle = handles.children[this.picked];
      if (!handle || window.scrollWidth <= window.clientWidth) return;
      const { offsetLeft: left, offsetWidth: width } = handle;
      const { scrollLeft: from, clientWidth: seen } = window;
      if (left < from || left + width > from + seen) window.scrollLeft = left + (width - seen) / 2;
    }

    // What the thing is named at each depth: the commonest category that its patches say.
    drawNames() {
      const { read, model, picked } = this;
      const { names } = this.parts;
      const thing = read?.scene.things[picked];
      const any = this.maps.get(this.state.depth);
      names.hidden = !thing || read.model !== model;
      if (names.hidden || !any) return;
      const title = `What the ${called(thing)} is named at each ViT depth (–: nothing)`;
      const depths = model.vision.depth + 1;
      if (names.childElementCount !== depths + 1) {
        names.replaceChildren(
          make('span', {}),
          ...Array.from({ length: depths }, (_, depth) =>
            make(
              'button',
              { type: 'button', onclick: () => this.act({ depth }) },
              make('small', {}, String(depth)),
              make('bdi', {}),
            ),
          ),
        );
        names.style.setProperty('--depths', depths);
      }
      const [said, ...buttons] = names.children;
      if (said.textContent !== `${title}:`) said.textContent = `${title}:`;
      names.setAttribute('aria-label', title);
      const categories = globalThis.whatwhereWorld.words.category;
      const own = experiments().patchesOf(read.owner, picked, any.columns);
      buttons.forEach((button, depth) => {
        const map = this.maps.get(depth);
        const counts = new Map();
        for (const patch of map ? own : []) {
          const word = read.model.text.words[map.ids[patch * map.top]];
          if (categories.includes(word)) counts.set(word, (counts.get(word) ?? 0) + 1);
        }
        const [name] = [...counts].reduce(
          (best, each) => (each[1] > best[1] ? each : best),
          ['', 0],
        );
        button.lastChild.textContent = name || '–';
        button.className = !name ? '' : name === thing.category ? 'ww-right' : 'ww-wrong';
        button.setAttribute('aria-label', `depth ${depth}: ${name || 'nothing'}`);
        button.setAttribute('aria-pressed', depth === this.state.depth);
      });
    }

    // Where a token looks: the darker a patch, the less it collects from there.
    drawVeil() {
      const { looks } = this.found;
      const { veil } = this.parts;
      const { SIZE } = tabletop();
      veil.hidden = !looks;
      if (!looks) return;
      const { weights, columns } = looks;
      const cell = SIZE / columns;
      const most = Math.max(...weights, 1e-9);
      const draw = veil.getContext('2d');
      draw.clearRect(0, 0, SIZE, SIZE);
      weights.forEach((weight, n) => {
        draw.fillStyle = `rgba(10, 12, 16, ${0.88 * (1 - weight / most)})`;
        draw.fillRect((n % columns) * cell, Math.floor(n / columns) * cell, cell, cell);
      });
    }

    // Runs of words that go on as one: an outline around each, and what is dropped faint.
    drawRuns() {
      const { groups } = this.found;
      const columns = this.maps.get(this.state.depth)?.columns;
      [...this.parts.words.querySelectorAll('[role=cell]')].forEach((cell, n) => {
        const first = groups && (n % columns === 0 || groups[n] !== groups[n - 1]);
        const last = groups && ((n + 1) % columns === 0 || groups[n] !== groups[n + 1]);
        cell.className = !groups
          ? ''
          : groups[n] < 0
            ? 'ww-dropped'
            : ['ww-run', first && 'ww-first', last && 'ww-last'].filter(Boolean).join(' ');
      });
    }

    // The best words of the patch at which the pointer was last.
    drawPatch() {
      const map = this.maps.get(this.state.depth);
      if (!map || !this.pointed || !this.read.model) return;
      const { rows, columns, top, ids, probabilities, lens } = map;
      const { SIZE } = tabletop();
      const [column, row] = this.pointed.map((at, axis) =>
        Math.floor((at * [columns, rows][axis]) / SIZE),
      );
      if (row < 0 || column < 0 || row >= rows || column >= columns) return;
      const ranks = [0, 1, 2].map(k => (row * columns + column) * top + k);
      const score = value => (lens === 'embedding' ? `cosine ${value.toFixed(2)}` : percent(value));
      this.parts.patch.replaceChildren(
        `Row ${row}, column ${column}: `,
        ...ranks.flatMap((at, k) => [
          k ? ', ' : '',
          island(this.read.model.text.words[ids[at]]),
          ' ' + score(probabilities[at]),
        ]),
      );
    }

    // The answer and the likeliest first words; with an experiment (changed) what becomes of both.
    drawAnswer(answer, chances, problem, changed) {
      const { answer: said, bars } = this.parts;
      const named = text => (text ? island(text) : 'nothing');
      const pieces = problem
        ? [problem]
        : !changed
          ? [answer ? island(answer) : 'The answer is empty.']
          : ['as it is: ', named(answer), make('br'), 'changed: ', named(changed.answer)];
      const text = make('div', {}, ...pieces);
      // only what has changed is said again
      if (said.innerHTML !== text.innerHTML) said.replaceChildren(...text.childNodes);
      said.classList.toggle('ww-problem', Boolean(problem));
      said.classList.toggle('ww-turned', Boolean(changed) && changed.answer !== answer);
      const rows = new Map((chances ?? []).map(([word, p]) => [word, [p]]));
      for (const [word, p] of changed?.chances ?? []) rows.set(word, [rows.get(word)?.[0] ?? 0, p]);
      const most = row => Math.max(row[0], row[1] ?? 0);
      const best = [...rows].sort((a, b) => most(b[1]) - most(a[1])).slice(0, 5);
      const bar = (p, mark) =>
        make('i', { class: mark }, make('b', { style: `width:${(100 * p).toFixed(1)}%` }));
      bars.replaceChildren(
        ...best.map(([word, [before, after]]) =>
          make(
            'div',
            {},
            island(word),
            changed
              ? make('span', {}, bar(before, 'ww-before'), bar(after ?? 0, ''))
              : bar(before, ''),
            make('output', {}, percent(changed ? (after ?? 0) : before)),
          ),
        ),
      );
    }

    // After a change, when nothing else has changed for a while: the sentence, the link, the code.
    settle() {
      const { parts, state, summary, model } = this;
      if (!model || !summary || this.read?.turn !== this.turn) {
        clearTimeout(this.later);
        if (parts.problem.hidden) this.later = setTimeout(() => this.settle(), QUIET);
        return;
      }
      this.everTold = true;
      if (parts.handles.contains(document.activeElement)) {
        const { x, y, extent } = this.thing;
        parts.heard.textContent = `${called(this.thing)} ${where(this.thing)}: column ${x}, row ${y}, ${extent} pixels large.`;
      }
      const {
        tally: { right, covered },
        counts,
      } = summary;
      const common = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 4);
      parts.says.replaceChildren(
        `ViT depth ${state.depth} of ${model.vision.depth}, LM layer ${state.layer}${state.lens === LENSES[0] ? '' : `, ${state.lens} lens`}. Of ${covered} patches that a thing ` +
          `covers, ${right} say a word of that thing. Most common: `,
        ...common.flatMap(([word, n], k) => [k ? ', ' : '', island(word), ` (${n})`]),
        '.',
      );
      parts.code.value = code(
        state,
        this.about && experiments().all[state.experiment].code(this.about),
      );
      const hash = toAddress(this.id, state);
      parts.link.value = location.href.split('#')[0] + hash;
      if (this.touched) {
        this.written = hash.slice(this.id.length + 2);
        try {
          history.replaceState(history.state, '', hash);
        } catch {
          /* some pages may not; the link is in its box */
        }
      }
    }

    // Sentences that stay until something changes.
    notice(sentences) {
      this.notices.push(...sentences);
      if (this.notices.length) this.problem(this.notices.join(' '));
    }

    problem(sentence) {
      const { problem } = this.parts ?? {};
      if (!problem) return;
      problem.textContent = sentence;
      problem.hidden = !sentence;
    }
  }

  globalThis.whatwhereFigure = Figure;
})();
