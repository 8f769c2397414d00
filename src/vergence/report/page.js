(() => {
  "use strict";
  const root = document.documentElement;
  const remembered = {
    // Storage is refused to some files: the page does without.
    get() { try { return localStorage.getItem("vergence-theme"); } catch { return null; } },
    set(theme) { try { localStorage.setItem("vergence-theme", theme); } catch { /* as above */ } },
  };
  const stored = remembered.get();
  if (stored === "light" || stored === "dark") root.dataset.theme = stored;

  const theme = () =>
    root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");

  const switchable = (button) => {
    const name = () => { button.textContent = theme() === "dark" ? "Light theme" : "Dark theme"; };
    button.hidden = false;
    button.addEventListener("click", () => {
      root.dataset.theme = theme() === "dark" ? "light" : "dark";
      remembered.set(root.dataset.theme);
      name();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
    name();
  };

  // Numbers begin with the largest, words with the first letter; the third click restores the order of the page.
  // What was not measured stays last.
  const sortable = (table) => {
    const body = table.tBodies[0];
    const order = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    const value = (row, column) => {
      const cell = row.cells[column];
      if (!cell.classList.contains("number")) return cell.textContent.trim().toLowerCase();
      return cell.dataset.order === "" ? null : Number(cell.dataset.order);
    };
    heads.forEach((head, column) => {
      const button = head.querySelector("button");
      if (!button) return;
      const turns = head.classList.contains("number")
        ? { none: "descending", descending: "ascending", ascending: "none" }
        : { none: "ascending", ascending: "descending", descending: "none" };
      button.addEventListener("click", () => {
        const turn = turns[head.getAttribute("aria-sort")];
        for (const other of heads) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", turn);
        const sign = turn === "descending" ? -1 : 1;
        const compare = (one, other) => {
          const [a, b] = [value(one, column), value(other, column)];
          if (a === null || b === null) return (a === null) - (b === null);
          return sign * (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
        };
        body.append(...(turn === "none" ? order : [...order].sort(compare)));
      });
    });
  };

  // A link into a closed run opens it.
  const reveal = () => {
    let id = "";
    try { id = decodeURIComponent(location.hash.slice(1)); } catch { return; }
    const target = id && document.getElementById(id);
    if (!target) return;
    for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
    target.scrollIntoView();
  };

  const openable = (button, runs) => {
    const name = () => { button.textContent = runs.every((run) => run.open) ? "Close all" : "Open all"; };
    button.hidden = false;
    button.addEventListener("click", () => {
      const open = !runs.every((run) => run.open);
      for (const run of runs) run.open = open;
      name();
    });
    for (const run of runs) run.addEventListener("toggle", name);
  };

  // A table that is wider than its place says so.
  const hinted = new ResizeObserver((entries) => {
    for (const { target } of entries) target.parentElement.classList.toggle("wide", target.scrollWidth > target.clientWidth);
  });

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll(".table > .scroll").forEach((one) => hinted.observe(one));
    switchable(document.getElementById("theme"));
    document.querySelectorAll("table").forEach(sortable);
    const runs = [...document.querySelectorAll("details.run")];
    const all = document.getElementById("all");
    if (all) openable(all, runs);
    reveal();
    let closed = [];
    addEventListener("beforeprint", () => {
      closed = [...document.querySelectorAll("details:not([open])")];
      for (const one of closed) one.open = true;
    });
    addEventListener("afterprint", () => { for (const one of closed) one.open = false; });
  });
  addEventListener("hashchange", reveal);
})();
