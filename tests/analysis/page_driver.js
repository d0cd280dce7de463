// Plays a reader on a page without a browser: just as much of a document as the script asks for.
"use strict";
const fs = require("fs");
const [script, data, plan] = process.argv.slice(2);
const page = require(script);

class Element {
  constructor() { this.listeners = {}; this.hidden = false; this.textContent = ""; this.value = ""; this.rows = []; }
  addEventListener(kind, act) { this.listeners[kind] = act; }
  dispatch(kind, event = {}) { this.listeners[kind]({ preventDefault() {}, ...event }); }
  querySelector() { this.image = this.image || new Element(); return this.image; }
  insertRow() { const row = new Element(); this.rows.push(row); return row; }
  insertCell() { const cell = new Element(); this.rows.push(cell); return cell; }
  blur() {}
  click() { saved.push({ name: this.download, text: blobs[this.href] }); }
}

const stored = {}, saved = [], blobs = {};
function open(storage) {
  const elements = {};
  let clock = 0;
  const waiting = [];
  const document = new Element();
  document.getElementById = (id) => (elements[id] = elements[id] || new Element());
  document.createElement = () => new Element();
  document.activeElement = null;
  document.getElementById("data").textContent = fs.readFileSync(data, "utf8");
  const window = {
    performance: { now: () => (clock += 100) },
    setTimeout: (act) => waiting.push(act),
    confirm: () => true,
    Blob: class { constructor(parts) { this.text = parts.join(""); } },
    URL: {
      createObjectURL: (blob) => { const id = `blob:${Object.keys(blobs).length}`; blobs[id] = blob.text; return id; },
      revokeObjectURL() {},
    },
  };
  Object.defineProperty(window, "localStorage", {
    get() {
      if (!storage) throw new Error("no storage here");
      return { getItem: (k) => stored[k] ?? null, setItem: (k, v) => { stored[k] = v; } };
    },
  });
  page.run(document, window);
  const settle = () => waiting.splice(0).forEach((act) => act());
  return { document, find: document.getElementById, settle };
}

const told = [];
let { document, find, settle } = open(plan !== "no storage");
const look = () => told.push(["intro", "trial", "result"].filter((id) => !find(id).hidden).join());
look();
find("reader").value = '=re"ader';
find("start").dispatch("click");
look();
const total = JSON.parse(find("data").textContent).pairs.length;
const shown = [];
for (let i = 0; i < total; i += 1) {
  shown.push([find("left").image.src, find("right").image.src]);
  told.push(find("count").textContent);
  document.dispatch("keydown", { key: "ArrowLeft" }); // too early: one press of a key is one choice
  settle();
  document.dispatch("keydown", { key: "x" });
  document.dispatch("keydown", { key: "ArrowLeft", repeat: true });
  if (i % 3 === 0) find("right").dispatch("click");
  else document.dispatch("keydown", { key: i % 3 === 1 ? "ArrowRight" : "ArrowLeft" });
  if (i === 1 && plan === "reload") { ({ document, find, settle } = open(true)); look(); }
}
look();
const table = find("rates").rows.map((row) => row.rows.map((cell) => cell.textContent));
find("csv").dispatch("click");
find("json").dispatch("click");
find("again").dispatch("click");
look();
process.stdout.write(JSON.stringify({ told, shown, table, saved, reader: find("reader").value }));
