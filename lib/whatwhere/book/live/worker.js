/* The models at work beside the page, which therefore never freezes: a Worker, made of the engine's
   text and this one.

   It is told {model: what weights.py wrote}, once for each model, and then {figure, turn, name,
   pixels, layer, depth, question, asked} as often as its reader likes: `turn` counts pictures (and
   models, and layers), `asked` questions. It posts, each with figure and turn:

       {map: {depth, layer, rows, columns, top, ids, probabilities}}     of `depth` first, then the rest
       {asked, answer, chances: [[word, probability], …]}, or {asked, problem: a sentence}
       {problem: a sentence}                                 where a picture cannot be read

   The newest request of a figure wins. An older one is given up between two depths, but not before
   its first map is posted: else nothing would be read while a thing is dragged. */
(function () {
    'use strict';
    const TOP = 5;  // words of a patch, and chances of an answer
    const newest = new Map();  // {figure: its request that waits}
    const seen = new Map();    // {figure: what was made of its picture}
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

    async function read({ figure, turn, name, pixels, layer, depth, question, asked }) {
        const organism = whatwhereLive.open(name), { vision } = organism;
        if (seen.get(figure)?.turn !== turn) {
            seen.set(figure, { turn, states: organism.states(pixels), sights: [], sent: new Set() });
        }
        const { states, sights, sent } = seen.get(figure);
        const sight = n => sights[n] ||= organism.sight(vision.connect(states[n]));
        for (const n of [depth, ...states.keys()]) {
            if (sent.has(n)) continue;
            const map = { depth: n, layer, rows: vision.grid, columns: vision.grid, top: TOP, ...organism.lens(sight(n), layer, TOP) };
            postMessage({ figure, turn, map });
            sent.add(n);
            await pause();
            if (newest.has(figure)) return;
        }
        if (!question) return;
        try {
            const answer = organism.answer(sight(states.length - 1), question);
            const { probabilities } = organism.asked(sight(states.length - 1), organism.questionIds(question), 0);
            const best = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]).slice(0, TOP);
            const chances = best.map(id => [organism.words[id], probabilities[id]]);
            postMessage({ figure, turn, asked, answer, chances });
        } catch (error) {
            postMessage({ figure, turn, asked, problem: error.message });  // such as a word that is not known
        }
    }
})();
