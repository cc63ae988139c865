window.whatwherePhases = function (root) {
  const base = JSON.parse(root.dataset.phases).theta;
  const n = base.length;
  const at = {};
  root.querySelectorAll('input').forEach(input => {
    at[input.name] = +input.value;
    input.parentNode.querySelector('output').textContent = input.value;
  });
  const theta = base.map((t, i) => t * (1 + at.alpha * Math.pow(i / n, at.p)));
  const psi = (at.phase * Math.PI) / 180;
  const turn = at.distance * theta[at.frequency];
  const f = x => x.toFixed(1);
  const draw = (name, alt, body) => {
    root.querySelector('.ww-' + name).innerHTML =
      '<svg viewBox="0 0 240 200" role="img" aria-label="' + alt + '">' + body + '</svg>';
  };
  const line = (x1, y1, x2, y2, style) =>
    '<line x1="' +
    f(x1) +
    '" y1="' +
    f(y1) +
    '" x2="' +
    f(x2) +
    '" y2="' +
    f(y2) +
    '" ' +
    style +
    '/>';
  const text = (x, y, said, style) =>
    '<text x="' + f(x) + '" y="' + f(y) + '" ' + (style || '') + '>' + said + '</text>';
  const mark = (x, y, right) =>
    right
      ? '<circle cx="' + f(x) + '" cy="' + f(y) + '" r="5" fill="#d98200"/>'
      : '<rect x="' + f(x - 4.5) + '" y="' + f(y - 4.5) + '" width="9" height="9" fill="#0072b2"/>';
  const soft = 'stroke="#9a9a94" stroke-width="1"';

  // one pair: Re[q k* e^{iΔθ}], with Δ = −m for left
  const hand = angle => [120 + 80 * Math.cos(angle), 95 - 80 * Math.sin(angle)];
  const [left, right, own] = [psi - turn, psi + turn, psi].map(hand);
  const [valueLeft, valueRight] = [Math.cos(psi - turn), Math.cos(psi + turn)];
  draw(
    'circle',
    'left ends at ' + valueLeft.toFixed(2) + ', right at ' + valueRight.toFixed(2),
    '<circle cx="120" cy="95" r="80" fill="none" ' +
      soft +
      '/>' +
      line(30, 95, 210, 95, soft) +
      line(120, 95, ...own, 'stroke="#1d1f24" stroke-width="1.5" stroke-dasharray="4 3"') +
      line(120, 95, ...left, 'stroke="#0072b2" stroke-width="2.5"') +
      line(120, 95, ...right, 'stroke="#d98200" stroke-width="2.5"') +
      line(...left, left[0], 95, 'stroke="#0072b2" stroke-dasharray="2 3"') +
      line(...right, right[0], 95, 'stroke="#d98200" stroke-dasharray="2 3"') +
      mark(left[0], 95, false) +
      mark(right[0], 95, true) +
      text(30, 195, '■ left', 'fill="#005b8f"') +
      text(90, 195, '● right', 'fill="#8a5200"') +
      text(150, 195, '- - q k*'),
  );

  // every pair: how much of it is shared, how much telling
  const wide = 230 / n;
  draw(
    'bars',
    'bars for ' +
      n +
      ' frequencies; telling from ' +
      Math.abs(Math.sin(at.distance * theta[0])).toFixed(2) +
      ' at the fastest to ' +
      Math.abs(Math.sin(at.distance * theta[n - 1])).toFixed(3) +
      ' at the slowest',
    theta
      .map((t, i) => {
        const angle = at.distance * t;
        const x = 5 + i * wide;
        const fill = angle > Math.PI ? '#1d1f24' : '#0072b2';
        const bar = (top, h, colour) =>
          '<rect x="' +
          f(x + 1) +
          '" width="' +
          f(Math.max(1, wide - 2)) +
          '" y="' +
          f(top - h) +
          '" height="' +
          f(h) +
          '" fill="' +
          colour +
          '"/>';
        return (
          bar(85, 68 * Math.abs(Math.cos(angle)), '#8f8f89') +
          bar(180, 68 * Math.abs(Math.sin(angle)), fill) +
          (i === at.frequency
            ? '<path d="M' + f(x + wide / 2 - 5) + ' 190 h10 l-5 -7 z" fill="#1d1f24"/>'
            : '')
        );
      })
      .join('') +
      line(5, 85, 235, 85, soft) +
      line(5, 180, 235, 180, soft) +
      text(5, 12, 'shared') +
      text(5, 108, 'telling (black: past half a turn)'),
  );

  // the head: all its pairs at once, six logits at most, among sixteen patches
  const logit = x => (6 * theta.reduce((sum, t) => sum + Math.cos(psi + x * t), 0)) / n;
  const weight = x => {
    const e = Math.exp(logit(x));
    return e / (e + 15);
  };
  const place = x => [120 + x * 5.4, 180 - 165 * weight(x)];
  const path = [];
  for (let x = -20; x <= 20; x += 0.25) path.push(place(x).map(f).join(','));
  const [wl, wr] = [weight(-at.distance), weight(at.distance)];
  draw(
    'curve',
    'attention ' +
      (100 * wl).toFixed(0) +
      '% when it is left, ' +
      (100 * wr).toFixed(0) +
      '% when it is right',
    line(12, 180, 228, 180, soft) +
      line(120, 15, 120, 180, soft) +
      '<polyline points="' +
      path.join(' ') +
      '" fill="none" stroke="#1d1f24" stroke-width="1.5"/>' +
      mark(...place(-at.distance), false) +
      mark(...place(at.distance), true) +
      text(12, 195, '20 left') +
      text(192, 195, '20 right') +
      text(124, 24, '100%'),
  );

  const part = (x, digits) => x.toFixed(digits).replace('-', '−');
  root.querySelector('figcaption').textContent =
    'Pair ' +
    at.frequency +
    ' turns ' +
    theta[at.frequency].toPrecision(2) +
    ' radians a patch, ' +
    part((turn * 180) / Math.PI, 0) +
    '° in all. Left gives ' +
    part(valueLeft, 2) +
    ', right ' +
    part(valueRight, 2) +
    ': shared ' +
    part((valueLeft + valueRight) / 2, 2) +
    ', telling ±' +
    part(Math.abs(valueLeft - valueRight) / 2, 2) +
    '. The whole head gives ' +
    part(100 * wl, 1) +
    '% of its attention when A is left of B, ' +
    part(100 * wr, 1) +
    '% when it is right. ' +
    theta.filter(t => at.distance * t > Math.PI).length +
    ' of ' +
    n +
    ' pairs have turned past half a turn.';
};
document.querySelectorAll('.ww-phases').forEach(window.whatwherePhases);
