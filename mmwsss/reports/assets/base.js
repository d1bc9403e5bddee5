// What all parts of the page share: elements, numbers, the tip, colours. Text goes in as text, never as HTML.
const DATA = JSON.parse(document.getElementById('data').textContent);
const SVG = 'http://www.w3.org/2000/svg';

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith('on')) node.addEventListener(key.slice(2), value);
    else if (key.startsWith('--')) node.style.setProperty(key, value);
    else node.setAttribute(key, value === true ? '' : value);
  }
  node.append(...children.flat().filter((child) => child !== undefined && child !== null));
  return node;
}
const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const shape = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
const body = (section) => document.querySelector(`#${section} .body`);
const known = (value) => value !== undefined && value !== null;
const fixed = (value, digits = 2) => (known(value) ? value.toFixed(digits) : '–');
const runLabel = (run) => el('span', { class: 'run', 'data-run': run % 8 }, DATA.runs[run]);
const swatch = (c) => el('span', { class: 'swatch', '--swatch': DATA.colors[c] });
const KINDS = { maps: 'maps', pseudo: 'pseudo mask', prediction: 'prediction', truth: 'truth', image: 'image' };

// Numbers as short as they can be told apart on an axis.
function short(value) {
  const size = Math.abs(value);
  if (size && (size < 1e-3 || size >= 1e6)) return value.toExponential(1).replace('e+', 'e');
  return String(Number(value.toPrecision(4)));
}

function choice(label, options, onchange) {
  const select = el('select', { onchange: () => onchange(select.value) }, options.map(([value, text]) => el('option', { value }, text)));
  return { select, label: el('label', {}, label, select) };
}

const tip = document.getElementById('tip');
function showTip(x, y, ...content) {
  tip.replaceChildren(...content);
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(x + 14, innerWidth - width - 8))}px`;
  tip.style.top = `${y + height + 24 > innerHeight ? y - height - 12 : y + 14}px`;
}
const hideTip = () => { tip.hidden = true; };

// The choice of colours outlives the page where the browser keeps such things for files.
const themes = ['auto', 'light', 'dark'];
function stored() {
  try { return localStorage.getItem('mmwsss-theme'); } catch { return null; }
}
function setTheme(theme) {
  if (theme === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  const button = document.getElementById('theme');
  const [sign, name] = { auto: ['◐', ' Auto'], light: ['○', ' Light'], dark: ['●', ' Dark'] }[theme];
  button.replaceChildren(sign, el('span', {}, name));
  button.dataset.value = theme;
  button.setAttribute('aria-label', `Colours: ${theme}. Change`);
  try { localStorage.setItem('mmwsss-theme', theme); } catch { /* only for this visit then */ }
}
setTheme(themes.includes(stored()) ? stored() : 'auto');
document.getElementById('theme').addEventListener('click', (event) => {
  setTheme(themes[(themes.indexOf(event.currentTarget.dataset.value) + 1) % 3]);
});

const links = new Map([...document.querySelectorAll('.top nav a')].map((link) => [link.hash.slice(1), link]));
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) links.get(entry.target.id).classList.toggle('here', entry.isIntersecting);
}, { rootMargin: '-30% 0px -69% 0px' });
document.querySelectorAll('main section').forEach((section) => watcher.observe(section));
