/* Sorts tables, opens questions that are linked to, and all of them for printing. */
"use strict";

(() => {
  /** The number that a cell begins with; NaN if it begins with a word. */
  function numberIn(text) {
    return parseFloat(text.trim().replace(/−/g, "-").replace(/,(?=\d{3})/g, "").replace(/^<\s*/, ""));
  }

  function compare(a, b) {
    const [x, y] = [numberIn(a), numberIn(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.trim().localeCompare(b.trim()) : x - y;
  }

  const isEmpty = text => ["", "—"].includes(text.trim());

  /** Numbers are compared as numbers, everything else as words; empty cells stay last. */
  function sort(table, column, descending) {
    const text = line => line.cells[column].textContent;
    const lines = [...table.tBodies[0].rows];
    const filled = lines.filter(line => !isEmpty(text(line)));
    filled.sort((a, b) => compare(text(a), text(b)) * (descending ? -1 : 1));
    table.tBodies[0].append(...filled, ...lines.filter(line => isEmpty(text(line))));
  }

  /** A click on a heading sorts by its column; another one reverses the order. */
  function makeSortable(table) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const [first, other] = head.classList.contains("number") ? ["descending", "ascending"] : ["ascending", "descending"];
        const order = head.getAttribute("aria-sort") === first ? other : first;
        heads.forEach(each => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", order);
        sort(table, column, order === "descending");
      });
    });
  }

  /** Opens the question that the address names. */
  function openNamed() {
    const named = document.getElementById(decodeURIComponent(location.hash.slice(1).split("?")[0]));
    if (named?.matches("details")) named.open = true;
  }

  for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);
  window.addEventListener("hashchange", openNamed);
  window.addEventListener("beforeprint", () => {
    for (const question of document.querySelectorAll("details.question")) question.open = true;
  });
  openNamed();
})();
