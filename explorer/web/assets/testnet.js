import { $, clock, duration, every, fill, group, say, setText, short, svg, theme, webURL } from './lib.js';

// A node keeps its colour: n mod 8. A tip has one too, in the order of its first node, with a letter beside it, so
// that nothing depends on colour alone.
const LETTERS = 'abcdefghijklmnopqrstuvwxyz';
const MARKS = { up: '●', starting: '◔', paused: '◐', stopped: '○', killed: '○', bad: '✕' };
const alive = (n) => n.state === 'up' || n.state === 'paused' || n.state === 'starting';

const history = []; // {t, heights: Map n → height}
const SPAN = 240000; // ms kept

async function refresh() {
  const resp = await fetch('api/state');
  if (!resp.ok) throw new Error('HTTP ' + resp.status);
  const s = await resp.json();
  setText($('network'), `${s.network} (${s.genesis.slice(0, 8)})`);
  const honest = s.nodes.filter((n) => n.state !== 'bad');
  const up = honest.filter((n) => n.state === 'up');
  const tips = [...new Set(up.filter((n) => n.tip).map((n) => n.tip))];
  const sides = [...new Set(s.nodes.map((n) => n.side))].sort((a, b) => !a - !b || (a < b ? -1 : 1)); // those without one last
  setText($('sides'), halves(honest.map((n) => n.n)).padEnd(12) + ' ');
  say(summary(honest, up, tips, sides));
  document.title = `${Math.max(0, ...up.map((n) => n.height))} · quipu test network`;
  fill($('nodes'), s.nodes.map((n) => row(n, tips)), 'No nodes.');
  drawTips(s.nodes, tips, sides);
  const now = Date.now();
  history.push({ t: now, heights: new Map(s.nodes.filter((n) => n.state === 'up').map((n) => [n.n, n.height])) });
  while (history.length && history[0].t < now - SPAN) history.shift();
  drawLines(s.nodes, now);
  fill($('log'), s.log.slice(-200).map((l) => ({
    cls: l.kind === 'phase' ? 'phase' : '',
    cells: [clock(l.time), { text: l.kind, cls: { ok: 'ok', failed: 'bad', kill: 'warn', partition: 'warn', ban: 'warn' }[l.kind] || '' }, l.node || '', { text: l.text, cls: 'wrap' }],
  })).reverse(), 'Nothing has happened yet.');
}

// halves is a partition of nodes as the command line takes it.
function halves(nodes) {
  const cut = Math.floor(nodes.length / 2);
  return nodes.slice(0, cut).join(',') + '/' + nodes.slice(cut).join(',');
}

function summary(honest, up, tips, sides) {
  const parts = [`${up.length} of ${honest.length} nodes up`];
  if (tips.length === 1) parts.push(`all agree at height ${group(Math.max(...up.map((n) => n.height)))}`);
  if (tips.length > 1) parts.push(`${tips.length} tips`);
  const cut = sides.filter((x) => x).length;
  if (cut > 1) parts.push(`partitioned into ${cut} sides`);
  return parts.join(', ');
}

const letter = (tips, tip) => (tips.includes(tip) ? LETTERS[tips.indexOf(tip) % 26] : '');

function row(n, tips) {
  const url = webURL(n.http);
  const cls = { up: 'ok', bad: 'bad', killed: 'warn', paused: 'warn' }[n.state] || '';
  const tip = short(n.tip);
  if (tips.length > 1 && letter(tips, n.tip)) tip.text = `${tip.text} (${letter(tips, n.tip)})`;
  return [
    url && alive(n) ? { text: n.name, href: url } : n.name, { text: `${MARKS[n.state] || '?'} ${n.state}`, cls }, n.side || '–',
    alive(n) ? group(n.height) : '–', tip, alive(n) ? String(n.peers) : '–', String(n.bans), alive(n) ? duration(n.up_ms) : '–',
    n.pid ? String(n.pid) : '–', { text: n.p2p, cls: 'id' },
  ];
}

// drawTips: one box a side; within it each node stands at its height over the lowest, its ring in its tip's colour.
function drawTips(nodes, tips, sides) {
  const root = $('tips');
  const step = 92, pad = 14, gap = 26, top = 44, plot = 100;
  const heights = nodes.filter(alive).map((n) => n.height);
  const low = Math.min(...heights, Infinity), high = Math.max(...heights, -Infinity);
  const y = (h) => (high > low ? top + plot - ((h - low) / (high - low)) * plot : top + plot / 2);
  const out = [];
  let x = pad;
  for (const side of sides) {
    const members = nodes.filter((n) => n.side === side);
    const width = members.length * step;
    if (side || sides.length > 1) {
      out.push(svg('rect', { class: 'side', x, y: 2, width, height: top + plot + 64, rx: 6 }));
      out.push(svg('text', { class: 'small', x: x + 8, y: 17 }, side ? 'side ' + side : 'no side'));
    }
    members.forEach((n, i) => {
      const cx = x + i * step + step / 2, live = alive(n);
      const cy = live ? y(n.height) : top + plot;
      const k = tips.indexOf(n.tip);
      out.push(svg('circle', { class: 'node ' + (live && k >= 0 ? 's' + (k % 8) : 'down'), cx, cy, r: 15 }));
      out.push(svg('text', { x: cx, y: cy + 4, 'text-anchor': 'middle' }, live ? letter(tips, n.tip) || '?' : MARKS[n.state] || '?'));
      out.push(svg('text', { x: cx, y: top + plot + 34, 'text-anchor': 'middle' }, n.name));
      out.push(svg('text', { class: 'small mono', x: cx, y: top + plot + 50, 'text-anchor': 'middle' }, live ? `${n.height} ${n.tip.slice(0, 6)}` : n.state));
    });
    x += width + gap;
  }
  const w = Math.max(x - gap + pad, 200), h = top + plot + 70;
  root.setAttribute('width', w);
  root.setAttribute('height', h);
  root.setAttribute('viewBox', `0 0 ${w} ${h}`);
  root.setAttribute('aria-label', nodes.map((n) => `${n.name} ${alive(n) ? 'at height ' + n.height : n.state}${n.side ? ', side ' + n.side : ''}`).join('; '));
  root.replaceChildren(...out);
}

const LABEL = 12; // from one line's label to the next

// spread moves labels apart that would overlap, as little as needed, and keeps them between low and high if they fit.
function spread(labels, low, high) {
  labels.sort((a, b) => a.y - b.y);
  labels.forEach((l, i) => { l.y = Math.max(l.y, i ? labels[i - 1].y + LABEL : low); });
  for (let i = labels.length - 1, most = high; i >= 0; i--, most -= LABEL) labels[i].y = Math.min(labels[i].y, most);
}

// drawLines: height over time, a line a node, its number at the end; a gap where it was down.
function drawLines(nodes, now) {
  const root = $('lines');
  const left = 56, right = 70, top = 12, bottom = 26;
  const w = 900, h = Math.max(240, top + bottom + nodes.length * LABEL);
  const all = history.flatMap((p) => [...p.heights.values()]);
  const out = [];
  root.setAttribute('width', w);
  root.setAttribute('height', h);
  root.setAttribute('viewBox', `0 0 ${w} ${h}`);
  if (all.length === 0) {
    root.replaceChildren(svg('text', { x: left, y: h / 2 }, 'No node has answered yet.'));
    return;
  }
  const low = Math.min(...all), high = Math.max(...all, low + 4);
  const from = Math.min(history[0].t, now - 30000);
  const px = (t) => left + ((t - from) / (now - from)) * (w - left - right);
  const py = (v) => h - bottom - ((v - low) / (high - low)) * (h - top - bottom);
  out.push(svg('path', { class: 'axis', d: `M${left} ${top}V${h - bottom}H${w - right}` }));
  for (const v of [low, Math.round((low + high) / 2), high]) {
    out.push(svg('text', { class: 'small', x: left - 6, y: py(v) + 4, 'text-anchor': 'end' }, group(v)));
  }
  out.push(svg('text', { class: 'small', x: left, y: h - 8 }, duration(now - from) + ' ago'));
  out.push(svg('text', { class: 'small', x: w - right, y: h - 8, 'text-anchor': 'end' }, 'now'));
  const labels = [];
  nodes.forEach((n, i) => {
    const aside = (i - (nodes.length - 1) / 2) * 2.5; // equal heights stay visible beside one another
    let d = '', pen = 'M', end = null;
    for (const p of history) {
      const v = p.heights.get(n.n);
      if (v === undefined) { pen = 'M'; continue; }
      d += `${pen}${px(p.t).toFixed(1)} ${(py(v) + aside).toFixed(1)}`;
      pen = 'L';
      end = [px(p.t), py(v)];
    }
    if (!end) return;
    out.push(svg('path', { class: `run s${n.n % 8}`, d }));
    labels.push({ y: end[1] + 4, name: n.name });
  });
  spread(labels, top + 4, h - bottom + 4);
  for (const l of labels) out.push(svg('text', { class: 'small', x: w - right + 8, y: l.y }, l.name));
  const up = nodes.filter((n) => n.state === 'up');
  root.setAttribute('aria-label', 'Height of each node over time; now ' + up.map((n) => `${n.name} ${n.height}`).join(', '));
  root.replaceChildren(...out);
}

theme();
every(1000, refresh);
