"use strict";

const table = document.getElementById("table");
const [find, state, count, volume] = ["find", "state", "count", "volume"].map((id) => document.getElementById(id));

// A number where both are numbers, else by words; what is missing comes last in either direction.
function compare(a, b, direction) {
  if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
  const numbers = a !== "" && b !== "" && !Number.isNaN(Number(a)) && !Number.isNaN(Number(b));
  return direction * (numbers ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true }));
}

function sort(event) {
  const head = event.target.closest("th");
  const order = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  for (const other of table.querySelectorAll("[aria-sort]")) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", order);
  const value = (row) => row.cells[head.cellIndex].dataset.v;
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => compare(value(a), value(b), order === "ascending" ? 1 : -1));
  table.tBodies[0].append(...rows);
}

function filter() {
  const wanted = find.value.trim().toLowerCase();
  const rows = [...table.tBodies[0].rows];
  for (const row of rows) {
    const fits = row.textContent.toLowerCase().includes(wanted);
    row.hidden = !fits || (state.value && row.dataset.state !== state.value);
  }
  count.value = `${rows.filter((row) => !row.hidden).length} of ${rows.length} studies`;
}

// Of the columns that each volume has, one is seen.
function choose() {
  document.getElementById("chosen").textContent =
    `.studies [data-volume]:not([data-volume=${JSON.stringify(volume.value)}]) { display: none; }`;
}

if (table) {
  for (const button of table.querySelectorAll(".sort")) button.addEventListener("click", sort);
  find.addEventListener("input", filter);
  state.addEventListener("change", filter);
  filter(); // a browser may have kept what was typed
  volume?.addEventListener("change", choose);
  if (volume) choose();
}
