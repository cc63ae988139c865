/* The models at work beside the page, which therefore never freezes: a Worker, made of the engine's
   text and this one.

   It is told {model: what weights.py wrote}, once for each model, and then {figure, turn, picture,
   name, pixels, layer, depth, lens, question, asked, trial} as often as its reader likes: `picture`
   counts pictures (and models), `turn` all that changes a map, `asked` questions. `trial` is an
   experiment, or null; all of its parts may be left out:

       change        what it changes, as for Organism.see
       plain         true: maps are of the model as it is
       runs          {method, same, lengths, positions}: runs of words go on as one token each
       place, things  of whose patches the mean states at a place are wanted
       looks         {place, head, from, row, column}: what a token collects from the patches
       series        [{key, pixels, question}, …]: more pictures, to be asked about with and without change

   It posts, each with figure and turn:

       {map: {depth, layer, lens, rows, columns, top, ids, probabilities}}     of `depth` first, then the rest
       {vectors: one for each of `things`}, {groups: a number for each token},
       {looks: {weights, columns, elsewhere}}
       {asked, answer, chances: [[word, probability], …], changed: {answer, chances} or null},
           or {asked, problem: a sentence}
       {series: which, said: [as it is, changed]}
       {impossible: a sentence}                              where an experiment cannot be done
       {problem: a sentence}                                 where a picture cannot be read

   The newest request of a figure wins. An older one is given up between two depths, but not before
   its first map is posted: else nothing would be read while a thing is dragged. */
(function () {
  'use strict';
  const TOP = 5; // words of a patch, and chances of an answer
  const newest = new Map(); // {figure: its request that waits}
  const seen = new Map(); // {figure: what was made of its picture}
  let busy = false;

  globalThis.onmessage = ({ data }) => {
    if (data.model) {
      globalThis.whatwhereModels = { ...globalThis.whatwhereModels, [data.model.name]: data.model };
      return;
    }
    newest.set(data.figure, data);
    if (!busy) work();
  };

  async function work() {
    busy = true;
    while (newest.size) {
      const [figure, request] = newest.entries().next().value;
      newest.delete(figure);
      try {
        await read(request);
      } catch (error) {
        postMessage({ figure, turn: request.turn, problem: error.message });
      }
    }
    busy = false;
  }

  // So that messages are heard.
  const pause = () => new Promise(resolve => setTimeout(resolve, 0));

  async function read(request) {
    const { figure, turn, picture, name, pixels, layer, depth, lens, question, trial } = request;
    const organism = whatwhereLive.open(name);
    const { vision } = organism;
    let known = seen.get(figure);
    if (known?.picture !== picture)
      seen.set(
        figure,
        (known = {
          picture,
          usual: reading(organism, pixels, {}),
          asked: new Map(),
          before: new Map(),
        }),
      );
    if (known.turn !== turn) {
      Object.assign(known, { turn, changed: known.usual, sent: new Set(), series: 0, wrong: '' });
      try {
        if (trial?.change) known.changed = reading(organism, pixels, trial.change);
      } catch (error) {
        known.wrong = error.message; // such as a head that is not there; the model as it is can be read
        postMessage({ figure, turn, impossible: error.message });
      }
    }
    const { usual, changed, sent, wrong } = known;
    const shown = trial?.plain ? usual : changed;
    const overtaken = () => newest.has(figure);

    for (const n of [depth, ...shown.states.keys()]) {
      if (sent.has(n)) continue;
      const map = {
        depth: n,
        layer,
        lens,
        rows: vision.grid,
        columns: vision.grid,
        top: TOP,
        ...organism.lens(shown.sight(n), layer, TOP, lens),
      };
      postMessage({ figure, turn, map });
      // what a thing's patches hold is drawn while it is dragged, so it does not wait for all
      // depths
      if (trial?.things && !sent.size)
        postMessage({ figure, turn, vectors: vectors(organism, usual, trial) });
      sent.add(n);
      await pause();
      if (overtaken()) return;
    }
    const last = usual.states.length - 1;
    let runs = null;
    try {
      if (trial?.looks)
        postMessage({
          figure,
          turn,
          looks: whatwhereLive.looks(
            organism,
            usual.states,
            usual.sight(last),
            question,
            trial.looks,
          ),
        });
      if (trial?.runs) {
        runs = compressed(organism, usual, trial.runs, layer, lens);
        postMessage({ figure, turn, groups: runs.groups.of });
      }
    } catch (error) {
      postMessage({ figure, turn, impossible: error.message }); // such as runs of which nothing is left
    }
    answers(request, organism, known, runs);
    await pause();
    for (const [k, one] of ((!wrong && trial?.series) || []).entries()) {
      if (overtaken()) return;
      if (k < known.series) continue;
      series(request, organism, known, k, one);
      await pause();
    }
  }

  // States of a picture, and its sights, which are made when they are asked for.
  function reading(organism, pixels, change) {
    const states = organism.states(pixels, change);
    const sights = [];
    return {
      states,
      sight: n => (sights[n] ||= organism.sight(organism.vision.connect(states[n]), change)),
    };
  }

  // The picture with its runs joined: {groups, sight}.
  function compressed(organism, { states, sight }, runs, layer, lens) {
    const last = states.length - 1;
    const words = organism.lens(sight(last), layer, TOP, lens);
    const of = whatwhereLive.runs(
      words,
      TOP,
      organism.vision.grid,
      organism.text.punctuation,
      runs,
    );
    const groups = { of, lengths: runs.lengths, positions: runs.positions };
    return { groups, sight: organism.sight(organism.vision.connect(states[last]), { groups }) };
  }

  const vectors = (organism, { states, sight }, { place, things }) =>
    whatwhereLive.thingVectors(organism, states, sight(states.length - 1), place, things);

  // The answer to a question, and the likeliest first words of one.
  function answered(organism, sight, question) {
    const { probabilities } = organism.asked(sight, organism.questionIds(question), 0);
    const best = [...probabilities.keys()]
      .sort((a, b) => probabilities[b] - probabilities[a])
      .slice(0, TOP);
    return {
      answer: organism.answer(sight, question),
      chances: best.map(id => [organism.words[id], probabilities[id]]),
    };
  }

  function answers({ figure, turn, question, asked, trial }, organism, known, runs) {
    if (!question) return;
    const { usual, changed } = known;
    const last = usual.states.length - 1;
    try {
      if (!known.asked.has(question))
        known.asked.set(question, answered(organism, usual.sight(last), question));
      const sight = runs ? runs.sight : trial?.change && !known.wrong && changed.sight(last);
      postMessage({
        figure,
        turn,
        asked,
        ...known.asked.get(question),
        changed: sight ? answered(organism, sight, question) : null,
      });
    } catch (error) {
      postMessage({ figure, turn, asked, problem: error.message }); // such as a word that is not known
    }
  }

  // One more picture, with and without the change: what each answers.
  function series({ figure, turn, trial }, organism, known, k, { key, pixels, question }) {
    const { before } = known;
    const said = change => organism.answer(organism.see(pixels, change), question);
    if (!before.has(key)) before.set(key, said({}));
    postMessage({ figure, turn, series: k, said: [before.get(key), said(trial.change ?? {})] });
    known.series = k + 1;
  }
})();
