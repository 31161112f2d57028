/* Tables that sort: a click on a head sorts by its column, another one turns the order round.

   Numbers are compared as numbers, everything else as words; what has no value stays last. */
"use strict";

(() => {
  /** The number that a cell begins with; NaN where it is a word. */
  function numberIn(text) {
    return parseFloat(text.trim().replace(/−/g, "-").replace(/,(?=\d{3})/g, "").replace(/^<\s*/, ""));
  }

  function compare(a, b) {
    const [x, y] = [numberIn(a), numberIn(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.trim().localeCompare(b.trim()) : x - y;
  }

  const isEmpty = text => ["", "–"].includes(text.trim());

  function sort(table, column, descending) {
    const body = table.tBodies[0];
    const text = line => line.cells[column].textContent;
    const filled = [...body.rows].filter(line => !isEmpty(text(line)));
    const empty = [...body.rows].filter(line => isEmpty(text(line)));
    filled.sort((a, b) => compare(text(a), text(b)) * (descending ? -1 : 1));
    body.append(...filled, ...empty);
  }

  /** Heads above single columns, from left to right: those in the last line, or that reach down to it. */
  function headsOf(table) {
    const lines = [...table.tHead.rows];
    const reaching = lines.slice(0, -1).flatMap(line => [...line.cells]).filter(head => head.rowSpan > 1);
    return [...reaching, ...lines.at(-1).cells];
  }

  function makeSortable(table) {
    const heads = headsOf(table);
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const first = head.classList.contains("number") || head.classList.contains("source") ? "descending" : "ascending";
        const other = first === "descending" ? "ascending" : "descending";
        const order = head.getAttribute("aria-sort") === first ? other : first;
        heads.forEach(each => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", order);
        sort(table, column, order === "descending");
      });
    });
  }

  for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);
})();
