"use strict";
// sorts and filters the table that is there; without scripts the page reads the same
{
  const table = document.getElementById("board"), body = table.tBodies[table.tBodies.length - 1];
  const filter = document.getElementById("filter"), status = document.getElementById("status");
  let sorted = null, down = false;

  function key(row, column) {
    const cell = row.cells[column];
    if (column === 0) return cell.dataset.sort;
    const value = parseFloat(cell.dataset.sort);
    return Number.isNaN(value) ? Infinity : value;
  }

  function sort(column) {
    down = sorted === column ? !down : false;
    sorted = column;
    const rows = [...body.rows];
    rows.sort((a, b) => {
      const x = key(a, column), y = key(b, column);
      // what is not known stays last, whichever way
      if (x === Infinity || y === Infinity) return x === y ? 0 : x === Infinity ? 1 : -1;
      const order = typeof x === "string" ? x.localeCompare(y) : x - y;
      return down ? -order : order;
    });
    body.append(...rows);
    for (const [number, head] of [...table.tHead.rows[0].cells].entries())
      head.setAttribute("aria-sort", number !== column ? "none" : down ? "descending" : "ascending");
    status.textContent = "Sorted by " + table.tHead.rows[0].cells[column].dataset.name + (down ? ", worst first" : ", best first");
  }

  function narrow() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of body.rows) {
      const name = row.cells[0].dataset.sort.toLowerCase();
      row.hidden = !words.every((word) => name.includes(word));
      shown += !row.hidden;
    }
    const boxes = [...document.querySelectorAll("input[name=column]")];
    for (const box of boxes)
      for (const row of table.rows) row.cells[Number(box.value)].hidden = !box.checked;
    status.textContent = shown + " of " + body.rows.length + " systems shown";
  }

  for (const [number, button] of [...table.tHead.querySelectorAll("button")].entries())
    button.addEventListener("click", () => sort(number));
  filter.addEventListener("input", narrow);
  for (const box of document.querySelectorAll("input[name=column]")) box.addEventListener("change", narrow);
  document.getElementById("tools").hidden = false;
}
