window.whatwhereDoses = function (root) {
  const data = JSON.parse(root.dataset.doses);
  const range = root.querySelector('input');
  const kind = root.querySelector('select');
  const dose = data.doses[range.value];
  const percent = data.percent[kind.value][range.value];
  const said = dose.toFixed(2).replace('-', '−');
  root.querySelectorAll('.ww-answer').forEach((row, n) => {
    row.querySelector('b').style.width = percent[n] + '%';
    row.querySelector('output').textContent = percent[n].toFixed(0) + '%';
  });
  root.querySelector('label:last-of-type output').textContent = said;
  range.setAttribute('aria-valuetext', 'dose ' + said);
  // each answer is an island, so that one that is read from right to left leaves the numbers in
  // their places
  const island = text => Object.assign(document.createElement('bdi'), { textContent: text });
  root
    .querySelector('figcaption')
    .replaceChildren(
      kind.selectedOptions[0].text + ', dose ' + said + ': ',
      ...data.options.flatMap((option, n) => [
        n ? ', ' : '',
        island(option),
        ' ' + percent[n].toFixed(0) + '%',
      ]),
      '.',
    );
};
document.querySelectorAll('.ww-doses').forEach(window.whatwhereDoses);
