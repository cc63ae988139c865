/* An organism at work in a page: it sees pictures, says what their patches decode to, and answers.

       const organism = whatwhereLive.open('toy-qwen2vl');  // once weights.export's script is there
       for await (const map of organism.tokenMaps(pixels)) draw(map.depth, map.ids);
       const sight = organism.see(pixels);
       organism.answer(sight, 'is there a mug ?');          // 'yes'
       organism.chances(sight, 'is there a mug ?', ['yes', 'no']);

   All options are plain values, so that a message can carry them to a Worker. What an experiment
   changes before the visual tokens is told to Vision.states, what it changes in them to `sight`. */
(function (live) {
  'use strict';
  const { checkRange, halves, Language, largest, settle, Vision } = live;
  const MOST = 40; // words of an answer

  class Organism {
    /* model: what weights.py wrote. */
    constructor(model) {
      const weights = layersOf(model);
      Object.assign(this, { name: model.name, text: model.text, words: model.text.words });
      this.vision = new Vision(model, weights);
      this.language = new Language(model, weights);
      this.ids = new Map(this.words.map((word, id) => [word, id]));
      this.special = new Set(this.text.special);
    }

    /* -- pictures -------------------------------------------------------------------------- */

    /* All states of the ViT, from depth 0 to the last: a list. options: as for Vision.states. */
    states(pixels, options = {}) {
      return Array.from(this.vision.states(pixels, options), each => each.state);
    }

    /* A picture as the language model is given it: a sight, to be asked about.

       depth: after how many blocks the ViT is cut, the last by default; else as for Vision.states
       and `sight`. */
    see(pixels, options = {}) {
      const { depth = this.vision.depth } = options;
      checkRange('depth', depth, this.vision.depth);
      for (const each of this.vision.states(pixels, options)) {
        if (each.depth === depth) return this.sight(this.vision.connect(each.state), options);
      }
    }

    /* A sight of visual tokens (tokens, width): {tokens, stand, positions, bias, next}, where
       `stand` says which visual token each row is or takes the place of, `bias` what is added to
       the attention it gets, and `next` the position of the word that follows.

       added: [{tokens, vector}, …], a vector (width,) for some visual tokens, or for all of them.
       groups: {of, pool, positions, lengths}, where of (tokens,) are whole numbers: tokens of one
          number go on as one, those below zero are dropped. It goes on as their 'mean' (the
          default), at the place of the one nearest their middle, or as the 'first'. Positions are
          'kept' or 'renumbered'; lengths are 'dropped', or 'kept': log n is added to the
          attention to what stands for n. All as in `compress.compressed`. */
    sight(visual, { added, groups } = {}) {
      const { language, vision } = this;
      const { width } = language;
      const tokens = visual.slice();
      for (const { tokens: chosen, vector } of added || []) {
        if (vector.length !== width)
          throw new Error(`A vector has ${width} numbers here, not ${vector.length}.`);
        for (const n of chosen || Array(vision.tokens).keys()) {
          checkRange('visual token', n, vision.tokens - 1);
          for (let i = 0; i < width; i++) tokens[n * width + i] += vector[i];
        }
      }
      const first = this.text.before.length;
      const spatial = language.nAxes > 1;
      if (!groups) {
        const stand = [...Array(vision.tokens).keys()];
        return { tokens, stand, bias: null, ...this.placed(stand, first, spatial) };
      }
      const { pool = 'mean', positions = 'kept', lengths = 'dropped' } = groups;
      const merged = merge(tokens, width, groups.of, vision.grid, pool);
      const { stand } = merged;
      const bias = lengths === 'kept' ? Float32Array.from(merged.sizes, Math.log) : null;
      const placed =
        positions === 'kept'
          ? this.placed(stand, first, spatial)
          : { positions: language.counted(stand.length, first), next: first + stand.length };
      return { tokens: merged.tokens, stand, bias, ...placed };
    }

    /* Positions of visual tokens, and of what follows the picture: with M-RoPE time, row and
       column, else their number. */
    placed(stand, first, spatial) {
      const { grid, tokens } = this.vision;
      if (!spatial)
        return { positions: Float64Array.from(stand, n => first + n), next: first + tokens };
      const positions = stand.flatMap(n => [
        first,
        first + Math.floor(n / grid),
        first + (n % grid),
      ]);
      return { positions: Float64Array.from(positions), next: first + grid };
    }

    /* -- the lens -------------------------------------------------------------------------- */

    /* What the patches decode to, one ViT depth after another: {depth, layer, rows, columns, top,
       ids, probabilities, sight}; ids and probabilities are (visual tokens, top), in raster order,
       or where tokens are merged (`sight.stand`, top).

       Between two depths a page can draw and listen; who has seen enough leaves the loop.

       layer: the language model's layer that is read, by default the organism's lens layer.
       depths: which, all by default. top: how many words. Else as for Vision.states and `sight`. */
    async *tokenMaps(pixels, options = {}) {
      const { vision, language } = this;
      const { depths, layer = language.lensLayer, top = 5 } = options;
      checkRange('layer', layer, language.layers);
      checkRange('number of words', top, this.words.length);
      for (const depth of depths || []) checkRange('depth', depth, vision.depth);
      const last = depths ? Math.max(...depths) : vision.depth;
      for (const { depth, state } of vision.states(pixels, options)) {
        if (!depths || depths.includes(depth)) {
          const sight = this.sight(vision.connect(state), options);
          const { ids, probabilities } = this.lens(sight, layer, top);
          yield {
            depth,
            layer,
            rows: vision.grid,
            columns: vision.grid,
            top,
            ids,
            probabilities,
            sight,
          };
        }
        if (depth === last) return;
        await pause();
      }
    }

    /* {ids, probabilities} of one sight, each (its tokens, top): what a lens reads at a layer,
       'logit' or 'embedding'. */
    lens(sight, layer = this.language.lensLayer, top = 5, kind = 'logit') {
      return this.language.lens(this.seenAt(sight, layer), top, kind);
    }

    /* (its tokens, width) states of a sight at a layer. Nothing after the picture is run, since
       nothing there changes what it holds. */
    seenAt(sight, layer) {
      const { language, text } = this;
      if (!layer) return sight.tokens;
      return this.begun(sight, layer).states[layer].subarray(text.before.length * language.width);
    }

    /* -- questions ------------------------------------------------------------------------- */

    /* The answer, decoded greedily, in at most `most` words. */
    answer(sight, question, { most = MOST } = {}) {
      const { language } = this;
      const said = [];
      const asked = this.asked(sight, this.questionIds(question), most);
      const { context } = asked;
      let { probabilities, next } = asked;
      while (said.length < most) {
        const id = largest(probabilities);
        if (this.text.ends.includes(id)) break;
        said.push(id);
        const states = language.read(context, language.embed([id]), language.counted(1, next++));
        probabilities = language.probabilities(states[language.layers]);
      }
      return said
        .filter(id => !this.special.has(id))
        .map(id => this.words[id])
        .join(' ');
    }

    /* With what probability each word is the answer's first: a list. */
    chances(sight, question, words) {
      const ids = words.map(word => this.known(word));
      const { probabilities } = this.asked(sight, this.questionIds(question), 0);
      return ids.map(id => probabilities[id]);
    }

    /* States of the whole prompt at every layer, a list of (length, width), and where in it the
       visual tokens begin. */
    hidden(sight, question) {
      const { language, text } = this;
      const begun = this.begun(sight, language.layers);
      const { states } = this.asked(sight, this.questionIds(question), 0);
      return {
        first: text.before.length,
        states: begun.states.map((before, n) => joined(before, states[n])),
      };
    }

    /* A prompt up to the end of its picture: {context, states}, computed once for each sight. */
    begun(sight, layers) {
      const { language, text } = this;
      const { before } = text;
      const kept = remembered.get(sight);
      if (kept && kept.layers >= layers) return kept;
      const given = joined(language.embed(before), sight.tokens);
      const positions = [...language.counted(before.length, 0), ...sight.positions];
      const context = language.context(given.length / language.width);
      const bias = sight.bias && [...before.map(() => 0), ...sight.bias];
      const states = language.read(context, given, positions, { layers, bias });
      const made = { context, states, layers };
      remembered.set(sight, made);
      return made;
    }

    /* The rest of the prompt, read: its states, and (vocabulary,) probabilities of the first word
       of an answer, for which there is room in the context, at position `next`. */
    asked(sight, question, room) {
      const { language, text } = this;
      const ids = [...text.between, ...question, ...text.after];
      const context = language.fork(this.begun(sight, language.layers).context, ids.length + room);
      const states = language.read(
        context,
        language.embed(ids),
        language.counted(ids.length, sight.next),
      );
      const last = states[language.layers].subarray(-language.width);
      return {
        context,
        states,
        probabilities: language.probabilities(last),
        next: sight.next + ids.length,
      };
    }

    /* -- words ----------------------------------------------------------------------------- */

    /* The ids of a question. Throws an Error that names the first word that is not known. */
    questionIds(question) {
      let text = String(question).toLowerCase();
      for (const [from, to] of this.text.replaced) text = text.replaceAll(from, to);
      const pieces = text.match(/[\p{L}\p{M}\p{N}_]+|[^\p{L}\p{M}\p{N}_\s]+/gu);
      if (!pieces) throw new Error('A prompt is a question in words, and this one is empty.');
      return pieces.map(piece => this.known(piece));
    }

    known(word) {
      const id = this.ids.get(word);
      if (id === undefined || this.special.has(id)) {
        throw new Error(
          `${this.name} does not know “${word}”: it has ${this.words.length} words, ` +
            'those of its small world.',
        );
      }
      return id;
    }
  }

  const remembered = new WeakMap(); // {a sight: what was read of it}; a sight is never changed

  /* -- fewer tokens ---------------------------------------------------------------------------- */

  /* {tokens, stand, sizes}: what goes on of tokens (n, width), in raster order of whose place it
     takes. */
  function merge(tokens, width, of, columns, pool) {
    if (of.length !== tokens.length / width) {
      throw new Error(
        `Groups are a whole number for each of ${tokens.length / width} visual tokens, not ${of.length}.`,
      );
    }
    const members = new Map();
    Array.from(of).forEach((group, n) => {
      if (group >= 0) members.set(group, [...(members.get(group) || []), n]);
    });
    if (!members.size) throw new Error('One visual token at least is kept.');
    const made = [...members.values()]
      .map(group => {
        const token = new Float32Array(width);
        for (const n of pool === 'mean' ? group : [group[0]]) {
          for (let i = 0; i < width; i++)
            token[i] += tokens[n * width + i] / (pool === 'mean' ? group.length : 1);
        }
        return {
          token,
          stand: pool === 'mean' ? middle(group, columns) : group[0],
          size: group.length,
        };
      })
      .sort((a, b) => a.stand - b.stand);
    return {
      tokens: made.map(each => each.token).reduce(joined),
      stand: made.map(each => each.stand),
      sizes: made.map(each => each.size),
    };
  }

  /* The member that is nearest the middle of its group; of equals the first. */
  function middle(group, columns) {
    const row = n => Math.floor(n / columns);
    const column = n => n % columns;
    const mean = axis => group.reduce((sum, n) => sum + axis(n), 0) / group.length;
    const y = mean(row);
    const x = mean(column);
    const cost = n => Math.round(1e6 * ((row(n) - y) ** 2 + (column(n) - x) ** 2));
    return group.reduce((best, n) => (cost(n) < cost(best) ? n : best));
  }

  /* -- small things ---------------------------------------------------------------------------- */

  function joined(a, b) {
    const out = new Float32Array(a.length + b.length);
    out.set(a);
    out.set(b, a.length);
    return out;
  }

  /* So that a page can draw what it was given, and hear what its reader does. */
  function pause() {
    return new Promise(resolve => setTimeout(resolve, 0));
  }

  const TABLES = new Set(['vision.patch', 'vision.class', 'vision.places', 'language.words']);

  /* A function that gives a layer by its name, {weight, bias, shape}, and for one that is a product
     what `settle` makes of it; undefined where the model has none. */
  function layersOf(model) {
    const all = halves(model.weights);
    const found = new Map();
    let at = 0;
    for (const [name, shape] of model.tensors) {
      const [, layer, part] = name.match(/(.*)\.(weight|bias)$/);
      const n = shape.reduce((a, b) => a * b);
      if (!found.has(layer)) found.set(layer, {});
      const into = found.get(layer);
      const values = all.slice(at, (at += n));
      if (part === 'bias') into.bias = values;
      else if (shape.length === 2 && !TABLES.has(layer))
        Object.assign(into, settle(values, ...shape));
      else Object.assign(into, { weight: values, shape });
    }
    return name => found.get(name);
  }

  const opened = new Map(); // their weights stay where products find them, so once is enough

  /* The organism of that name, whose script is loaded. */
  function open(name) {
    const models = globalThis.whatwhereModels || {};
    if (!models[name]) {
      throw new Error(
        `No model of the name “${name}” is loaded: its script comes first ` +
          `(there is ${Object.keys(models).join(', ') || 'none'}).`,
      );
    }
    if (!opened.has(name)) opened.set(name, new Organism(models[name]));
    return opened.get(name);
  }

  Object.assign(live, { open, Organism });
})((globalThis.whatwhereLive = globalThis.whatwhereLive || {}));
