window.whatwhereMap = function (el, event) {
  const map = el.closest('.ww-map');
  const data = map.data || (map.data = JSON.parse(map.dataset.map));
  const ranges = [...map.querySelectorAll('input[type=range]')];
  const [depth, layer] = ranges.map(range => +range.value);
  const at = (layer || 0) * data.names[0].length + depth;
  const cells = [...map.querySelectorAll('[role=cell]')];
  const island = text => Object.assign(document.createElement('bdi'), { textContent: text });
  const score = n => (data.unit ? n + data.unit : (n / 100).toFixed(2));
  const tell = (part, pieces) =>
    map.querySelector(part).replaceChildren(...pieces.map((p, n) => (n % 2 ? island(p) : p)));
  if (el.type === 'checkbox') {
    map.classList.toggle('ww-bare', el.checked);
    return;
  }
  if (el.type === 'range') {
    cells.forEach((cell, n) => {
      const word = data.ids[at][n * data.ranks];
      const text = data.words[word];
      const kind = data.kinds[word];
      cell.textContent = text;
      cell.className = kind < 0 ? '' : 'ww-k' + kind;
      cell.style.setProperty('--n', data.sizes[word]);
    });
    tell('.ww-told', data.told[at]);
    const name = data.names[ranges.indexOf(el)][+el.value];
    el.closest('span').querySelector('output').textContent = name;
    el.setAttribute('aria-valuetext', name);
  } else if (event.type === 'keydown') {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -data.columns, ArrowDown: data.columns }[
      event.key
    ];
    if (!step) return;
    event.preventDefault();
    const next = map.picked == null ? 0 : map.picked + step;
    if (cells[next]) map.picked = next;
  } else {
    const cell = event.target.closest('[role=cell]');
    if (cell) map.picked = cells.indexOf(cell);
  }
  if (map.picked == null) return;
  cells.forEach((cell, n) => cell.classList.toggle('ww-on', n === map.picked));
  const row = Math.floor(map.picked / data.columns);
  const column = map.picked % data.columns;
  const pieces = ['Row ' + row + ', column ' + column + ': '];
  const first = map.picked * data.ranks;
  for (let n = first; n < first + data.ranks; n++)
    pieces.push(
      data.words[data.ids[at][n]],
      ' ' + score(data.percent[at][n]) + (n < first + data.ranks - 1 ? ', ' : ''),
    );
  tell('.ww-patch', pieces);
};
