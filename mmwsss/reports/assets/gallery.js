// The pictures: filter by class, sort by IoU, compare runs. Pictures are put in when they come near the window.
(() => {
  const { images, total } = DATA.gallery;
  const box = body('gallery');
  if (!images.length) {
    box.append(el('p', { class: 'empty' }, 'No pictures.'));
    return;
  }
  const runs = DATA.runs.map((_, run) => run).filter((run) => images.some((image) => image.runs[run]));
  const kinds = ['maps', 'pseudo', 'prediction'].filter((kind) => images.some((image) => image.runs.some((own) => own && kind in own.pictures)));
  const judged = ['prediction', 'pseudo'].filter((kind) => kinds.includes(kind));
  const hasTruth = images.some((image) => image.truth);
  const columns = ['image', ...kinds, ...(hasTruth ? ['truth'] : [])];
  const state = { cls: null, where: 'truth', sort: hasTruth ? 'worst' : 'name', kind: judged[0], run: runs[0], text: '', shown: new Set(columns), limit: 0 };

  const ownOf = (image, run) => image.runs[run];
  function iou(image, run, kind = state.kind) {
    const found = ownOf(image, run)?.iou[kind];
    return state.cls === null ? found?.mean : found?.classes[state.cls];
  }
  const inTruth = (image, c) => Boolean(image.truth?.includes(c));
  const inFound = (image, c) => Boolean(ownOf(image, state.run)?.found[state.kind]?.includes(c));
  const tests = {
    truth: (image, c) => (hasTruth ? inTruth(image, c) : inFound(image, c)),
    extra: (image, c) => inFound(image, c) && !inTruth(image, c),
    lost: (image, c) => inTruth(image, c) && !inFound(image, c),
  };
  const apart = (image) => { const v = runs.map((run) => iou(image, run)).filter(known); return v.length > 1 ? Math.max(...v) - Math.min(...v) : -1; };

  // The bar.
  const output = el('output', { 'aria-live': 'polite', id: 'count' });
  const sort = choice('sort', [...(hasTruth ? [['worst', 'worst first'], ['best', 'best first']] : []), ...(hasTruth && runs.length > 1 ? [['apart', 'largest difference']] : []), ['name', 'by name']], (value) => { state.sort = value; update(); });
  const kind = choice('IoU of', judged.map((name) => [name, KINDS[name]]), (value) => { state.kind = value; update(); });
  const run = choice('in', runs.map((index) => [index, DATA.runs[index]]), (value) => { state.run = Number(value); update(); });
  const where = choice('class is', [['truth', hasTruth ? 'in the truth' : 'found'], ...(hasTruth ? [['extra', 'found, but not in the truth'], ['lost', 'in the truth, but not found']] : [])], (value) => { state.where = value; update(); });
  sort.select.id = 'sort';
  const search = el('input', { type: 'search', placeholder: 'image name', 'aria-label': 'image name', oninput: () => { state.text = search.value.trim().toLowerCase(); update(); } });
  const chips = new Map([null, ...DATA.classes.keys()].map((c) => [c, el('button', { type: 'button', class: 'chip', 'data-class': c === null ? 'all' : c, onclick: () => pickClass(c === state.cls ? null : c) }, c === null ? null : swatch(c), c === null ? 'all' : DATA.classes[c], el('small'))]));
  const toggles = columns.map((name) => el('label', {}, el('input', { type: 'checkbox', checked: true, onchange: (event) => { state.shown[event.target.checked ? 'add' : 'delete'](name); update(); } }), KINDS[name]));
  const slider = (label, min, max, step, value, apply) => el('label', {}, label, el('input', { type: 'range', min, max, step, value, oninput: (event) => apply(event.target.value) }));
  const root = document.documentElement.style;
  const more = el('details', { class: 'more' }, el('summary', {}, 'View'), el('div', { class: 'controls' }, toggles,
    slider('colours', 0.2, 1, 0.05, 0.75, (value) => root.setProperty('--opacity', value)),
    slider('size', 90, 288, 2, 160, (value) => { root.setProperty('--tile', `${value}px`); })));
  const controls = [sort.label, judged.length > 1 && hasTruth ? kind.label : null, runs.length > 1 && hasTruth ? run.label : null, where.label, search, output];
  const cards = el('div', { class: 'cards' });
  box.append(el('div', { class: 'card filter' }, el('div', { class: 'controls' }, controls), el('div', { class: 'chips', role: 'group', 'aria-label': 'Filter by class' }, [...chips.values()]), more), cards);
  if (images.length < total) box.insertBefore(el('p', { class: 'lead' }, `${images.length} of the ${total} images, evenly spread; --images shows more.`), box.firstChild);
  const ratios = images.map(({ size: [height, width] }) => width / height).sort((a, b) => a - b);
  root.setProperty('--aspect', Math.max(0.8, Math.min(1.6, ratios[ratios.length >> 1])).toFixed(3));

  // Tiles and cards.
  function describe(image, name, run) {
    const classes = name === 'truth' ? image.truth : ownOf(image, run)?.found[name];
    const words = classes ? `: ${classes.filter((c) => c > 0).map((c) => DATA.classes[c]).join(', ') || 'only background'}` : '';
    return `${run === null || runs.length < 2 ? '' : `${DATA.runs[run]}, `}${KINDS[name]}${words}`;
  }
  function stack(image, name, run) {
    const photo = image.pictures.image, own = name === 'truth' ? image.pictures.truth : run === null ? null : ownOf(image, run)?.pictures[name];
    const picture = (src, cls) => el('img', { src, class: cls, alt: '', loading: 'lazy', decoding: 'async', draggable: 'false' });
    const value = run !== null && (name === 'prediction' || name === 'pseudo') ? iou(image, run, name) : undefined;
    return el('span', { class: 'stack' }, picture(photo, name === 'image' ? '' : 'under'),
      own ? picture(own, 'over') : name === 'image' ? null : el('span', { class: 'gone' }, ownOf(image, run ?? runs[0]) || name === 'truth' ? `no ${KINDS[name]}` : 'not in this run'),
      known(value) ? el('span', { class: 'iou' }, fixed(value, 1)) : null);
  }
  const tile = (image, name, run) => el('button', { type: 'button', class: 'tile', 'data-kind': name, title: describe(image, name, run), 'aria-label': `Enlarge ${image.name}, ${describe(image, name, run)}`, onclick: () => openViewer(image, name, run) }, stack(image, name, run), el('span', { class: 'caption' }, KINDS[name]));

  function content(image) {
    const names = (image.truth || []).filter((c) => c > 0).map((c) => el('span', {}, swatch(c), DATA.classes[c]));
    const header = el('header', {}, el('code', {}, image.name), el('span', { class: 'names' }, names));
    const shown = (list) => list.filter((name) => state.shown.has(name));
    if (runs.length < 2) {
      const order = shown(columns);
      return [header, el('div', { class: 'tiles', '--columns': order.length || 1 }, order.map((name) => tile(image, name, name === 'image' || name === 'truth' ? null : runs[0])))];
    }
    const still = shown(['image', ...(hasTruth ? ['truth'] : [])]), moving = shown(kinds);
    const rows = runs.map((index) => el('div', {}, el('div', { class: 'row-run' }, runLabel(index)), el('div', { class: 'tiles', '--columns': moving.length || 1 }, moving.map((name) => tile(image, name, index)))));
    return [header, el('div', { class: 'compare' }, el('div', { class: 'fixed' }, still.map((name) => tile(image, name, null))), el('div', {}, moving.length ? rows : []))];
  }

  const near = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      target.replaceChildren(...content(images[target.dataset.index]));
    }
  }, { rootMargin: '900px 0px' });

  function selection() {
    const chosen = images.map((_, index) => index).filter((index) => (state.cls === null || tests[state.where](images[index], state.cls)) && images[index].name.toLowerCase().includes(state.text));
    const by = { worst: (i) => iou(images[i], state.run) ?? 101, best: (i) => -(iou(images[i], state.run) ?? -1), apart: (i) => -apart(images[i]) }[state.sort];
    if (by) chosen.sort((a, b) => by(a) - by(b) || a - b);
    else chosen.sort((a, b) => (images[a].name < images[b].name ? -1 : 1));
    return chosen;
  }

  function update() {
    const chosen = selection();
    output.textContent = `${chosen.length} of ${images.length} images`;
    where.label.style.display = state.cls === null ? 'none' : '';
    for (const [c, chip] of chips) {
      const count = c === null ? images.length : images.filter((image) => tests[state.where](image, c)).length;
      chip.setAttribute('aria-pressed', String(c === state.cls));
      chip.lastChild.textContent = count;
      chip.style.display = c !== null && !count && c !== state.cls ? 'none' : '';
    }
    const wide = runs.length > 1 ? 4 : Math.max(1, state.shown.size);
    cards.style.setProperty('--wide', `calc(var(--tile) * ${wide})`);
    near.disconnect();
    if (!chosen.length) {
      cards.replaceChildren(el('p', { class: 'empty' }, 'No image is like this. ', el('button', { type: 'button', class: 'chip', onclick: reset }, 'Show all')));
      return;
    }
    const lines = runs.length > 1 ? runs.length : 1;
    cards.replaceChildren(...chosen.map((index) => el('article', { class: 'card shot', 'data-index': index, '--lines': lines, 'aria-label': images[index].name })));
    cards.querySelectorAll('.shot').forEach((card) => near.observe(card));
  }
  function reset() {
    search.value = state.text = '';
    pickClass(null);
  }
  function pickClass(c) {
    state.cls = c;
    update();
  }
  document.addEventListener('pick-class', (event) => {
    pickClass(event.detail);
    document.getElementById('gallery').scrollIntoView();
  });

  // One picture, large; arrow keys go through those of the image.
  const viewer = document.getElementById('viewer');
  const around = (image) => [['image', null], ...runs.flatMap((index) => kinds.map((name) => [name, index])), ...(hasTruth ? [['truth', null]] : [])].filter(([name, index]) => index === null || ownOf(image, index)?.pictures[name]);
  function openViewer(image, name, run) {
    const all = around(image), here = Math.max(0, all.findIndex(([n, r]) => n === name && r === run));
    const go = (step) => openViewer(image, ...all[(here + step + all.length) % all.length]);
    viewer.replaceChildren(el('div', { class: 'bar-top' }, el('span', {}, el('code', {}, image.name), ` – ${describe(image, name, run)}`),
      el('button', { type: 'button', 'aria-label': 'Previous picture', onclick: () => go(-1) }, '←'), el('button', { type: 'button', 'aria-label': 'Next picture', onclick: () => go(1) }, '→'),
      el('button', { type: 'button', onclick: () => viewer.close() }, 'Close')), stack(image, name, run));
    viewer.onkeydown = (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step) { event.preventDefault(); go(step); }
    };
    if (!viewer.open) viewer.showModal();
  }
  viewer.addEventListener('click', (event) => { if (event.target === viewer) viewer.close(); });
  update();
})();
