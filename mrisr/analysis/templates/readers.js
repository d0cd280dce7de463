"use strict";

// What is real is kept out of the markup and out of a casual look at the source; it is no secret.
function decode(text, seed) {
  let state = seed >>> 0;
  const characters = Array.from(atob(text), (c) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return String.fromCharCode(c.charCodeAt(0) ^ (state >>> 24));
  });
  return JSON.parse(characters.join("")); // JSON of ASCII alone
}

// Wilson's 95% interval of k in n.
function wilson(k, n) {
  if (n === 0) return [0, 1];
  const z = 1.959963984540054;
  const p = k / n;
  const middle = p + (z * z) / (2 * n);
  const half = z * Math.sqrt((p * (1 - p)) / n + (z * z) / (4 * n * n));
  const scale = 1 + (z * z) / n;
  return [Math.max(0, (middle - half) / scale), Math.min(1, (middle + half) / scale)];
}

// Fool rate of each setting, and of all: choices are 0 (left) or 1 (right), like key.real.
function rates(key, choices) {
  const rows = [...key.settings, "all"].map((setting) => ({ setting, pairs: 0, fooled: 0 }));
  choices.forEach((choice, i) => {
    for (const row of [rows[key.setting[i]], rows[rows.length - 1]]) {
      row.pairs += 1;
      row.fooled += choice.side === key.real[i] ? 0 : 1;
    }
  });
  return rows.map((row) => {
    const [low, high] = wilson(row.fooled, row.pairs);
    return { ...row, rate: row.pairs ? row.fooled / row.pairs : null, low, high };
  });
}

function csv(key, choices, reader) {
  const quoted = '"' + reader.replace(/^[=+@-]/, "'" + "$&").replace(/"/g, '""') + '"';
  const lines = choices.map((choice, i) => [
    quoted, i + 1, key.settings[key.setting[i]], ["left", "right"][choice.side],
    ["left", "right"][key.real[i]], choice.side === key.real[i] ? 0 : 1, choice.ms,
  ].join(","));
  return ["reader,pair,setting,chosen,real,fooled,milliseconds", ...lines].join("\n") + "\n";
}

function run(document, window) {
  const find = (id) => document.getElementById(id);
  const data = JSON.parse(find("data").textContent);
  const total = data.pairs.length;
  const store = "mrisr-2afc-" + data.id;
  let state = { reader: "", started: false, choices: [] };
  let shown = 0;
  let ready = false;

  try { // a reload goes on where it was; without storage the choices live in memory
    const saved = JSON.parse(window.localStorage.getItem(store));
    if (saved && Array.isArray(saved.choices) && saved.choices.length <= total) state = saved;
  } catch { /* not available */ }

  function save() {
    try { window.localStorage.setItem(store, JSON.stringify(state)); } catch { /* not available */ }
  }

  function show(section) {
    for (const id of ["intro", "trial", "result"]) find(id).hidden = id !== section;
  }

  function proceed() {
    ready = false;
    if (!state.started) { show("intro"); return; }
    const done = state.choices.length;
    if (done === total) { finish(); return; }
    show("trial");
    find("bar").value = done;
    find("count").textContent = `${done + 1} of ${total}`;
    const images = ["left", "right"].map((id) => find(id).querySelector("img"));
    images.forEach((image, side) => { image.src = data.pairs[done][side]; });
    shown = window.performance.now();
    window.setTimeout(() => { ready = true; }, 200); // one press of a key is one choice
  }

  function choose(side) {
    if (!ready) return;
    state.choices.push({ side, ms: Math.round(window.performance.now() - shown) });
    save();
    if (document.activeElement) document.activeElement.blur();
    proceed();
  }

  function finish() {
    show("result");
    const percent = (x) => `${(100 * x).toFixed(0)}%`;
    const body = find("rates");
    body.textContent = "";
    for (const row of rates(decode(data.key, data.seed), state.choices)) {
      const line = body.insertRow();
      const rate = row.rate === null ? "" : percent(row.rate);
      const cells = [row.setting, row.pairs, row.fooled, rate, `${percent(row.low)} to ${percent(row.high)}`];
      for (const text of cells) line.insertCell().textContent = text;
    }
  }

  function download(name, type, text) {
    const link = document.createElement("a");
    link.href = window.URL.createObjectURL(new window.Blob([text], { type }));
    link.download = name;
    link.click();
    window.URL.revokeObjectURL(link.href);
  }

  find("start").addEventListener("click", () => {
    state.reader = find("reader").value;
    state.started = true;
    save();
    proceed();
  });
  find("left").addEventListener("click", () => choose(0));
  find("right").addEventListener("click", () => choose(1));
  document.addEventListener("keydown", (event) => {
    if (find("trial").hidden || event.repeat) return;
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      event.preventDefault();
      choose(event.key === "ArrowLeft" ? 0 : 1);
    }
  });
  find("csv").addEventListener("click", () => {
    download("choices.csv", "text/csv", csv(decode(data.key, data.seed), state.choices, state.reader));
  });
  find("json").addEventListener("click", () => {
    const key = decode(data.key, data.seed);
    const content = { page: data.id, reader: state.reader, rates: rates(key, state.choices), choices: state.choices };
    download("result.json", "application/json", JSON.stringify(content, null, 2));
  });
  find("again").addEventListener("click", () => {
    if (!window.confirm("Forget these choices? Save them first.")) return;
    state = { reader: "", started: false, choices: [] };
    save();
    find("reader").value = "";
    proceed();
  });
  proceed();
}

if (typeof module === "undefined") run(document, window);
else module.exports = { csv, decode, rates, run, wilson };
