// The sample browser of a page. Everything that came from outside is put in as text, never as markup.
'use strict';
(() => {
  const byId = (id) => document.getElementById(id);
  const HEIGHT = 30; // of a row, as page.css has it
  const SHOWN = 20000; // letters of a long text that are shown at first
  const WORDS = ['wrong', 'right', 'partly', 'unscored', 'no answer', 'failed'];
  const SIGNS = ['✗', '✓', '◐', '?', '∅', '!'];
  const FILTERS = [['all', 'a', null], ['right', 'r', [1]], ['wrong', 'w', [0, 4]], ['partly', 'p', [2]], ['unscored', 'u', [3]], ['failed', 'e', [5]]];
  const SORTS = [['place', 'order of the data'], ['latency', 'latency'], ['sure', 'confidence'], ['length', 'length of the answer'], ['value', 'score']];

  // ---- text that can't do anything
  const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;
  const textOf = (parent, text) => {
    let from = 0;
    for (const found of text.matchAll(HIDDEN)) {
      parent.append(text.slice(from, found.index));
      const mark = document.createElement('span');
      mark.className = 'mark';
      mark.textContent = 'U+' + found[0].charCodeAt(0).toString(16).toUpperCase().padStart(4, '0');
      parent.append(mark);
      from = found.index + 1;
    }
    parent.append(text.slice(from));
    return parent;
  };
  const make = (name, inside, className) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    for (const part of Array.isArray(inside) ? inside : [inside]) {
      if (part === undefined || part === null || part === '') continue;
      if (part instanceof Node) made.append(part);
      else textOf(made, String(part));
    }
    return made;
  };
  const long = (text) => {
    const whole = typeof text === 'string' ? text : JSON.stringify(text, null, 1);
    if (whole.length <= SHOWN) return make('pre', whole);
    const shown = make('pre', whole.slice(0, SHOWN));
    const more = make('button', `show all ${whole.length.toLocaleString('en')} letters`);
    more.addEventListener('click', () => {
      shown.replaceChildren();
      textOf(shown, whole);
      more.remove();
    });
    return make('div', [shown, more]);
  };
  const folded = (title, build, open) => {
    const box = make('details', make('summary', title));
    const fill = () => { if (box.children.length === 1) box.append(build()); };
    if (open) { box.open = true; fill(); } else box.addEventListener('toggle', fill, { once: true });
    return box;
  };
  const number = (value) => value === null || value === undefined ? '–' : Math.abs(value) >= 100 ? value.toFixed(0) : String(+value.toPrecision(4));

  // ---- blocks: base64 of gzip of JSON, or of a WAV file
  const bytesOf = (id) => {
    const block = byId(id);
    if (!block) return null;
    const raw = atob(block.textContent);
    const bytes = new Uint8Array(raw.length);
    for (let at = 0; at < raw.length; at++) bytes[at] = raw.charCodeAt(at);
    return bytes;
  };
  const open = async (id) => {
    const bytes = bytesOf(id);
    if (!bytes) throw new Error(`the page has no block ${id}: it was not saved whole`);
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip')));
  };
  const unpack = async (id) => (await open(id)).json();
  const recent = new Map();
  const blockOf = async (number) => {
    if (!recent.has(number)) {
      recent.set(number, unpack('d' + number));
      if (recent.size > 8) recent.delete(recent.keys().next().value);
    }
    return recent.get(number);
  };

  // ---- what is listed
  const all = { id: [], about: [], verdict: [], value: [], latency: [], sure: [], length: [], groups: [], block: [], at: [] };
  let about, listed = [], selected = -1, texts = null, search = 0;
  const wanted = { verdict: null, groups: new Map(), text: '', sort: 'place', down: false };

  const passes = (row) => {
    if (wanted.verdict && !wanted.verdict.includes(all.verdict[row])) return false;
    for (const [key, member] of wanted.groups) if (all.groups[row][key] !== member) return false;
    return true;
  };
  const says = (row) => all.id[row].toLowerCase().includes(wanted.text) || all.about[row].toLowerCase().includes(wanted.text);
  const show = () => {
    const kept = [];
    for (let row = 0; row < all.id.length; row++) {
      if (passes(row) && (!wanted.text || says(row) || (texts && texts.has(row)))) kept.push(row);
    }
    if (wanted.sort !== 'place') {
      const column = all[wanted.sort];
      const last = wanted.down ? -Infinity : Infinity;
      const of = (row) => column[row] === null || column[row] === undefined ? last : column[row];
      kept.sort((a, b) => (wanted.down ? of(b) - of(a) : of(a) - of(b)) || a - b);
    } else if (wanted.down) kept.reverse();
    listed = kept;
    byId('rows').style.height = `${listed.length * HEIGHT}px`;
    byId('count').textContent = `${listed.length.toLocaleString('en')} of ${all.id.length.toLocaleString('en')} samples`;
    draw();
  };
  const draw = () => {
    const list = byId('list');
    const first = Math.max(0, Math.floor(list.scrollTop / HEIGHT) - 5);
    const last = Math.min(listed.length, first + Math.ceil((list.clientHeight || 600) / HEIGHT) + 10);
    const rows = [];
    for (let place = first; place < last; place++) {
      const row = listed[place];
      const sign = make('span', SIGNS[all.verdict[row]], all.verdict[row] === 1 ? 'good' : all.verdict[row] === 3 ? 'pale' : 'bad');
      sign.title = WORDS[all.verdict[row]];
      const side = { latency: 'latency', sure: 'sure', length: 'length', value: 'value', place: 'latency' }[wanted.sort];
      const line = make('div', [sign, make('span', all.id[row]), make('span', all.about[row], 'pale'), make('span', number(all[side][row]), 'n')], 'row');
      line.setAttribute('role', 'option');
      line.setAttribute('aria-selected', String(row === selected));
      line.style.top = `${place * HEIGHT}px`;
      line.addEventListener('click', () => choose(row));
      rows.push(line);
    }
    byId('rows').replaceChildren(...rows);
  };

  // ---- one sample
  const role = (message) => {
    const box = make('div', make('b', message.role || 'user'), 'turn');
    if (message.thinking) box.append(folded('reasoning', () => long(message.thinking)));
    for (const part of message.parts || []) {
      if (part.text !== undefined) box.append(long(part.text));
      else if (part.clip !== undefined) box.append(make('p', `🔊 clip ${part.clip}`, 'pale'));
      else box.append(long(part));
    }
    if (typeof message.content === 'string') box.append(long(message.content));
    if (message.tool_calls && message.tool_calls.length) box.append(folded(`tool calls (${message.tool_calls.length})`, () => long(message.tool_calls), true));
    return box;
  };
  const turn = (message) => message.role === 'system' ? folded('system', () => role(message)) : role(message);
  const options = (record) => {
    const found = record.reply.options;
    const known = found.map((option) => option.loglik).filter((loglik) => loglik !== null);
    const most = Math.max(...known);
    const sum = known.reduce((sum, loglik) => sum + Math.exp(loglik - most), 0);
    const names = record.choices && record.choices.length === found.length ? record.choices : (record.prompt && record.prompt.want && record.prompt.want.options) || [];
    const rows = found.map((option, place) => {
      const share = option.loglik === null ? 0 : Math.exp(option.loglik - most) / sum;
      const bar = document.createElement('meter');
      bar.value = share;
      const best = option.loglik === most;
      const told = `${place + 1}${best ? ' ← chosen' : ''}`;
      return make('tr', [make('td', told), make('td', names[place] === undefined ? '' : names[place]), make('td', bar), make('td', share.toFixed(4), 'n'), make('td', number(option.loglik), 'n'), make('td', option.tokens, 'n')]);
    });
    const head = make('tr', ['', 'option', '', 'probability', 'log-likelihood', 'tokens'].map((name) => make('th', name)));
    return make('div', make('table', [head, ...rows]), 'wide');
  };
  const clip = (info, place) => {
    const box = make('div', make('p', `clip ${place}: ${number(info.seconds)} s at ${info.rate} Hz, sha256 ${info.sha256.slice(0, 12)}`));
    for (const warning of info.warnings || []) box.append(make('p', warning, 'bad'));
    if (info.ears) box.append(make('p', `${info.ears.model} heard:`, 'pale'), long(info.ears.words));
    const bytes = bytesOf('c' + info.sha256);
    if (!bytes) return box;
    const player = document.createElement('audio');
    player.controls = true;
    player.src = URL.createObjectURL(new Blob([bytes], { type: 'audio/wav' }));
    const wave = document.createElement('canvas');
    wave.width = 840; wave.height = 144;
    const samples = new Int16Array(bytes.buffer.slice(44));
    const pen = wave.getContext('2d');
    pen.fillStyle = getComputedStyle(document.documentElement).getPropertyValue('--link');
    for (let x = 0; x < wave.width; x++) {
      const from = Math.floor(x * samples.length / wave.width);
      const to = Math.max(from + 1, Math.floor((x + 1) * samples.length / wave.width));
      let low = 0, high = 0;
      for (let at = from; at < to && at < samples.length; at++) { low = Math.min(low, samples[at]); high = Math.max(high, samples[at]); }
      const top = 72 - high / 32768 * 70, bottom = 72 - low / 32768 * 70;
      pen.fillRect(x, top, 1, Math.max(1, bottom - top));
    }
    box.append(player, wave);
    return box;
  };
  const score = (name, entry) => {
    const values = Object.entries(entry.values || {}).map(([key, value]) => `${key} ${number(value)}`).join(', ');
    const box = make('div', [make('b', name), ` ${entry.status}`, values ? `: ${values}` : '']);
    if (entry.answer !== undefined && entry.answer !== null) box.append(make('p', ['answer understood: ', make('code', entry.answer)]));
    if (entry.reason) box.append(long(entry.reason));
    const graders = Object.entries(entry.graders || {}).map(([role, grader]) => `${role}: ${grader.model || 'nobody'}`).join(', ');
    if (graders) box.append(make('p', `asked ${graders}`, 'pale'));
    if (entry.details && Object.keys(entry.details).length) box.append(folded('details', () => long(entry.details)));
    if (entry.error) box.append(make('p', `${entry.error.code}: ${entry.error.message}`, 'bad'));
    return box;
  };
  const detail = (record, row) => {
    const one = [];
    const verdict = all.verdict[row];
    one.push(make('h3', [make('span', `${SIGNS[verdict]} ${WORDS[verdict]} `, verdict === 1 ? 'good' : 'bad'), record.sample_id]));
    const facts = [`place ${record.doc_id}`];
    if (record.chain) facts.push(`chain ${record.chain}`);
    if (record.variant) facts.push(`variant ${record.variant}`);
    for (const [key, member] of Object.entries(record.groups || {})) facts.push(`${key}=${member}`);
    facts.push(`input ${record.input}`, `${number(record.latency_ms)} ms`, `${record.prompt_tokens} tokens read, ${record.generated_tokens} written`);
    one.push(make('p', facts.join(' · '), 'pale'));
    if (record.flags && record.flags.length) one.push(make('p', `flags: ${record.flags.join(', ')}`, 'bad'));
    if (record.error) {
      one.push(make('p', `${record.error.code}: ${record.error.message}`, 'bad'));
      for (const cause of record.error.causes || []) one.push(make('p', `caused by: ${cause}`));
      if (record.error.help) one.push(make('p', `hint: ${record.error.help}`));
    }
    one.push(make('p', ['target: ', make('code', typeof record.target === 'string' ? record.target : JSON.stringify(record.target))]));
    if (record.audio && record.audio.length) one.push(make('h3', 'Clips'), ...record.audio.map(clip));
    one.push(make('h3', record.prompt ? 'Prompt as given' : 'No prompt was kept'));
    if (record.prompt) {
      if (record.prompt.tools && record.prompt.tools.length) one.push(folded(`tools (${record.prompt.tools.length})`, () => long(record.prompt.tools)));
      one.push(...(record.prompt.messages || []).map(turn));
    }
    if (record.reply) {
      one.push(make('h3', 'Reply'));
      if (record.reply.thinking) one.push(folded('reasoning', () => long(record.reply.thinking)));
      if (record.reply.options && record.reply.options.length) one.push(options(record));
      else one.push(long(record.reply.text || ''));
      if (record.reply.tool_calls && record.reply.tool_calls.length) one.push(folded('tool calls', () => long(record.reply.tool_calls), true));
      if (record.reply.alternatives && record.reply.alternatives.length) one.push(folded('other answers', () => long(record.reply.alternatives)));
    }
    const scores = Object.entries(record.scores || {});
    one.push(make('h3', scores.length ? 'Scores' : 'Nobody has scored it yet'), ...scores.map(([name, entry]) => score(name, entry)));
    one.push(folded('everything that the page holds of it', () => long(record)));
    return one;
  };
  const choose = async (row) => {
    selected = row;
    const place = listed.indexOf(row);
    const list = byId('list');
    if (place >= 0) {
      const top = place * HEIGHT;
      if (top < list.scrollTop) list.scrollTop = top;
      else if (top + HEIGHT > list.scrollTop + list.clientHeight) list.scrollTop = top + HEIGHT - list.clientHeight;
    }
    draw();
    history.replaceState(null, '', '#sample=' + encodeURIComponent(all.id[row]));
    try {
      const record = (await blockOf(all.block[row]))[all.at[row]];
      if (selected === row) { byId('one').replaceChildren(...detail(record, row)); byId('one').scrollTop = 0; }
    } catch (why) {
      byId('one').replaceChildren(make('p', String(why), 'bad'));
    }
  };
  const step = (by) => {
    if (!listed.length) return;
    const place = listed.indexOf(selected);
    choose(listed[Math.min(listed.length - 1, Math.max(0, place + by))]);
  };

  // ---- text search: the list at once, then the whole records, block by block
  const scan = async () => {
    const mine = ++search;
    texts = new Set();
    const words = wanted.text;
    show();
    if (words.length < 2) { byId('searched').textContent = ''; return; }
    for (let block = 0; block < about.blocks; block++) {
      const records = await unpack('d' + block);
      if (mine !== search) return;
      let found = false;
      records.forEach((record, at) => {
        if (JSON.stringify(record).toLowerCase().includes(words)) { texts.add(about.firsts[block] + at); found = true; }
      });
      if (found || block + 1 === about.blocks) show();
      byId('searched').textContent = block + 1 < about.blocks ? `searching whole texts: ${Math.round(100 * (block + 1) / about.blocks)} %` : '';
    }
  };

  const start = async () => {
    about = await unpack('about');
    if (!about.rows) { byId('count').textContent = 'no sample is recorded yet'; return; }
    const press = (word) => {
      wanted.verdict = FILTERS.find(([name]) => name === word)[2];
      for (const button of byId('verdicts').children) button.setAttribute('aria-pressed', String(button.dataset.word === word));
      show();
    };
    for (const [word, key, codes] of FILTERS) {
      const count = codes ? codes.reduce((sum, code) => sum + about.verdicts[code], 0) : about.rows;
      const button = make('button', `${word} ${count.toLocaleString('en')}`);
      button.dataset.word = word;
      button.title = `key ${key}`;
      button.setAttribute('aria-pressed', String(!codes));
      button.addEventListener('click', () => press(word));
      byId('verdicts').append(button);
    }
    about.groups.forEach((group, key) => {
      const select = make('select', [make('option', `${group.name}: all`), ...group.members.map((member) => make('option', member))]);
      select.setAttribute('aria-label', group.name);
      select.dataset.group = group.name;
      select.addEventListener('change', () => {
        if (select.selectedIndex) wanted.groups.set(key, select.selectedIndex - 1); else wanted.groups.delete(key);
        show();
      });
      byId('groups').append(select);
    });
    const sort = byId('sort');
    for (const [name, words] of SORTS) { const option = make('option', words); option.value = name; sort.append(option); }
    sort.addEventListener('change', () => { wanted.sort = sort.value; show(); });
    byId('down').addEventListener('click', () => { wanted.down = !wanted.down; byId('down').textContent = wanted.down ? '↓' : '↑'; show(); });
    let waiting;
    byId('find').addEventListener('input', () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => { wanted.text = byId('find').value.toLowerCase(); scan(); }, 150);
    });
    byId('list').addEventListener('scroll', () => requestAnimationFrame(draw));
    document.addEventListener('keydown', (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) { if (event.key === 'Escape') event.target.blur(); return; }
      const filter = FILTERS.find(([, key]) => key === event.key);
      if (filter) press(filter[0]);
      else if (event.key === 'j' || (event.key === 'ArrowDown' && event.target.id !== 'one')) step(1);
      else if (event.key === 'k' || (event.key === 'ArrowUp' && event.target.id !== 'one')) step(-1);
      else if (event.key === 'g') step(-listed.length);
      else if (event.key === 'G') step(listed.length);
      else if (event.key === '/') byId('find').focus();
      else return;
      event.preventDefault();
    });
    for (let part = 0; part < about.parts; part++) {
      const rows = await unpack('i' + part);
      for (const name of Object.keys(all)) for (const value of rows[name]) all[name].push(value);
      if (part === 0 || part + 1 === about.parts) show();
    }
    byId('browser').dataset.ready = 'yes';
    const linked = /^#sample=(.*)$/.exec(location.hash);
    const row = linked ? all.id.indexOf(decodeURIComponent(linked[1])) : -1;
    if (row >= 0) choose(row); else if (listed.length) choose(listed[0]);
    if (row >= 0) byId('browser').scrollIntoView();
  };

  document.addEventListener('DOMContentLoaded', () => {
    byId('theme').addEventListener('click', () => {
      const root = document.documentElement;
      const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
      root.dataset.theme = dark ? 'light' : 'dark';
    });
    if (!byId('browser')) return;
    start().catch((why) => { byId('count').textContent = String(why); });
  });
})();
