// A map of queries and keys: every head small, one large; coloured by a label, searched, and followed to where a query looks.
"use strict";
(() => {
  const root = document.querySelector("#points");
  if (!root) return;
  const SVG = "http://www.w3.org/2000/svg", SIDE = 520, PAD = 14, FINE = 1000, HUES = 7;
  const el = (name, attributes = {}, ...children) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (key in node && typeof value !== "string") node[key] = value;
      else node.setAttribute(key, value === true ? "" : value);
    }
    node.append(...children.filter(Boolean));
    return node;
  };
  const seen = (t) => t.replaceAll("\n", "↵").replace(/^ +| +$/g, (s) => "␣".repeat(s.length)) || "␣";
  const share = (p) => (p >= 0.995 ? "1.00" : p >= 0.005 ? p.toFixed(2) : "0");

  function show(data) {
    const count = data.kinds.length, half = count / 2, names = Object.keys(data.labels);
    const weights = data.attention && Uint8Array.from(atob(data.attention.weights), (c) => c.charCodeAt(0));
    const view = { head: 0, by: "query or key", search: "", at: 0, pinned: false };
    const where = (i) => data.at[i % half];
    const text = (i) => data.tokens[where(i)[0]][where(i)[1]] ?? "";
    const value = (i, by = view.by) => (by === "query or key" ? data.kinds[i] : data.labels[by][i]);
    const found = (i) => !view.search || [text(i), ...names.map((n) => data.labels[n][i])].some((v) => v.toLowerCase().includes(view.search));
    const place = (h, i) => [data.xy[h][2 * i], FINE - data.xy[h][2 * i + 1]].map((v) => PAD + (v / FINE) * (SIDE - 2 * PAD));

    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${SIDE} ${SIDE}`);
    svg.setAttribute("aria-hidden", "true");
    const marks = data.kinds.map((kind, i) => {
      const mark = document.createElementNS(SVG, kind === "query" ? "circle" : "rect");
      mark.classList.add("mark", kind);
      mark.addEventListener("mouseenter", () => { if (!view.pinned) pick(i); });
      mark.addEventListener("click", () => { view.pinned = true; pick(i); });
      return mark;
    });
    [...marks.keys()].sort((a, b) => ((a * 7919) % count) - ((b * 7919) % count)).forEach((i) => svg.append(marks[i]));  // neither kind lies on top
    const large = el("div", { class: "canvas", tabIndex: 0, role: "application", "aria-label": "One head's queries and keys: arrow keys move between points, Enter holds one, Escape lets go" });
    large.append(svg);
    const title = el("h3"), legend = el("ul", { class: "legend", "aria-label": "Colours" }), said = el("p", { class: "small", "aria-live": "polite" });
    const sentence = el("div", { class: "sentence" });
    const by = el("select", { onchange: (e) => { view.by = e.target.value; paint(); } }, ...["query or key", ...names].map((n) => el("option", { value: n }, n)));
    const search = el("input", { type: "search", oninput: (e) => { view.search = e.target.value.trim().toLowerCase(); paint(); } });
    const counted = el("span", { class: "small quiet", role: "status" });
    const tiles = data.heads.map((name, h) => el("button", { type: "button", class: "head", "aria-pressed": "false", onclick: () => { view.head = h; paint(); } }, el("canvas", { width: 96, height: 96, "aria-hidden": "true" }), el("span", {}, name)));

    // The most frequent labels have a colour each, the rest share one.
    function colours() {
      const often = new Map();
      for (let i = 0; i < count; i += 1) often.set(value(i), (often.get(value(i)) ?? 0) + 1);
      const order = [...often].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0], "en", { numeric: true }));
      const whole = order.length <= HUES ? order : order.slice(0, HUES - 1);
      return [new Map(whole.map(([v], k) => [v, k])), whole, order.slice(whole.length)];
    }
    function paint() {
      const [hue, whole, rest] = colours(), style = getComputedStyle(root);
      const ink = (i) => style.getPropertyValue(`--hue${hue.get(value(i)) ?? "-rest"}`).trim();
      title.textContent = `Head ${data.heads[view.head]}`;
      const hits = [...Array(count).keys()].filter(found).length;
      marks.forEach((mark, i) => {
        const [x, y] = place(view.head, i), size = 4;
        const set = data.kinds[i] === "query" ? { cx: x, cy: y, r: size } : { x: x - size + 0.5, y: y - size + 0.5, width: 2 * size - 1, height: 2 * size - 1 };
        for (const [k, v] of Object.entries(set)) mark.setAttribute(k, v.toFixed(1));
        mark.style.setProperty("--hue", `var(--hue${hue.get(value(i)) ?? "-rest"})`);
        mark.classList.toggle("faded", !found(i));
      });
      legend.replaceChildren(...whole.map(([v, n], k) => { const item = el("li", {}, `${v ? seen(v) : "none"} (${n})`); item.style.setProperty("--hue", `var(--hue${k})`); return item; }));
      if (rest.length) { const item = el("li", {}, `${rest.length} others (${rest.reduce((s, [, n]) => s + n, 0)})`); item.style.setProperty("--hue", "var(--hue-rest)"); legend.append(item); }
      counted.textContent = view.search ? `${hits} of ${count} points` : "";
      tiles.forEach((tile, h) => {
        tile.setAttribute("aria-pressed", String(h === view.head));
        const canvas = tile.querySelector("canvas"), pen = canvas.getContext("2d");
        pen.clearRect(0, 0, 96, 96);
        for (let i = 0; i < count; i += 1) {
          const [x, y] = place(h, i).map((v) => (v / SIDE) * 96);
          pen.globalAlpha = found(i) ? 0.9 : 0.12;
          pen.fillStyle = ink(i);
          pen.fillRect(x - 1, y - 1, 2.4, 2.4);
        }
      });
      tell();
    }
    function pick(i) {
      marks[view.at].classList.remove("at");
      view.at = i;
      tell();
    }
    // The sequence of the chosen point, with where its query looks.
    function tell() {
      const i = view.at, [s, at] = where(i), tokens = data.tokens[s], kind = data.kinds[i];
      marks[i].classList.add("at");
      const labels = names.filter((n) => data.labels[n][i]).map((n) => `${n} ${seen(data.labels[n][i])}`).join(", ");
      const keys = data.attention?.keys, from = (view.head * half + (i % half)) * (keys ?? 0);
      const looks = weights && kind === "query" ? tokens.map((_, j) => weights[from + j] / 255) : null;
      const most = looks && looks.indexOf(Math.max(...looks));
      said.textContent = `${kind} of “${seen(tokens[at] ?? "")}”, position ${at} of sequence ${s} (${labels})${looks ? `; looks most at “${seen(tokens[most])}”, position ${most}, ${share(looks[most])}` : ""}${view.pinned ? "; held" : ""}`;
      const image = data.images[s];
      if (image) return sentence.replaceChildren(patches(image, tokens.length, at, looks));
      return sentence.replaceChildren(el("ol", { class: "tokens", "aria-label": looks ? "Where this query looks" : "The key's sequence" }, ...tokens.map((t, j) => {
        const item = el("li", { class: j === at ? "own" : "" }, el("code", {}, seen(t)), looks ? el("span", {}, share(looks[j])) : null);
        if (looks) item.style.setProperty("--p", looks[j].toFixed(3));
        return item;
      })));
    }
    function patches(image, n, at, looks) {
      const picture = el("div", { class: "over", role: "img", "aria-label": `The image, ${at ? `patch ${at - 1} marked` : "seen from its class position"}${looks ? "; light where the query looks" : ""}` },
        ...[...Array(n - 1).keys()].map((j) => { const cell = el("span", { class: j + 1 === at ? "own" : "" }); cell.style.setProperty("--p", looks ? Math.sqrt(looks[j + 1]).toFixed(3) : "1"); return cell; }));
      picture.style.gridTemplateColumns = `repeat(${data.columns}, 1fr)`;
      picture.style.backgroundImage = `url("data:image/png;base64,${image}")`;
      return picture;
    }
    function onward([dx, dy]) {
      const [x, y] = place(view.head, view.at);
      let best = null, least = Infinity;
      for (let i = 0; i < count; i += 1) {
        const [u, v] = place(view.head, i), along = (u - x) * dx + (v - y) * dy, aside = Math.abs((u - x) * dy) + Math.abs((v - y) * dx);
        if (i !== view.at && found(i) && along > 0.5 && along + 2 * aside < least) [best, least] = [i, along + 2 * aside];
      }
      if (best !== null) pick(best);
    }
    large.addEventListener("keydown", (e) => {
      const step = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[e.key];
      if (step) { e.preventDefault(); e.stopPropagation(); onward(step); }
      if (e.key === "Enter" || e.key === "Escape") { view.pinned = e.key === "Enter"; tell(); }
    });
    document.querySelector("#theme")?.addEventListener("click", () => setTimeout(paint));
    root.replaceChildren(
      el("form", { class: "row", onsubmit: () => false }, el("label", {}, "coloured by ", by), el("label", {}, "search ", search), counted),
      legend,
      el("div", { class: "maps" }, el("div", {}, title, large), el("div", {}, said, sentence, el("h3", {}, "All heads"), el("div", { class: "heads", role: "group", "aria-label": "All heads" }, ...tiles))),
      el("p", { class: "small quiet" }, "Circles are queries, squares keys: in the space of the drawing near means attended, as far as two dimensions can show it. A point is an illustration; the numbers below are the evidence."));
    paint();
  }

  fetch(root.dataset.from).then((r) => r.json()).then(show).catch(() => { root.textContent = "The map could not be loaded; the picture below shows it."; });
})();
