"use strict";
(() => {
  const say = (text) => { document.getElementById("status").textContent = text; };

  // Sorting: a first click puts the best-known order first, numbers from high to low.
  const key = (row, i) => {
    const cell = row.cells[i];
    if (i === 0) return cell.textContent.trim();
    return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
  };
  const sort = (head) => {
    const table = head.closest("table");
    const i = head.cellIndex;
    const now = head.getAttribute("aria-sort");
    const first = i === 0 ? "ascending" : "descending";
    const other = first === "ascending" ? "descending" : "ascending";
    const next = now === first ? other : first;
    for (const th of head.parentElement.cells) th.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", next);
    const sign = next === "ascending" ? 1 : -1;
    const rows = Array.from(table.tBodies[0].rows).sort((a, b) => {
      const x = key(a, i), y = key(b, i);
      if (x === null || y === null) return (x === null) - (y === null); // what has no value is last
      return sign * (i === 0 ? x.localeCompare(y) : x - y);
    });
    table.tBodies[0].append(...rows);
    say(`sorted by ${head.textContent.trim()}, ${next}`);
  };
  for (const button of document.querySelectorAll("thead button")) {
    button.addEventListener("click", () => sort(button.closest("th")));
  }

  // A link to a population opens it.
  const follow = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.tagName === "DETAILS") {
      target.open = true;
      target.scrollIntoView();
      target.querySelector("summary").focus({ preventScroll: true });
    }
  };
  window.addEventListener("hashchange", follow);
  follow();

  const all = (open) => () => {
    for (const entry of document.querySelectorAll("details.entry")) entry.open = open;
  };
  document.getElementById("open-all").addEventListener("click", all(true));
  document.getElementById("close-all").addEventListener("click", all(false));

  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", async () => {
      const code = button.parentElement.querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
        say("copied");
        button.textContent = "Copied";
      } catch {
        // A page opened from disk may not be allowed to: select it, so that a key copies it.
        getSelection().selectAllChildren(code);
        button.textContent = "Selected";
      }
    });
  }
})();
