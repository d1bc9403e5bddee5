// Line charts: training and threshold sweep.
const FRAME = { width: 360, height: 190, left: 44, right: 10, top: 8, bottom: 30 };

// About `count` round numbers from low to high.
function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) found.push(Number((i * step).toPrecision(12)));
  return found;
}

function span(values) {
  // No spread: a log of every iteration has more values than a call can have arguments.
  const low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
  return low === high ? [low - (Math.abs(low) || 1) * 0.1, high + (Math.abs(high) || 1) * 0.1] : [low, high];
}

// series: [{run, x, y, configured}]; options: log, xLabel, marks (of the best and the configured setting).
function lineChart(name, series, options = {}) {
  const points = series.map((s) => s.x.map((x, i) => [x, s.y[i]]).filter(([, y]) => known(y)));
  const all = points.flat();
  const figure = el('figure', { class: 'card chart' }, el('figcaption', {}, el('code', {}, name)));
  if (!all.length) {
    figure.append(el('p', { class: 'empty' }, 'no number in the log'));
    return figure;
  }
  const scale = options.log ? Math.log10 : (v) => v;
  const [x0, x1] = span(all.map(([x]) => scale(x)));
  let [y0, y1] = span(all.map(([, y]) => y));
  [y0, y1] = [y0 - (y1 - y0) * 0.05, y1 + (y1 - y0) * 0.08];
  const px = (x) => FRAME.left + ((scale(x) - x0) / (x1 - x0)) * (FRAME.width - FRAME.left - FRAME.right);
  const py = (y) => FRAME.height - FRAME.bottom - ((y - y0) / (y1 - y0)) * (FRAME.height - FRAME.top - FRAME.bottom);
  const words = points.map((p, i) => `${DATA.runs[series[i].run]} from ${short(p[0]?.[1] ?? NaN)} to ${short(p.at(-1)?.[1] ?? NaN)}`);
  const svg = shape('svg', {
    viewBox: `0 0 ${FRAME.width} ${FRAME.height}`, tabindex: 0, role: 'img', 'aria-label': `${name}: ${words.join(', ')}. Arrow keys read the values.`,
  });
  for (const y of ticks(y0, y1, 5)) {
    svg.append(
      shape('line', { class: 'grid', x1: FRAME.left, x2: FRAME.width - FRAME.right, y1: py(y), y2: py(y) }),
      shape('text', { x: FRAME.left - 6, y: py(y) + 3.5, 'text-anchor': 'end' }, short(y)),
    );
  }
  const marks = options.log ? [0.01, 0.1, 0.2, 0.5, 1, 2, 5, 10, 100].filter((v) => scale(v) >= x0 - 1e-9 && scale(v) <= x1 + 1e-9) : ticks(x0, x1, 5);
  for (const x of marks) svg.append(shape('text', { x: px(x), y: FRAME.height - 14, 'text-anchor': 'middle' }, short(x)));
  if (options.xLabel) svg.append(shape('text', { x: (FRAME.width + FRAME.left) / 2, y: FRAME.height - 1, 'text-anchor': 'middle' }, options.xLabel));
  points.forEach((own, i) => {
    const run = series[i].run % 8;
    svg.append(shape('polyline', { class: 'line', 'data-run': run, points: own.map(([x, y]) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`).join(' ') }));
    if (own.length === 1) svg.append(dot(own[0], run, 'dot'));
    if (options.marks && own.length) {
      svg.append(dot(own.reduce((best, point) => (point[1] > best[1] ? point : best)), run, 'dot'));
      const configured = own.find(([x]) => Math.abs(x - series[i].configured) < 1e-6);
      if (configured) svg.append(dot(configured, run, 'ring'));
    }
  });
  function dot([x, y], run, kind) {
    return shape('circle', { class: kind, 'data-run': run, cx: px(x), cy: py(y), r: kind === 'ring' ? 5.6 : 3.2 });
  }
  readable(svg, name, series, points, px, py);
  figure.append(svg);
  return figure;
}

// Values at the pointer, or by arrow keys.
function readable(svg, name, series, points, px, py) {
  const places = [...new Set(points.flat().map(([x]) => x))].sort((a, b) => a - b);
  const cursor = shape('g', { visibility: 'hidden' });
  svg.append(cursor);
  let current = places.length - 1;
  function show(index, x, y) {
    current = Math.max(0, Math.min(places.length - 1, index));
    const place = places[current];
    const hits = points.map((own, i) => [series[i].run, own.find(([at]) => at === place)]).filter(([, hit]) => hit);
    cursor.replaceChildren(
      shape('line', { class: 'cursor', x1: px(place), x2: px(place), y1: FRAME.top, y2: FRAME.height - FRAME.bottom }),
      ...hits.map(([run, [, value]]) => shape('circle', { class: 'dot', 'data-run': run % 8, cx: px(place), cy: py(value), r: 3.2 })),
    );
    cursor.setAttribute('visibility', 'visible');
    showTip(x, y, el('strong', {}, `${name} at ${short(place)}`), ...hits.map(([run, [, value]]) => el('div', {}, runLabel(run), short(value))));
  }
  function byKey() {
    const box = svg.getBoundingClientRect();
    show(current, box.left + (px(places[current]) / FRAME.width) * box.width, box.top + box.height / 3);
  }
  const hide = () => { cursor.setAttribute('visibility', 'hidden'); hideTip(); };
  svg.addEventListener('pointermove', (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * FRAME.width;
    const nearest = places.reduce((best, place, i) => (Math.abs(px(place) - x) < Math.abs(px(places[best]) - x) ? i : best), 0);
    show(nearest, event.clientX, event.clientY);
  });
  svg.addEventListener('pointerleave', hide);
  svg.addEventListener('blur', hide);
  svg.addEventListener('keydown', (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    current = Math.max(0, Math.min(places.length - 1, current + step));
    byKey();
  });
}

const legend = (runs) => (DATA.runs.length > 1 ? el('div', { class: 'legend' }, runs.map(runLabel)) : null);
const runsOf = (charts) => [...new Set(charts.flatMap((chart) => chart.series.map((s) => s.run)))].sort((a, b) => a - b);

if (DATA.training.length) {
  const box = body('training');
  box.append(...[legend(runsOf(DATA.training))].filter(Boolean));
  for (const group of new Set(DATA.training.map((chart) => chart.group))) {
    const own = DATA.training.filter((chart) => chart.group === group);
    box.append(el('h3', {}, group), el('div', { class: 'charts' }, own.map((chart) => lineChart(chart.name, chart.series, { xLabel: 'iteration' }))));
  }
}
if (DATA.sweeps.length) {
  const box = body('threshold');
  box.append(...[legend(runsOf(DATA.sweeps))].filter(Boolean));
  box.append(el('div', { class: 'charts wide' }, DATA.sweeps.map((chart) => lineChart(`${chart.name} mIoU`, chart.series, { ...chart, marks: true }))));
}
