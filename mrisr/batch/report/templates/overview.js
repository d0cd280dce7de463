"use strict";

// A number where both are numbers, else by words; what is missing comes last in either direction.
function compare(a, b, direction) {
  if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
  const [x, y] = [Number(a), Number(b)];
  const numbers = a !== "" && b !== "" && !Number.isNaN(x) && !Number.isNaN(y);
  return direction * (numbers ? x - y : a.localeCompare(b, "en", { numeric: true }));
}

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const order = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      for (const other of heads) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", order);
      const value = (row) => row.cells[column].dataset.v;
      const direction = order === "ascending" ? 1 : -1;
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => compare(value(a), value(b), direction));
      table.tBodies[0].append(...rows);
    });
  });
}

function filterable(table, find, state, count) {
  const rows = [...table.tBodies[0].rows].map((row) => [row, row.textContent.toLowerCase()]);
  function apply() {
    const wanted = find.value.trim().toLowerCase();
    let shown = 0;
    for (const [row, text] of rows) {
      const fits = text.includes(wanted) && (!state.value || row.dataset.state === state.value);
      row.hidden = !fits;
      shown += fits;
    }
    count.value = `${shown} of ${rows.length} studies`;
  }
  find.addEventListener("input", apply);
  state.addEventListener("change", apply);
  apply(); // a browser may have kept what was typed
}

function choosable(table, choice) {
  const style = document.createElement("style");
  document.head.append(style);
  function apply() {
    style.textContent = `.studies [data-volume]:not([data-volume=${JSON.stringify(choice.value)}]) { display: none; }`;
  }
  choice.addEventListener("change", apply);
  apply();
}

const table = document.getElementById("table");
if (table) {
  const find = (id) => document.getElementById(id);
  sortable(table);
  filterable(table, find("find"), find("state"), find("count"));
  if (find("volume")) choosable(table, find("volume"));
}
