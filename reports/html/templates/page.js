"use strict";
// A click on a heading sorts by it: ascending, descending, and as it was. Cells without a number come last either way.
const collator = new Intl.Collator("en", { numeric: true });
const MISSING = "—";

function keyOf(row, column, byNumber) {
  const cell = row.cells[column];
  if (byNumber) return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
  const text = cell.textContent.trim();
  return text === MISSING ? null : text;
}

function ordered(rows, column, byNumber, direction) {
  const keyed = rows.map((row) => [keyOf(row, column, byNumber), row]);
  const known = keyed.filter(([key]) => key !== null);
  const rest = keyed.filter(([key]) => key === null);
  known.sort(([a], [b]) => direction * (byNumber ? a - b : collator.compare(a, b)));
  return [...known, ...rest].map(([, row]) => row);
}

for (const hint of document.querySelectorAll(".hint")) hint.hidden = false;

for (const table of document.querySelectorAll("table.data")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const headings = [...table.tHead.rows[0].cells];
  if (original.length < 2) continue;

  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const before = heading.getAttribute("aria-sort");
      const sort = before === null ? "ascending" : before === "ascending" ? "descending" : null;
      for (const other of headings) other.removeAttribute("aria-sort");
      table.classList.toggle("sorted", sort !== null);
      if (sort === null) return body.replaceChildren(...original);
      heading.setAttribute("aria-sort", sort);
      const direction = sort === "ascending" ? 1 : -1;
      body.replaceChildren(...ordered(original, column, heading.dataset.by === "number", direction));
    });
  });
}
