// Figures, sortable tables, keyboard and live update. Everything that came from a model is put in as text, never as markup.
"use strict";
(() => {
  let tip = null;
  const showTip = (text, x, y) => {
    if (!tip) { tip = document.createElement("div"); tip.className = "tip"; tip.setAttribute("aria-hidden", "true"); document.body.append(tip); }
    tip.textContent = text;
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(innerWidth - width - 8, x + 14))}px`;
    tip.style.top = `${y + height + 22 > innerHeight ? y - height - 10 : y + 16}px`;
  };
  const hideTip = () => { if (tip) tip.hidden = true; };

  // The drawing comes from the server; its marks say what they are, and this adds the mouse and the arrow keys.
  function figures(root) {
    for (const figure of root.querySelectorAll("figure.plot:not([data-ready])")) {
      figure.dataset.ready = "yes";
      const canvas = figure.querySelector(".canvas"), out = figure.querySelector("output");
      const cells = [...canvas.querySelectorAll(".cell")].map((node) => ({ node, panel: node.parentNode }));
      const byNode = new Map(cells.map((c) => [c.node, c]));
      const said = (c) => c.node.dataset.said;
      const go = (c) => { if (c?.node.dataset.href) location.href = c.node.dataset.href; };
      let current = null;
      canvas.addEventListener("mousemove", (e) => {
        const c = byNode.get(e.target);
        if (!c) return hideTip();
        showTip(said(c).replaceAll(" · ", "\n"), e.clientX, e.clientY);
        out.textContent = said(c);
      });
      canvas.addEventListener("mouseleave", hideTip);
      canvas.addEventListener("click", (e) => go(byNode.get(e.target)));
      canvas.addEventListener("keydown", (e) => {
        const step = { ArrowRight: ["x", 1], ArrowLeft: ["x", -1], ArrowDown: ["y", 1], ArrowUp: ["y", -1] }[e.key];
        if (e.key === "Enter") return go(current);
        if (!step || !cells.length) return undefined;
        e.preventDefault();
        e.stopPropagation();
        const next = current ? nearest(cells, current, ...step) : cells[0];
        if (!next) return undefined;
        current?.node.classList.remove("at");
        current = next;
        current.node.classList.add("at");
        out.textContent = said(current);
        return undefined;
      });
    }
  }
  // The next point along one axis, and of several there the nearest along the other; first within its own panel.
  function nearest(cells, from, axis, sign) {
    const middle = (c) => { const r = c.node.getBoundingClientRect(); return { x: r.x + r.width / 2, y: r.y + r.height / 2 }; };
    const here = middle(from), other = axis === "x" ? "y" : "x";
    for (const pool of [cells.filter((c) => c.panel === from.panel), cells]) {
      const ahead = pool.map((c) => [c, middle(c)]).filter(([, at]) => sign * (at[axis] - here[axis]) > 1);
      ahead.sort(([, a], [, b]) => sign * (a[axis] - b[axis]) > 1 || sign * (a[axis] - b[axis]) < -1 ? sign * (a[axis] - b[axis]) : Math.abs(a[other] - here[other]) - Math.abs(b[other] - here[other]));
      if (ahead.length) return ahead[0][0];
    }
    return null;
  }
  // Whatever is folded around the place that an address names is opened.
  function reveal() {
    let node = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const found = node;
    for (; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
    if (found) found.scrollIntoView();
  }

  function tables(root) {
    for (const table of root.querySelectorAll("table.sortable")) {
      table.querySelectorAll("thead th").forEach((th, column) => {
        if (th.querySelector("button") || !th.textContent.trim()) return;
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = th.textContent;
        th.replaceChildren(button);
        button.addEventListener("click", () => {
          const down = th.getAttribute("aria-sort") === "ascending", body = table.tBodies[0];
          const value = (row) => { const cell = row.cells[column]; return cell.dataset.v ?? cell.textContent.trim(); };
          const rows = [...body.rows].map((row) => [value(row), row]);
          const numeric = rows.every(([v]) => v === "" || !Number.isNaN(Number(v)));
          const rank = ([a], [b]) => (a === "") - (b === "") || (down ? -1 : 1) * (numeric ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true }));
          rows.sort(rank);
          table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
          th.setAttribute("aria-sort", down ? "descending" : "ascending");
          body.replaceChildren(...rows.map(([, row]) => row));
        });
      });
    }
  }

  // A selector that finds an element again after its part of the page was replaced.
  function whereIs(node) {
    const inside = node?.closest?.("[data-part]");
    if (!inside) return null;
    const part = `[data-part="${inside.dataset.part}"] `;
    if (node.id) return `#${CSS.escape(node.id)}`;
    if (node.matches("summary")) return `#${CSS.escape(node.parentElement.id)} > summary`;
    if (node.hasAttribute("href")) return `${part}a[href="${CSS.escape(node.getAttribute("href"))}"]`;
    return node.getAttribute("aria-label") ? `${part}[aria-label="${CSS.escape(node.getAttribute("aria-label"))}"]` : null;
  }

  function live() {
    const state = document.querySelector("main[data-live]");
    if (!state) return;
    let seq = Number(state.dataset.seq);
    const last = new Map();
    const poll = async () => {
      try {
        const now = await (await fetch(state.dataset.live)).json();
        if (now.seq !== seq || now.status !== "running") {
          seq = now.seq;
          const at = new URL(location.href), shown = document.querySelector("[data-page]");
          if (now.status !== "running" && shown) at.searchParams.set("page", shown.dataset.page);
          const page = new DOMParser().parseFromString(await (await fetch(at)).text(), "text/html");
          const here = whereIs(document.activeElement);
          const open = new Set([...document.querySelectorAll("details[open][id]")].map((d) => d.id));
          document.querySelectorAll("[data-part]").forEach((old) => {
            const fresh = page.querySelector(`[data-part="${old.dataset.part}"]`);
            if (!fresh || last.get(old.dataset.part) === fresh.outerHTML) return;
            last.set(old.dataset.part, fresh.outerHTML);
            old.replaceWith(fresh);
          });
          open.forEach((id) => { const d = document.getElementById(id); if (d) d.open = true; });
          start(document);
          if (here && document.activeElement === document.body) document.querySelector(here)?.focus({ preventScroll: true });
          if (now.status !== "running") return;
        }
      } catch { /* the server is gone; try again */ }
      setTimeout(poll, 1000);
    };
    setTimeout(poll, 1000);
  }

  function start(root) {
    figures(root);
    tables(root);
    for (const select of root.querySelectorAll("form.choose select")) select.onchange = () => select.form.submit();
  }

  const theme = () => localStorage.getItem("theme");
  const setTheme = (name) => { if (name) document.documentElement.dataset.theme = name; };
  try { setTheme(theme()); } catch { /* a file may have no storage */ }
  document.querySelector("#theme")?.addEventListener("click", () => {
    const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    setTheme(dark ? "light" : "dark");
    try { localStorage.setItem("theme", dark ? "light" : "dark"); } catch { /* as above */ }
  });
  document.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(e.target.tagName)) return;
    if (e.key === "/") {
      const box = document.querySelector("input[type=search]"), elsewhere = document.querySelector(".tabs a[href$='/experiments']") ?? document.querySelector("a.home[href]");
      if (box || elsewhere) e.preventDefault();
      if (box) box.focus();
      else if (elsewhere) location.href = `${elsewhere.getAttribute("href")}#search`;
    }
    if (e.key === "j" || e.key === "k") onward(e.key === "j" ? 1 : -1);
  });
  // The next or previous page or experiment; where there is none a run's tab, or a run of the list.
  function onward(sign) {
    const link = document.querySelector(sign > 0 ? "a[rel=next]" : "a[rel=prev]");
    if (link) return link.click();
    const tabs = [...document.querySelectorAll(".tabs a")], runs = [...document.querySelectorAll("tbody a[href^='/runs/']")];
    const at = tabs.findIndex((t) => t.getAttribute("aria-current") === "page");
    if (tabs.length) return tabs[at < 0 ? (sign > 0 ? 0 : tabs.length - 1) : at + sign]?.click();
    return runs[Math.max(0, Math.min(runs.length - 1, runs.indexOf(document.activeElement) + sign))]?.focus();
  }

  document.addEventListener("fresh", () => start(document));
  start(document);
  if (location.hash === "#search") document.querySelector("input[type=search]")?.focus();
  reveal();
  addEventListener("hashchange", reveal);
  live();
})();
