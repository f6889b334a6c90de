// What both pages share: text in, text nodes out. Nothing here parses HTML.

export const $ = (id) => document.getElementById(id);

// el makes an element with attributes and text.
export function el(tag, attrs = {}, text) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attrs)) e.setAttribute(k, v);
  if (text !== undefined) e.textContent = text;
  return e;
}

export function svg(tag, attrs = {}, text) {
  const e = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [k, v] of Object.entries(attrs)) e.setAttribute(k, v);
  if (text !== undefined) e.textContent = text;
  return e;
}

// setText touches the document only where something changed, so that focus, selection and screen readers are left
// alone.
export function setText(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

// fill writes rows into a table's body, reusing rows and cells. A cell is a string or {text, title, cls, href};
// a row may be {cls, cells}. Without rows it says none in a sentence.
export function fill(table, rows, none) {
  const body = table.tBodies[0];
  const width = table.tHead.rows[0].cells.length;
  if (rows.length === 0) {
    const only = body.rows.length === 1 && body.rows[0].cells.length === 1 ? body.rows[0].cells[0] : null;
    if (only) {
      setText(only, none);
      return;
    }
    const tr = el('tr');
    tr.append(el('td', { colspan: width, class: 'none' }, none));
    body.replaceChildren(tr);
    return;
  }
  if (body.rows.length === 1 && body.rows[0].cells.length === 1) body.replaceChildren();
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((row, i) => {
    const cells = row.cells || row;
    const tr = body.rows[i] || body.insertRow();
    const cls = row.cls || '';
    if (tr.className !== cls) tr.className = cls;
    cells.forEach((cell, j) => {
      const c = typeof cell === 'object' ? cell : { text: String(cell) };
      const td = tr.cells[j] || tr.insertCell();
      const num = table.tHead.rows[0].cells[j].classList.contains('num') ? 'num ' : '';
      const want = (num + (c.cls || '')).trim();
      if (td.className !== want) td.className = want;
      if (c.title) { if (td.title !== c.title) td.title = c.title; } else if (td.title) td.removeAttribute('title');
      const link = td.firstElementChild;
      if (c.href) {
        const a = link || el('a');
        if (a.getAttribute('href') !== c.href) a.setAttribute('href', c.href);
        setText(a, c.text);
        if (!link) td.replaceChildren(a);
      } else if (link) {
        td.replaceChildren(c.text);
      } else {
        setText(td, c.text);
      }
    });
  });
}

// webURL lets through nothing but http and https: a name must not become a script.
export const webURL = (u) => (/^https?:\/\/[^\s]+$/.test(u || '') ? u : '');

// short is the first digits of an id, with the whole in the title.
export const short = (id, n = 8) => ({ text: id ? id.slice(0, n) : '–', title: id || '', cls: 'id' });

// peer ids share their first characters: show the last ones.
export const shortPeer = (id) => ({ text: id ? '…' + id.slice(-8) : '–', title: id || '', cls: 'id' });

// qpu writes knots, a decimal string, as coins. BigInt, because a number loses knots above 2^53.
export function qpu(knots) {
  const n = BigInt(knots || '0');
  const whole = n / 100000000n;
  const rest = (n % 100000000n).toString().padStart(8, '0').replace(/0+$/, '');
  return group(whole.toString()) + (rest ? '.' + rest : '');
}

export const group = (n) => String(n).replace(/\B(?=(\d{3})+(?!\d))/g, ' ');

export function duration(ms) {
  if (!(ms >= 0)) return '–';
  const s = Math.floor(ms / 1000);
  if (ms < 10000) return (ms / 1000).toFixed(1) + ' s';
  if (s < 120) return s + ' s';
  if (s < 7200) return Math.floor(s / 60) + ' min';
  if (s < 172800) return Math.floor(s / 3600) + ' h';
  return Math.floor(s / 86400) + ' days';
}

// ago is a time relative to now with the exact one in the title. t is Unix ms or RFC 3339; Go's zero time is none.
export function ago(t, now = Date.now()) {
  const ms = typeof t === 'number' ? t : Date.parse(t);
  if (!Number.isFinite(ms) || ms <= 0) return { text: '–' };
  const d = new Date(ms);
  const title = Number.isNaN(d.getTime()) ? '' : d.toISOString();
  return ms > now + 1000 ? { text: 'in ' + duration(ms - now), title } : { text: duration(Math.max(0, now - ms)) + ' ago', title };
}

export const clock = (t) => ({ text: new Date(t).toLocaleTimeString(), title: String(t) });

// say writes the summary that screen readers announce: when it changed, and every 2 s at most.
let saidAt = 0;
export function say(text) {
  const now = Date.now();
  if (now - saidAt < 2000) return;
  if ($('summary').textContent !== text) {
    $('summary').textContent = text;
    saidAt = now;
  }
}

export function trouble(text) {
  $('trouble').hidden = !text;
  setText($('trouble'), text || '');
}

// theme cycles system, light, dark and is remembered.
export function theme() {
  const order = ['system', 'light', 'dark'];
  const read = () => { try { return localStorage.getItem('quipu-theme') || 'system'; } catch { return 'system'; } };
  const show = (t) => {
    if (t === 'system') document.documentElement.removeAttribute('data-theme');
    else document.documentElement.setAttribute('data-theme', t);
    setText($('theme'), 'Theme: ' + t);
  };
  let now = read();
  show(now);
  $('theme').addEventListener('click', () => {
    now = order[(order.indexOf(now) + 1) % order.length];
    try { localStorage.setItem('quipu-theme', now); } catch { /* private window: for this visit only */ }
    show(now);
  });
}

// every runs f now and then each ms after it has finished, until paused; it waits while the page is hidden. It
// returns a function that runs f at once.
export function every(ms, f) {
  let paused = false, timer = 0, running = false;
  const turn = async () => {
    clearTimeout(timer);
    if (paused || running) return;
    running = true;
    try {
      if (!document.hidden) {
        await f();
        trouble('');
      }
    } catch (err) {
      trouble('No answer, trying again: ' + err.message);
    }
    running = false;
    if (!paused) timer = setTimeout(turn, ms);
  };
  $('pause').addEventListener('click', () => {
    paused = !paused;
    $('pause').setAttribute('aria-pressed', String(paused));
    setText($('pause'), paused ? 'Resume updates' : 'Pause updates');
    turn();
  });
  document.addEventListener('visibilitychange', turn);
  turn();
  return { now: turn, paused: () => paused };
}
