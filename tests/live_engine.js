/* node live_engine.js FOLDER MODEL: what engine.js makes of pictures.bin, as asked for in asked.json
   and written to found.json; all of these lie in FOLDER beside MODEL.js. */
const fs = require('fs');
const path = require('path');
const [folder, name] = process.argv.slice(2);
for (const script of ['engine', name]) require(path.join(folder, script + '.js'));

const asked = JSON.parse(fs.readFileSync(path.join(folder, 'asked.json')));
const bytes = fs.readFileSync(path.join(folder, 'pictures.bin'));
const each = bytes.length / asked.pictures;
const pictures = Array.from({ length: asked.pictures }, (_, n) =>
  bytes.subarray(n * each, (n + 1) * each),
);
const organism = whatwhereLive.open(name);
const { vision } = organism;
const list = values => Array.from(values);

/* The sentence of an error, or what there was instead. */
const said = run => {
  try {
    return 'no error, but ' + run();
  } catch (error) {
    return error.message;
  }
};
const best = ({ ids, probabilities }, top) => ({
  ids: list(ids).filter((_, n) => n % top === 0),
  probabilities: list(probabilities).filter((_, n) => n % top === 0),
});

(async () => {
  const found = { maps: [], answers: [], chances: [], times: {} };
  // milliseconds of the processor, since other work may share it
  const clock = () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1000;
  };
  const note = (what, start) => (found.times[what] = found.times[what] || []).push(clock() - start);
  const timed = (what, run) => {
    const start = clock();
    const made = run();
    note(what, start);
    return made;
  };
  for (const pixels of pictures) {
    const states = timed('vision', () => organism.states(pixels));
    const sights = timed('connector', () =>
      states.map(state => organism.sight(vision.connect(state))),
    );
    found.maps.push(
      asked.layers.map(layer =>
        timed('lens at ' + layer, () =>
          sights.map(sight => best(organism.lens(sight, layer, 1), 1)),
        ),
      ),
    );
    const sight = organism.see(pixels);
    timed('prefix', () => organism.begun(sight, organism.language.layers));
    found.answers.push(
      asked.questions.map(question => timed('answer', () => organism.answer(sight, question))),
    );
    found.chances.push(
      asked.questions.map(question =>
        timed('chances', () => organism.chances(sight, question, asked.words)),
      ),
    );
  }

  const pixels = pictures[0];
  const steps = [];
  for await (const map of organism.tokenMaps(pixels, { depths: [0, 3], top: 3 })) {
    steps.push({ ...map, ids: list(map.ids), probabilities: list(map.probabilities) });
  }
  found.steps = steps;
  for (let run = 0; run < 5; run++) {
    const start = clock();
    for await (const map of organism.tokenMaps(pixels))
      if (map.depth === 0) note('first map', start);
    note('all maps', start);
  }

  // the same without WebAssembly
  found.fast = whatwhereLive.useFast();
  whatwhereLive.useFast(false);
  const plain = timed('plain see', () => organism.see(pixels));
  found.plain = {
    maps: asked.layers.map(layer => best(organism.lens(plain, layer, 1), 1)),
    chances: asked.questions.map(question => organism.chances(plain, question, asked.words)),
  };
  whatwhereLive.useFast(true);

  found.prepared = list(vision.prepare(pixels));
  found.states = organism.states(pixels).map(state => list(vision.patchStates(state)));
  const sight = organism.see(pixels);
  const hidden = organism.hidden(sight, asked.questions[0]);
  found.hidden = hidden.states.map(list);
  found.tokens = list(sight.tokens);
  found.changed = asked.changes.map(options => {
    const changed = organism.see(pixels, options);
    return {
      ...best(organism.lens(changed, 2, 1), 1),
      stand: changed.stand,
      chances: asked.short.map(question => organism.chances(changed, question, asked.words)),
      answers: asked.short.map(question => organism.answer(changed, question)),
    };
  });
  found.embedding = asked.layers.map(layer => best(organism.lens(sight, layer, 1, 'embedding'), 1));
  const reading = organism.lens(sight, organism.language.lensLayer, 3);
  found.words = list(reading.ids);
  found.runs = asked.runs.map(how =>
    whatwhereLive.runs(reading, 3, vision.grid, organism.text.punctuation, how),
  );
  const states = organism.states(pixels);
  found.vectors = asked.places.map(({ place, things }) =>
    whatwhereLive.thingVectors(organism, states, sight, place, things),
  );
  found.looks = asked.looks.map(how => {
    const { weights, elsewhere } = whatwhereLive.looks(
      organism,
      states,
      sight,
      asked.questions[0],
      how,
    );
    return { weights: list(weights), elsewhere };
  });
  // a picture with a fourth number for each pixel, and as a canvas gives it
  const four = new Uint8ClampedArray((each / 3) * 4).map((_, n) =>
    n % 4 === 3 ? n % 256 : pixels[(n >> 2) * 3 + (n % 4)],
  );
  const side = Math.sqrt(each / 3);
  const same = list(vision.prepare({ data: four, width: side, height: side }));
  found.fourth = same.every((value, n) => value === found.prepared[n]);
  found.errors = {
    word: said(() => organism.answer(sight, 'is there a unicorn ?')),
    option: said(() => organism.chances(sight, asked.questions[0], ['yes', 'maybe'])),
    mark: said(() => organism.answer(sight, '<pad>')),
    empty: said(() => organism.answer(sight, ' ')),
    size: said(() => organism.see(pixels.subarray(3))),
    canvas: said(() => organism.see({ data: four, width: 2 * side, height: side / 2 })),
    depth: said(() => organism.see(pixels, { depth: 7 })),
    head: said(() => organism.see(pixels, { headsOff: [[0, 1]] })),
    token: said(() => organism.see(pixels, { moved: [{ tokens: [999], steps: [0, 0] }] })),
    groups: said(() => organism.see(pixels, { groups: { of: [1, 2] } })),
    patch: said(() => organism.see(pixels, { moved: [{ patches: [0, 256], steps: [0, 0] }] })),
    lens: said(() => organism.lens(sight, 0, 1, 'tuned')),
    method: said(() => whatwhereLive.runs(reading, 3, vision.grid, [], { method: 4, same: 1 })),
    model: said(() => whatwhereLive.open('toy-flamingo')),
  };
  found.times.all = [clock()];
  fs.writeFileSync(path.join(folder, 'found.json'), JSON.stringify(found));
})();
