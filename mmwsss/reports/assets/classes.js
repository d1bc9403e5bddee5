// Bars of one score of every class.
(() => {
  const names = Object.keys(DATA.perClass);
  if (!names.length) return;
  const bars = el('div', { class: 'card bars' });
  const state = { score: names[0], order: 'data' };
  const score = choice('score', names.map((name) => [name, name]), (value) => { state.score = value; draw(); });
  const order = choice('order', [['data', 'as in the data set'], ['worst', 'worst first'], ['best', 'best first'], ...(DATA.runs.length > 1 ? [['apart', 'largest difference']] : [])], (value) => { state.order = value; draw(); });
  const runs = [...new Set(Object.values(DATA.perClass).flat().map((entry) => entry.run))].sort((a, b) => a - b);
  body('classes').append(el('div', { class: 'controls' }, score.label, order.label), ...[legend(runs)].filter(Boolean), bars);

  function draw() {
    const entries = DATA.perClass[state.score];
    const rows = DATA.classes.map((name, c) => ({ name, c, values: entries.map((entry) => [entry.run, entry.values[name]]) }))
      .filter((row) => row.values.some(([, value]) => known(value)));
    const mean = (row) => { const v = row.values.map(([, x]) => x).filter(known); return v.reduce((a, b) => a + b, 0) / v.length; };
    const apart = (row) => { const v = row.values.map(([, x]) => x).filter(known); return Math.max(...v) - Math.min(...v); };
    if (state.order === 'worst') rows.sort((a, b) => mean(a) - mean(b));
    if (state.order === 'best') rows.sort((a, b) => mean(b) - mean(a));
    if (state.order === 'apart') rows.sort((a, b) => apart(b) - apart(a));
    bars.replaceChildren(...rows.map((row) => el('div', { class: 'bar-row' },
      el('button', { class: 'name', type: 'button', title: `${row.name}: show its images`, onclick: () => document.dispatchEvent(new CustomEvent('pick-class', { detail: row.c })) }, swatch(row.c), el('span', {}, row.name)),
      el('div', { class: row.values.length > 1 ? 'bar-set many' : 'bar-set' }, row.values.map(([run, value]) => el('div', { class: 'bar', 'data-run': run % 8, title: `${DATA.runs[run]}: ${fixed(value)}` },
        el('i', { '--value': Math.max(0, Math.min(100, value ?? 0)) }), el('b', {}, fixed(value, 1))))),
    )));
  }
  draw();
})();
