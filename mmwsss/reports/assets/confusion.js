// Confusion matrix: colours by share of the row, values at the pointer or by arrow keys.
(() => {
  const all = DATA.confusion;
  if (!all.length) return;
  const box = body('confusion');
  const views = all.map((entry, i) => [i, `${DATA.runs.length > 1 ? `${DATA.runs[entry.run]}: ` : ''}${KINDS[entry.kind]}`]);
  const pick = choice('shown', views, (value) => draw(all[value]));
  const chart = el('div', { class: 'scroll' });
  const readout = el('p', { class: 'readout', 'aria-live': 'polite' });
  const worst = el('div', { class: 'card worst' });
  box.append(el('div', { class: 'controls' }, pick.label), el('div', { class: 'matrix-box' }, el('div', { class: 'card matrix' }, chart, readout), worst));

  function draw(entry) {
    const rows = entry.rows, count = rows.length;
    const columns = [...DATA.classes, ...((rows.find(Boolean) || []).length > count ? ['ignored'] : [])];
    const side = count > 40 ? 10 : count > 12 ? 24 : 36, left = 108, top = 92, right = 60;
    const width = left + side * columns.length + right, height = top + side * count;
    const svg = shape('svg', { viewBox: `0 0 ${width} ${height}`, '--natural': `${width}px`, tabindex: 0, role: 'img', 'aria-label': `Confusion matrix of ${DATA.runs[entry.run]}, ${KINDS[entry.kind]}. Arrow keys move through its cells.` });
    const label = (text) => (text.length > 15 ? `${text.slice(0, 14)}…` : text);
    const named = (i) => side > 12 || i % 3 === 0;
    columns.forEach((text, i) => named(i) && svg.append(shape('text', { class: 'label', transform: `translate(${left + side * (i + 0.6)} ${top - 6}) rotate(-50)` }, label(text))));
    rows.forEach((row, r) => {
      if (named(r)) svg.append(shape('text', { class: 'label', x: left - 7, y: top + side * (r + 0.5) + 4, 'text-anchor': 'end' }, label(DATA.classes[r])));
      (row || []).forEach((value, c) => {
        if (value < 0.05) return;
        svg.append(shape('rect', { class: r === c ? 'right' : 'wrong', x: left + side * c + 0.5, y: top + side * r + 0.5, width: side - 1, height: side - 1, rx: 2, 'fill-opacity': (0.06 + 0.94 * Math.sqrt(value / 100) * 0.85).toFixed(3) }));
        if (side > 12 && value >= 1) svg.append(shape('text', { class: 'value', x: left + side * (c + 0.5), y: top + side * (r + 0.5) + 3 }, Math.round(value)));
      });
    });
    svg.append(shape('rect', { x: left, y: top, width: side * columns.length, height: side * count, fill: 'none', stroke: 'var(--line)' }));
    const cell = shape('rect', { class: 'cell', width: side, height: side, rx: 3, visibility: 'hidden' });
    svg.append(cell);
    const at = { r: 0, c: 0 };
    function tell(r, c) {
      at.r = Math.max(0, Math.min(count - 1, r));
      at.c = Math.max(0, Math.min(columns.length - 1, c));
      cell.setAttribute('x', left + side * at.c);
      cell.setAttribute('y', top + side * at.r);
      cell.setAttribute('visibility', 'visible');
      const row = rows[at.r];
      readout.textContent = row
        ? `${fixed(row[at.c])} % of ${DATA.classes[at.r]} (${fixed(entry.share[at.r], 2)} % of all pixels) → ${columns[at.c]}`
        : `${DATA.classes[at.r]} does not occur in the truth`;
      return readout.textContent;
    }
    svg.addEventListener('pointermove', (event) => {
      const bounds = svg.getBoundingClientRect(), unit = bounds.width / width;
      const r = Math.floor(((event.clientY - bounds.top) / unit - top) / side), c = Math.floor(((event.clientX - bounds.left) / unit - left) / side);
      if (r < 0 || c < 0 || r >= count || c >= columns.length) { hideTip(); return; }
      showTip(event.clientX, event.clientY, tell(r, c));
    });
    svg.addEventListener('pointerleave', hideTip);
    svg.addEventListener('focus', () => tell(at.r, at.c));
    svg.addEventListener('keydown', (event) => {
      const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (!move) return;
      event.preventDefault();
      tell(at.r + move[0], at.c + move[1]);
    });
    chart.replaceChildren(svg);
    readout.textContent = 'Point at a cell, or use the arrow keys.';
    const pairs = rows.flatMap((row, r) => (row || []).map((value, c) => ({ r, c, value }))).filter(({ r, c, value }) => r !== c && value > 0);
    pairs.sort((a, b) => b.value - a.value);
    const list = (heading, own) => (own.length ? [el('h3', {}, heading), el('ol', {}, own.map(({ r, c, value }) => el('li', {}, el('span', {}, `${DATA.classes[r]} → ${columns[c]}`), el('b', {}, fixed(value, 1)))))] : []);
    worst.replaceChildren(
      ...list('Most confused classes, in percent of the true one', pairs.filter(({ r, c }) => r && c).slice(0, 9)),
      ...list('Most often missed', pairs.filter(({ c }) => !c).slice(0, 7)),
    );
  }
  draw(all[0]);
})();
