// Called by the sliders, the check box, the words and the picture itself; everything is found from
// the element that called.
window.whatwhereAttention = function (el, event) {
  const map = el.closest('.ww-attention');
  const all = what => [...map.querySelectorAll(what)];
  const data = map.data || (map.data = JSON.parse(map.dataset.map));
  const bytes =
    map.bytes || (map.bytes = Uint8Array.from(atob(data.weights), c => c.charCodeAt(0)));
  const cells = all('[role=cell]');
  const buttons = all('button');
  const ranges = all('input[type=range]');
  const [block, head] = ranges.map(range => +range.value);
  const [blocks, heads] = data.names;
  const bare = map.querySelector('input[type=checkbox]').checked;
  const sinks = new Set(data.sinks[block]);
  const percent = weight => (100 * weight).toFixed(0);
  const island = word => Object.assign(document.createElement('bdi'), { textContent: word });
  const tell = (part, pieces) =>
    map
      .querySelector(part)
      .replaceChildren(...pieces.map((piece, n) => (n % 2 ? island(piece) : piece)));

  // what is asked for
  const letLook = n => {
    if (data.rows.includes(n)) data.at = n;
  };
  if (el.type === 'range') {
    const name = data.names[ranges.indexOf(el)][+el.value];
    el.closest('span').querySelector('output').textContent = name;
    el.setAttribute('aria-valuetext', name);
  } else if (el.type === 'button') {
    letLook(+el.dataset.n);
  } else if (event.type === 'keydown') {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -data.columns, ArrowDown: data.columns };
    if (steps[event.key]) {
      const next = map.on == null ? 0 : map.on + steps[event.key];
      if (cells[next]) map.on = next;
    } else if (event.key === 'Enter' && map.on != null) {
      letLook(data.places[map.on]);
    } else return;
    event.preventDefault();
  } else if (el.type !== 'checkbox') {
    const cell = event.target.closest('[role=cell]');
    if (!cell) return;
    map.on = cells.indexOf(cell);
    if (event.type === 'click') letLook(data.places[map.on]);
  }

  // the weights of the token that looks, and what is seen of them
  const n = data.words.length;
  const row = (block * heads.length + head) * data.rows.length + data.rows.indexOf(data.at);
  const own = Array.from(bytes.subarray(row * n, (row + 1) * n), byte => (byte / 255) ** 3);
  const scale = data.places.filter(place => !(bare && sinks.has(place))).map(place => own[place]);
  const most = Math.max(1e-9, ...scale);
  const mark = (part, place) => {
    part.classList.toggle('ww-of', place === data.at);
    part.classList.toggle('ww-sink', sinks.has(place));
  };
  cells.forEach((cell, i) => {
    const weight = own[data.places[i]];
    cell.style.setProperty('--v', (data.veil * (1 - Math.min(1, weight / most))).toFixed(3));
    cell.textContent = weight >= 0.005 ? percent(weight) : '';
    cell.classList.toggle('ww-on', i === map.on);
    mark(cell, data.places[i]);
  });
  buttons.forEach(button => {
    const place = +button.dataset.n;
    button.style.setProperty('--w', own[place].toFixed(3));
    button.setAttribute('aria-pressed', place === data.at);
    mark(button, place);
  });

  // and said
  const there = data.places.reduce((sum, place) => sum + own[place], 0);
  const told = [
    `${data.tower} block ${blocks[block]}, ${heads[head]}: `,
    data.words[data.at],
    ` collects ${percent(there)}% from the picture`,
  ];
  const text = buttons.map(button => +button.dataset.n).sort((a, b) => own[b] - own[a]);
  [', most of the rest from ', ' and '].slice(0, text.length).forEach((lead, i) => {
    told[told.length - 1] += lead;
    told.push(data.words[text[i]], ` (${percent(own[text[i]])}%)`);
  });
  told[told.length - 1] += '.';
  tell('.ww-told', told);
  if (map.on == null) return;
  const place = data.places[map.on];
  const y = Math.floor(map.on / data.columns);
  tell('.ww-patch', [
    `Row ${y}, column ${map.on % data.columns}: ` +
      `${+(100 * own[place]).toPrecision(2)}%${sinks.has(place) ? ', a sink' : ''}` +
      (data.rows.includes(place) ? '.' : '; this figure cannot let it look.'),
  ]);
};
