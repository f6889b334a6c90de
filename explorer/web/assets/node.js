import { $, ago, duration, el, every, fill, group, qpu, say, setText, short, shortPeer, theme, clock } from './lib.js';

// rpc sends a batch of calls and gives their results in the same order, undefined where one failed.
async function rpc(calls) {
  const body = calls.map(([method, params], id) => ({ jsonrpc: '2.0', id, method, params: params || {} }));
  const resp = await fetch('rpc', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) });
  const replies = await resp.json();
  if (!Array.isArray(replies)) throw new Error(replies.error ? replies.error.message : 'HTTP ' + resp.status);
  const out = [];
  for (const r of replies) out[r.id] = r.result;
  return out;
}

function tiles(pairs) {
  const box = $('tiles');
  pairs.forEach(([name, value, title], i) => {
    let div = box.children[i];
    if (!div) {
      div = el('div');
      div.append(el('dt'), el('dd'));
      box.append(div);
    }
    setText(div.children[0], name);
    setText(div.children[1], value);
    div.children[1].title = title || '';
  });
  while (box.children.length > pairs.length) box.lastChild.remove();
}

const events = [];
const MAX_EVENTS = 50;

async function refresh() {
  const [st, blocks, pool, peers, bans] = await rpc([
    ['node_status'], ['chain_blocks', { count: 21 }], ['mempool_list', { max: 50 }], ['peer_list'], ['peer_bans'],
  ]);
  if (!st) throw new Error('the node gave no status');
  const now = Date.now();
  const name = st.name || 'node';
  setText($('name'), name);
  document.title = `${st.tip.height} · quipu ${name}`;
  setText($('network'), `${st.network.name} (${st.network.id.slice(0, 8)}) · ${st.version} · ${st.peer_id}`);
  const failing = st.health.filter((c) => !c.ok);
  const peerCount = st.peers.in + st.peers.out;
  say(`Height ${group(st.tip.height)}, ${st.sync.state === 'synced' ? 'in step' : 'catching up, ' + group(st.sync.behind) + ' blocks behind'}, ` +
    `${peerCount} peers, ${group(st.mempool.txs)} transactions waiting` +
    (failing.length ? '. Not well: ' + failing.map((c) => c.name + (c.detail ? ' (' + c.detail + ')' : '')).join(', ') : ''));
  tiles([
    ['Height, verified here', group(st.tip.height)],
    ['Best header', group(st.best_header.height)],
    ['Tip', st.tip.id.slice(0, 16), st.tip.id],
    ['State root', st.state_root.slice(0, 16), st.state_root],
    ['Tip age', duration(st.tip_age_ms)],
    ['Peers', `${peerCount} (${st.peers.in} in, ${st.peers.out} out)`],
    ['Bans', String(st.bans)],
    ['Waiting', `${group(st.mempool.txs)} + ${group(st.mempool.queued)} queued`],
    ['Pool, bytes', `${group(st.mempool.bytes)} of ${group(st.mempool.max_bytes)}`],
    ['Mining', st.mining.on ? `${group(st.mining.hash_rate)} H/s, ${st.mining.blocks_mined} blocks` : 'no', st.mining.miner],
    ['Coins issued', qpu(st.supply.issued) + ' QPU'],
    ['Up', duration(st.uptime_ms)],
  ]);
  const list = blocks ? blocks.headers : [];
  fill($('blocks'), list.slice(list.length > 20 ? 1 : 0).map((h) => {
    const before = list.find((p) => p.height === h.height - 1);
    return [
      group(h.height), short(h.id, 16), ago(h.time_ms, now), before && before.height > 0 ? duration(h.time_ms - before.time_ms) : '–',
      group(h.tx_count), group(h.body_size), { text: h.height ? h.miner_address.slice(0, 14) + '…' : '–', title: h.miner_address, cls: 'id' },
    ];
  }).reverse(), 'No blocks yet.');
  fill($('pool'), pool ? pool.txs.map((t) => [
    short(t.txid, 16), t.state, short(t.from, 12), t.nonce, qpu(t.amount), qpu(t.fee), group(t.size),
  ]) : [], 'No transaction is waiting.');
  fill($('peers'), peers ? peers.peers.map((p) => [
    shortPeer(p.id), p.direction + (p.static ? ', static' : ''), p.tip ? group(p.height) : '–', short(p.tip), p.ping_us ? (p.ping_us / 1000).toFixed(1) : '–',
    p.score.toFixed(1), ago(p.last_seen, now), { text: p.addr, cls: 'id' },
  ]) : [], 'No peers are connected.');
  fill($('bans'), bans ? bans.bans.map((b) => [
    shortPeer(b.id), { text: b.reason, cls: 'bad' }, { text: b.detail || '', cls: 'wrap' }, ago(b.since, now), ago(b.until, now),
  ]) : [], 'No peer is banned.');
  showEvents();
  if (!stream && st.event_seq !== undefined) listen(Math.max(0, st.event_seq - MAX_EVENTS));
}

function showEvents() {
  fill($('events'), events.map((e) => [
    String(e.seq), clock(e.time), e.kind + (e.height ? ' at ' + e.height : '') + (e.count > 1 ? ' ×' + e.count : ''), short(e.id, 16),
    { text: e.verdict || '', cls: e.verdict === 'reject' ? 'bad' : e.verdict === 'accept' ? 'ok' : '' },
    e.took_us ? group(e.took_us) : '', { text: e.reason || '', cls: 'wrap' },
  ]), 'Nothing has happened since this page was opened.');
}

// The stream brings new events and wakes the refresh; without it the page still polls.
let stream = null, waking = 0;
function listen(since) {
  stream = new EventSource('events?since=' + since);
  stream.onmessage = (m) => {
    const e = JSON.parse(m.data);
    if (events.length && e.seq <= events[0].seq) events.length = 0; // the node was restarted and counts anew
    events.unshift(e);
    events.length = Math.min(events.length, MAX_EVENTS);
    if (!loop.paused() && !waking) waking = setTimeout(() => { waking = 0; loop.now(); }, 500);
  };
}

theme();
const loop = every(2000, refresh);
