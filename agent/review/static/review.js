// Figures, sortable tables, keyboard and live update. Everything that came from a model is put in as text, never as markup.
"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const CIVIDIS = ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"];
  const DIVERGING = ["#2d004b", "#552d85", "#8073ac", "#b2abd2", "#d8daeb", "#f7f7f7", "#fee0b6", "#fdb863", "#e08214", "#b35806", "#7f3b08"];
  const SERIES = ["var(--bar)", "var(--bar2)", "#009e73", "#cc79a7", "#d55e00", "#7f7fff"];
  const DASHES = ["", "6 3", "2 3", "8 3 2 3", "10 4", "4 2"];

  const make = (name, attributes = {}, text = null) => {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== null) node.textContent = text;
    return node;
  };
  const number = (v, unit) => {
    if (v === null || v === undefined) return "";
    if (unit === "share of examples") return Math.abs(v) >= 0.1 || v === 0 ? `${(100 * v).toFixed(0)}%` : `${(100 * v).toFixed(1)}%`;
    if (Number.isInteger(v)) return v.toLocaleString("en");
    return String(Number(v.toPrecision(3)));
  };
  const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  const scale = ([low, high]) => {
    const stops = (low < 0 && Math.abs(low + high) < 1e-9 * high + 1e-12 ? DIVERGING : CIVIDIS).map(rgb);
    return (v) => {
      const t = Math.min(1, Math.max(0, high > low ? (v - low) / (high - low) : 0.5)) * (stops.length - 1);
      const i = Math.min(stops.length - 2, Math.floor(t));
      return stops[i].map((c, k) => Math.round(c + (t - i) * (stops[i + 1][k] - c)));
    };
  };
  const describe = (plot, p, row, column) => {
    const lines = [];
    const where = [plot.rowName && row !== "∅" ? `${plot.rowName} ${row}` : "", `${plot.columnName} ${column}`].filter(Boolean).join(", ");
    lines.push(where);
    if (p.t !== undefined) lines.push(`top token “${p.t}”`);
    let text = `${plot.name} ${number(p.v, plot.unit)}`;
    if (p.lo !== undefined) text += ` (95% interval ${number(p.lo, plot.unit)} to ${number(p.hi, plot.unit)}, n=${p.n})`;
    else text += ` (n=${p.n})`;
    lines.push(text);
    if (plot.unit !== "share of examples") lines.push(plot.unit);
    if (p.cv !== undefined) {
      const range = p.clo !== undefined ? ` [${number(p.clo, plot.unit)}, ${number(p.chi, plot.unit)}]` : "";
      lines.push(`control ${number(p.cv, plot.unit)}${range}: ${p.ck}`);
    }
    return lines.join("\n");
  };
  const short = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);
  const widest = (labels, length) => Math.max(0, ...labels.map((l) => Math.min(l.length, length))) * 6.4;

  function heat(plot, svg, cells, room) {
    const left = Math.max(30 + widest(plot.rows, 34), 0.82 * widest(plot.columns.slice(0, 1), 24) - 20), text = plot.points.some((r) => r.some((p) => p && p.t !== undefined));
    const w = Math.max(text ? 50 : 30, Math.min(text ? 72 : 58, Math.floor((room - left - 100) / plot.columns.length))), h = 24;
    const slanted = widest(plot.columns, 24) + 4 > w, above = 8, color = scale(plot.limits);
    const count = plot.rows.length * plot.columns.length, whole = plot.points.every((line) => line.every((p) => !p || Number.isInteger(p.v)));
    plot.points.forEach((line, i) => line.forEach((p, j) => {
      if (!p) return;
      const [r, g, b] = color(p.v), x = left + j * w, y = above + i * h;
      const cell = make("rect", { x, y, width: w - 1, height: h - 1, fill: `rgb(${r},${g},${b})`, class: "cell" });
      svg.append(cell);
      cells.push({ node: cell, p, i, j });
      if (count <= 600 && w >= 30) {
        const dark = 0.299 * r + 0.587 * g + 0.114 * b < 128;
        const label = make("text", { x: x + w / 2, y: y + h / 2 + 4, "text-anchor": "middle", "pointer-events": "none" },
          p.t !== undefined ? short(p.t, 9) : whole ? String(p.v) : (p.v + 0).toFixed(2).replace("-0.00", "0.00"));
        label.style.fill = dark ? "#fff" : "#000";
        svg.append(label);
      }
    }));
    plot.rows.forEach((r, i) => svg.append(make("text", { x: left - 6, y: above + i * h + h / 2 + 4, "text-anchor": "end" }, short(r, 34))));
    const base = above + plot.rows.length * h, deep = slanted ? 20 + 0.6 * widest(plot.columns, 24) : 18;
    plot.columns.forEach((c, j) => {
      const x = left + j * w + w / 2, y = base + 14;
      svg.append(slanted ? make("text", { x, y, transform: `rotate(-35 ${x} ${y})`, "text-anchor": "end" }, short(c, 24))
        : make("text", { x, y, "text-anchor": "middle" }, c));
    });
    svg.append(make("text", { x: left, y: base + deep + 16, class: "axis" }, plot.columnName));
    if (plot.rowName) svg.append(make("text", { x: 12, y: above, class: "axis", transform: `rotate(-90 12 ${above})`, "text-anchor": "end" }, plot.rowName));
    const wide = left + plot.columns.length * w, [low, high] = plot.limits;
    for (let k = 0; k < 24; k += 1) {
      const [r, g, b] = color(low + ((high - low) * k) / 23);
      svg.append(make("rect", { x: wide + 16, y: above + ((23 - k) * 96) / 24, width: 12, height: 4.4, fill: `rgb(${r},${g},${b})` }));
    }
    svg.append(make("text", { x: wide + 34, y: above + 9 }, number(high, plot.unit)), make("text", { x: wide + 34, y: above + 97 }, number(low, plot.unit)));
    return [wide + 100, Math.max(base + deep + 26, 120, plot.rowName.length * 6.4 + 20)];
  }

  // Room at the left for the first label, should it have to slant.
  const margin = (plot) => Math.max(70, 0.82 * widest(plot.columns.slice(0, 1), 36) - 10);

  function axes(plot, svg, width, height, left, above) {
    const [low, high] = plot.limits, log = plot.log;
    const y = log
      ? (v) => above + (height * Math.log(Math.max(v, low))) / Math.log(high / low || 2)
      : (v) => above + height - (height * (v - low)) / (high - low || 1);
    const ticks = log ? [1, 3, 10, 30, 100, 300, 1000, 1e4, 1e5].filter((t) => t >= low && t <= high * 1.01) : [0, 0.25, 0.5, 0.75, 1].map((t) => low + t * (high - low));
    for (const t of ticks) {
      svg.append(make("line", { x1: left, x2: left + width, y1: y(t), y2: y(t), stroke: "var(--grid)" }));
      svg.append(make("text", { x: left - 6, y: y(t) + 4, "text-anchor": "end" }, number(t, plot.unit)));
    }
    svg.append(make("text", { x: left, y: 12, class: "axis" }, `${plot.name} (${plot.unit})`));
    if (plot.reference) {
      svg.append(make("line", { x1: left, x2: left + width, y1: y(plot.reference.v), y2: y(plot.reference.v), stroke: "var(--quiet)", "stroke-dasharray": "5 4" }));
      svg.append(make("text", { x: left + width + 4, y: y(plot.reference.v) + 4, class: "axis" }, "intact"));
    }
    return y;
  }
  function legend(svg, names, left, y) {
    let x = left;
    names.forEach(([name, color, dash]) => {
      svg.append(make("line", { x1: x, x2: x + 18, y1: y - 4, y2: y - 4, stroke: color, "stroke-width": 3, "stroke-dasharray": dash }));
      svg.append(make("text", { x: x + 22, y }, short(name, 30)));
      x += 40 + 6.6 * Math.min(30, name.length);
    });
  }
  function below(plot, svg, at, base, left) {
    const room = plot.columns.length > 1 ? at(1) - at(0) : 200, slanted = widest(plot.columns, 36) + 4 > room;
    plot.columns.forEach((c, j) => {
      const x = at(j), y = base + 16;
      svg.append(slanted ? make("text", { x, y, transform: `rotate(-35 ${x} ${y})`, "text-anchor": "end" }, short(c, 36)) : make("text", { x, y, "text-anchor": "middle" }, c));
    });
    const deep = slanted ? 22 + 0.6 * widest(plot.columns, 36) : 20;
    svg.append(make("text", { x: left, y: base + deep + 16, class: "axis" }, plot.columnName));
    return base + deep + 24;
  }
  function lines(plot, svg, cells) {
    const left = margin(plot), above = 24, height = 190, width = Math.max(320, Math.min(760, 60 * plot.columns.length));
    const y = axes(plot, svg, width, height, left, above), at = (j) => left + 20 + (j * (width - 40)) / Math.max(1, plot.columns.length - 1);
    const names = [];
    plot.points.forEach((line, i) => {
      const color = SERIES[i % SERIES.length], seen = line.map((p, j) => [p, j]).filter(([p]) => p);
      const banded = seen.filter(([p]) => p.lo !== undefined);
      if (banded.length > 1) {
        const path = [...banded.map(([p, j]) => `${at(j)},${y(p.hi)}`), ...banded.reverse().map(([p, j]) => `${at(j)},${y(p.lo)}`)];
        svg.append(make("polygon", { points: path.join(" "), fill: color, opacity: 0.18 }));
      }
      svg.append(make("polyline", { points: seen.map(([p, j]) => `${at(j)},${y(p.v)}`).join(" "), fill: "none", stroke: color, "stroke-width": 2, "stroke-dasharray": DASHES[i % 6] }));
      const controls = seen.filter(([p]) => p.cv !== undefined);
      if (controls.length > 1) svg.append(make("polyline", { points: controls.map(([p, j]) => `${at(j)},${y(p.cv)}`).join(" "), fill: "none", stroke: "var(--control)", "stroke-dasharray": "2 3" }));
      if (controls.length > 1 && !names.some(([n]) => n === "control")) names.push(["control", "var(--control)", "2 3"]);
      seen.forEach(([p, j]) => {
        const dot = make("circle", { cx: at(j), cy: y(p.v), r: 5, fill: color, class: "cell" });
        svg.append(dot);
        cells.push({ node: dot, p, i, j });
      });
      names.unshift([plot.rows.length > 1 ? plot.rows[i] : plot.name, color, DASHES[i % 6]]);
    });
    const end = below(plot, svg, at, above + height, left);
    if (names.length > 1) legend(svg, names, left, end + 6);
    return [left + width + 60, end + (names.length > 1 ? 16 : 0)];
  }
  function bars(plot, svg, cells) {
    const left = margin(plot), above = 24, height = 170, sets = plot.points.length, controlled = sets === 1 && plot.points[0].some((p) => p && p.cv !== undefined);
    const group = Math.max(24 * (sets + controlled) + 14, 44), width = group * plot.columns.length + 10;
    const y = axes(plot, svg, Math.max(width, 220), height, left, above), zero = y(Math.max(plot.limits[0], Math.min(0, plot.limits[1])));
    const at = (j) => left + 5 + group * (j + 0.5), each = (group - 14) / (sets + controlled);
    const whisker = (x, lo, hi) => svg.append(make("path", { d: `M${x} ${y(lo)}V${y(hi)}M${x - 4} ${y(lo)}h8M${x - 4} ${y(hi)}h8`, stroke: "var(--ink)", fill: "none" }));
    plot.points.forEach((line, i) => line.forEach((p, j) => {
      if (!p) return;
      const x = at(j) - (group - 14) / 2 + i * each, top = Math.min(y(p.v), zero);
      const bar = make("rect", { x, y: top, width: each - 2, height: Math.max(1.5, Math.abs(y(p.v) - zero)), fill: SERIES[i % SERIES.length], class: "cell" });
      svg.append(bar);
      if (p.lo !== undefined) whisker(x + each / 2 - 1, p.lo, p.hi);
      if (controlled && p.cv !== undefined) {
        svg.append(make("rect", { x: x + each, y: Math.min(y(p.cv), zero), width: each - 2, height: Math.max(1.5, Math.abs(y(p.cv) - zero)), fill: "var(--control)" }));
        if (p.clo !== undefined) whisker(x + 1.5 * each - 1, p.clo, p.chi);
      }
      cells.push({ node: bar, p, i, j });
    }));
    const end = below(plot, svg, at, above + height, left);
    const names = plot.rows.map((r, i) => [sets > 1 ? r : plot.name, SERIES[i % SERIES.length], ""]);
    if (controlled) names.push(["control", "var(--control)", ""]);
    if (names.length > 1) legend(svg, names, left, end + 6);
    return [left + Math.max(width, 220) + 60, end + (names.length > 1 ? 16 : 0)];
  }

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

  function draw(figure, plot) {
    const canvas = figure.querySelector(".canvas"), out = figure.querySelector("output"), cells = [];
    const svg = make("svg", { role: "img" });
    const [width, height] = { heat, line: lines, bars }[plot.kind](plot, svg, cells, Math.min(1080, figure.parentElement.clientWidth - 32));
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("width", width);
    svg.setAttribute("height", height);
    const n = plot.n[0] === plot.n[1] ? `n=${plot.n[0]}` : `n=${plot.n[0]} to ${plot.n[1]}`;
    svg.setAttribute("aria-label", `${plot.name} in ${plot.unit} by ${[plot.rowName, plot.columnName].filter(Boolean).join(" and ")}${plot.title ? `, ${plot.title}` : ""}, ${n}. The table below has the same numbers.`);
    canvas.replaceChildren(svg);
    const say = (c) => describe(plot, c.p, plot.rows[c.i], plot.columns[c.j]);
    const byNode = new Map(cells.map((c) => [c.node, c]));
    svg.addEventListener("mousemove", (e) => { const c = byNode.get(e.target); if (c) { showTip(say(c), e.clientX, e.clientY); out.textContent = say(c).replaceAll("\n", " · "); } else hideTip(); });
    svg.addEventListener("mouseleave", hideTip);
    const go = (c) => { if (c.p.h) location.href = c.p.h; };
    svg.addEventListener("click", (e) => { const c = byNode.get(e.target); if (c) go(c); });
    let current = null;
    const move = (c) => {
      if (!c) return;
      current?.node.classList.remove("at");
      current = c;
      c.node.classList.add("at");
      out.textContent = say(c).replaceAll("\n", " · ");
    };
    canvas.onkeydown = (e) => {
      const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[e.key];
      if (e.key === "Enter" && current) return go(current);
      if (!step || !cells.length) return undefined;
      e.preventDefault();
      e.stopPropagation();
      if (!current) return move(cells[0]);
      const [down, right] = plot.rows.length === 1 ? [0, step[0] + step[1]] : step;
      for (let i = current.i + down, j = current.j + right; i >= 0 && j >= 0 && i < plot.rows.length && j < plot.columns.length; i += down, j += right) {
        const next = cells.find((c) => c.i === i && c.j === j);
        if (next) return move(next);
      }
      return undefined;
    };
    figure.dataset.drawn = "yes";
  }

  function figures(root) {
    for (const figure of root.querySelectorAll("figure.plot:not([data-drawn])")) {
      const all = JSON.parse(figure.querySelector("script").textContent), select = figure.querySelector("select");
      const pick = () => draw(figure, all[select ? Number(select.value) : 0]);
      if (select) {
        all.forEach((p, i) => { const o = document.createElement("option"); o.value = i; o.textContent = `${p.name} ${p.title}`.trim(); select.append(o); });
        select.addEventListener("change", pick);
        if (all.length < 2) select.closest("label").hidden = true;
      }
      // A figure is drawn when it comes near the window, so that a file with hundreds of them opens at once.
      if ("IntersectionObserver" in window) {
        const seen = new IntersectionObserver((entries) => { if (entries.some((e) => e.isIntersecting)) { seen.disconnect(); pick(); } }, { rootMargin: "600px" });
        seen.observe(figure);
      } else pick();
    }
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

  function start(root) { figures(root); tables(root); }

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
    if (e.key === "/") { const box = document.querySelector("input[type=search]"); if (box) { e.preventDefault(); box.focus(); } }
    if (e.key === "j" || e.key === "k") document.querySelector(e.key === "j" ? "a[rel=next]" : "a[rel=prev]")?.click();
  });
  document.addEventListener("fresh", () => start(document));
  start(document);
  live();
})();
