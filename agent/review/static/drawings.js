// Draws one opened example: the input with its roles, answers, the lens, attention. What came from a model is put in as text.
"use strict";
window.drawings = (() => {
  const el = (name, attributes = {}, ...children) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (key === "class") node.className = value;
      else if (key in node && typeof value !== "string") node[key] = value;
      else node.setAttribute(key, value === true ? "" : value);
    }
    node.append(...children.filter((c) => c !== null && c !== undefined));
    return node;
  };
  const seen = (label) => label.replaceAll("\n", "↵").replace(/^ +| +$/g, (s) => "␣".repeat(s.length)) || "␣";
  const share = (p) => (p >= 0.995 ? "1.00" : p >= 0.01 ? p.toFixed(2) : p >= 0.001 ? p.toFixed(3) : p === 0 ? "0" : "<.001");
  const NAMES = ["as it is", "changed"];

  // -- the input ------------------------------------------------------------------------------------------------------

  function media(shown, words) {
    if (!shown) return null;
    return el("figure", { class: "shown" },
      shown.picture ? el("img", { src: `data:image/png;base64,${shown.picture}`, alt: `${words}: ${shown.words}` }) : null,
      shown.sound ? el("audio", { controls: true, src: `data:audio/wav;base64,${shown.sound}`, "aria-label": `${words}: ${shown.words}` }) : null,
      el("figcaption", { class: "small quiet" }, `${words}: ${shown.words}`));
  }

  function input(root, data) {
    const e = data.example, reads = Object.entries(data.stacks)[0], parts = [];
    if (data.shown) parts.push(el("div", { class: "pair" }, media(data.shown, "given"), media(data.twin_shown, "its twin")));
    else {
      const [, stack] = reads, only = Object.keys(data.stacks).length === 1;
      const groups = [];
      stack.labels.forEach((label, i) => {
        const role = [stack.roles[i], only && data.scored[0] === i ? "answers here" : ""].filter(Boolean).join(", "), last = groups.at(-1);
        const token = el("code", { class: only && data.scored.includes(i) ? "scored" : "" }, seen(label));
        if (last && role && last[0] === role) last[1].push(token);
        else groups.push([role, [token]]);
      });
      parts.push(el("ol", { class: "roles", "aria-label": "The input's tokens with their roles" }, ...groups.map(([role, tokens]) =>
        el("li", { "data-role": role }, el("div", {}, ...tokens), el("span", {}, role)))));
    }
    const followed = e.asked ? "right is" : "followed is what the model says,";
    const twin = e.twin !== null && !data.twin_shown ? ` Its twin: “${seen(e.twin)}” → “${e.foil.trim()}”.` : e.foil ? ` Its twin's answer: “${e.foil.trim()}”.` : "";
    parts.push(el("p", { class: "small" }, `${followed} “${e.right.trim()}”.${twin}`));
    root.replaceChildren(...parts);
  }

  // -- the answer -----------------------------------------------------------------------------------------------------

  function bar(s, data, place) {
    const right = s.label === place.right.label, foil = place.foil && s.label === place.foil.label;
    const fill = el("i", { class: right ? "right" : foil ? "foil" : "" });
    fill.style.width = `${Math.max(0.5, 100 * s.p)}%`;
    return el("li", { class: right ? "is-right" : "" }, el("code", {}, seen(s.label)), el("span", { class: "track" }, fill), el("b", {}, share(s.p)),
      el("span", { class: "small quiet" }, right ? (data.example.asked ? "right" : "followed") : foil ? "the twin's" : ""));
  }

  function column(place, data, name) {
    const rest = [place.right, place.foil].filter((s) => s && !place.top.some((t) => t.label === s.label));
    return el("div", { class: "column" }, el("h3", {}, name), el("ol", { class: "bars" }, ...place.top.map((s) => bar(s, data, place)),
      ...rest.map((s) => bar(s, data, place))),
      el("p", { class: "small quiet" }, `the ${data.example.asked ? "right" : "followed"} one: probability ${share(place.right.p)}, rank ${place.right.rank}`));
  }

  function answers(root, data) {
    const [intact, changed] = data.sides, parts = [], sides = changed ? [intact, changed] : [intact];
    if (!intact.answers.length) {
      const names = Object.keys(intact.values);
      parts.push(el("table", {}, el("thead", {}, el("tr", {}, ...["quantity", ...NAMES.slice(0, sides.length)].map((h) => el("th", { scope: "col" }, h)))),
        el("tbody", {}, ...names.map((n) => el("tr", {}, el("th", { scope: "row" }, n), ...sides.map((s) => el("td", { class: "num" }, s.values[n].toPrecision(4))))))));
    } else {
      if (sides.some((s) => s.wrote !== null)) parts.push(el("dl", { class: "wrote" }, ...sides.flatMap((s, i) => [el("dt", {}, `${NAMES[i]} it writes`), el("dd", {}, s.wrote === null ? "cannot be said: what is changed lies in the answer itself" : `“${s.wrote}”`)])));
      parts.push(el("div", { class: "pair answer-pair" }, ...sides.map((s, i) => column(s.answers[0], data, intact.answers.length > 1 ? `${NAMES[i]}, its first token` : NAMES[i]))));
      if (intact.answers.length > 1) {
        const cell = (a) => el("td", {}, el("code", {}, seen(a.top[0].label)), ` ${share(a.top[0].p)}`, a.top[0].label === a.right.label ? " ✓" : ` (right: ${share(a.right.p)}, rank ${a.right.rank})`);
        parts.push(el("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Token by token, after the right ones before it" }, el("table", {},
          el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "right"), ...sides.map((_, i) => el("th", { scope: "col" }, NAMES[i])))),
          el("tbody", {}, ...intact.answers.map((a, k) => el("tr", {}, el("th", { scope: "row" }, el("code", {}, seen(a.label))), ...sides.map((s) => cell(s.answers[k]))))))));
      }
    }
    if (data.words.length) parts.push(el("p", { class: "small quiet" }, `Changed: ${data.words.join("; ")}.`));
    root.replaceChildren(...parts);
  }

  // -- choosing a side ------------------------------------------------------------------------------------------------

  function sidesOf(data, side, pick) {
    if (data.sides.length < 2) return null;
    return el("span", { class: "choice", role: "radiogroup", "aria-label": "Which of the two" }, ...NAMES.map((name, i) =>
      el("button", { type: "button", role: "radio", "aria-checked": String(i === side), onclick: () => pick(i) }, name)));
  }

  // Arrow keys move among elements of a grid; `steps` columns in a row.
  function rove(nodes, columns) {
    nodes.forEach((node, i) => {
      node.tabIndex = i ? -1 : 0;
      node.addEventListener("keydown", (e) => {
        const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[e.key], next = nodes[i + by];
        if (!by || !next) return;
        e.preventDefault();
        nodes.forEach((n) => { n.tabIndex = -1; });
        next.tabIndex = 0;
        next.focus();
      });
    });
  }

  // -- the lens -------------------------------------------------------------------------------------------------------

  function lens(root, data, view) {
    const side = Math.min(view.lens ?? 1, data.sides.length - 1), s = data.sides[side], other = data.sides[0];
    if (!s.steps.length) return root.replaceChildren();
    const labels = data.stacks[data.readout].labels, said = el("output", { class: "small" });
    const alike = side && s.steps.join() === other.steps.join();
    const head = el("tr", {}, el("th", { scope: "col" }, "after"), ...labels.map((l, j) => el("th", { scope: "col", class: data.scored.includes(j) ? "scored" : "" }, seen(l))),
      el("th", { scope: "col", class: "num" }, data.example.asked ? "right: p" : "followed: p"), el("th", { scope: "col", class: "num" }, "rank"));
    const cells = [], rows = s.steps.map((step, i) => el("tr", {}, el("th", { scope: "row" }, step),
      ...labels.map((label, j) => {
        const p = s.chance[i][j], moved = alike && s.top[i][j] !== other.top[i][j];
        const cell = el("td", { class: `lit${moved ? " moved" : ""}` }, seen(s.top[i][j]));
        cell.style.setProperty("--p", p.toFixed(3));
        const words = `${step}, at “${seen(label)}”: “${seen(s.top[i][j])}” ${share(p)}${moved ? `; as it is “${seen(other.top[i][j])}” ${share(other.chance[i][j])}` : ""}`;
        cell.title = words;
        cell.addEventListener("focus", () => { said.textContent = words; });
        cell.addEventListener("mouseenter", () => { said.textContent = words; });
        cells.push([i, j, cell]);
        return cell;
      }),
      el("td", { class: "num" }, share(s.followed[i][0])), el("td", { class: "num" }, String(s.rank[i][0]))));
    rows.reverse();
    cells.sort((a, b) => b[0] - a[0] || a[1] - b[1]);
    rove(cells.map((c) => c[2]), labels.length);
    const table = el("table", { class: "lens", "aria-label": `Top answer at each depth and position, ${NAMES[side]}` }, el("thead", {}, head), el("tbody", {}, ...rows));
    const choice = sidesOf(data, side, (i) => { view.lens = i; lens(root, data, view); root.querySelectorAll("[role=radio]")[i].focus(); });
    return root.replaceChildren(...[choice, el("div", { class: "scroll" }, table), said].filter(Boolean));
  }

  // -- attention ------------------------------------------------------------------------------------------------------

  const unpacked = new WeakMap();
  const weights = (side) => {
    if (!unpacked.has(side)) unpacked.set(side, Uint8Array.from(atob(side.patterns), (c) => c.charCodeAt(0)));
    return unpacked.get(side);
  };

  function paint(canvas, bytes, at, queries, keys, query, colour) {
    canvas.width = keys;
    canvas.height = queries;
    const context = canvas.getContext("2d"), image = context.createImageData(keys, queries);
    for (let i = 0; i < queries * keys; i += 1) {
      const on = Math.floor(i / keys) === query;
      const depth = Math.sqrt(255 * bytes[at + i]);  // so that weights that are spread out can be seen
      image.data.set([...(on ? colour.mark : colour.ink), on ? Math.max(36, depth) : depth], 4 * i);
    }
    context.putImageData(image, 0, 0);
  }

  function patches(data, row, keys, columns) {
    const first = keys.findIndex((k) => k === "0,0"), most = Math.max(...row.slice(first));
    const picture = el("div", { class: "patches", role: "img", "aria-label": `weights on patches, ${row.slice(0, first).map((v, i) => `${keys[i]} ${share(v)}, `).join("")}at most ${share(most)} at ${keys[row.indexOf(most, first)]}` },
      ...row.slice(first).map((v, i) => { const cell = el("span", { title: `${keys[first + i]} ${share(v)}` }); cell.style.setProperty("--p", Math.sqrt(v).toFixed(3)); return cell; }));
    picture.style.gridTemplateColumns = `repeat(${columns}, 1fr)`;
    picture.style.backgroundImage = `url("data:image/png;base64,${data.shown.picture}")`;
    return el("li", { class: "wide" }, picture, el("span", {}, row.slice(0, first).map((v, i) => `${keys[i]} ${share(v)}`).join(", ")));
  }

  function heads(root, data, view) {
    const a = data.attention;
    if (!a) return root.replaceChildren();
    const side = Math.min(view.heads ?? 1, data.sides.length - 1), s = data.sides[side], bytes = weights(s), base = weights(data.sides[0]);
    const labels = data.stacks[a.stack].labels, keys = data.stacks[a.keys_in].labels, size = a.queries * a.keys;
    const rgb = (name) => { const probe = el("span"); probe.style.color = `var(${name})`; root.append(probe); const found = getComputedStyle(probe).color.match(/\d+/g).slice(0, 3).map(Number); probe.remove(); return found; };
    const colour = { ink: rgb("--bar"), mark: rgb("--bar2") };
    const first = a.stack === data.readout ? data.scored[0] : 0;
    const keyed = view.kept === `${a.stack}.${a.kind}/${labels.join(" ")}`;
    view.query = keyed ? view.query : first;
    view.kept = `${a.stack}.${a.kind}/${labels.join(" ")}`;
    view.head = Math.min(view.head ?? 0, a.blocks * a.heads - 1);
    const said = el("p", { class: "small", "aria-live": "polite" }), strip = el("ol", { class: "looked", "aria-label": "Where the chosen head looks" });
    const tiles = [], redraw = [];
    const rowOf = (of, h) => [...of.slice(h * size + view.query * a.keys, h * size + (view.query + 1) * a.keys)].map((v) => v / 255);
    const best = (row) => row.reduce((m, v, i) => (v > row[m] ? i : m), 0);
    const name = (h) => `block ${Math.floor(h / a.heads)} head ${h % a.heads}`;
    const show = () => {
      redraw.forEach((f) => f());
      const h = view.head, row = rowOf(bytes, h), before = rowOf(base, h);
      tiles.forEach((t, i) => t.setAttribute("aria-pressed", String(i === h)));
      said.textContent = s.ran[Math.floor(h / a.heads)] ? `${name(h)}${data.sides.length > 1 ? ` (${NAMES[side]})` : ""}: from “${seen(labels[view.query])}” it looks at` : `${name(h)} does not run here`;
      const grid = keys.at(-1).match(/^(\d+),(\d+)$/);  // patches of an image: over the image
      if (grid && data.shown?.picture) return strip.replaceChildren(patches(data, row, keys, Number(grid[2]) + 1));
      const shown = row.map((v, i) => [v, i]).filter(([v]) => keys.length <= 40 || v >= 0.02);
      strip.replaceChildren(...shown.map(([v, i]) => {
        const item = el("li", { title: side ? `as it is ${share(before[i])}` : null }, el("code", {}, seen(keys[i])), el("span", {}, share(v)));
        item.style.setProperty("--p", v.toFixed(3));
        return item;
      }));
      return undefined;
    };
    const pick = (query) => { view.query = query; asked.forEach((b, i) => b.setAttribute("aria-pressed", String(i === query))); show(); };
    const many = labels.length > 48, asked = many ? [] : labels.map((l, i) => el("button", { type: "button", "aria-label": `from “${seen(l)}”, position ${i}`, onclick: () => pick(i), onmouseenter: () => pick(i), onfocus: () => pick(i) }, seen(l)));
    rove(asked, asked.length);
    const from = many ? el("label", { class: "small" }, "from position ", el("select", { onchange: (e) => pick(Number(e.target.value)) }, ...labels.map((l, i) => el("option", { value: String(i), selected: i === view.query }, l))))
      : el("div", { class: "asked", role: "group", "aria-label": "From which position" }, ...asked);
    for (let h = 0; h < a.blocks * a.heads; h += 1) {
      const canvas = el("canvas", { "aria-hidden": "true" }), caption = el("span"), ran = s.ran[Math.floor(h / a.heads)];
      const tile = el("button", { type: "button", class: ran ? "tile" : "tile idle", onclick: () => { view.head = h; show(); }, onmouseenter: () => { view.head = h; show(); }, onfocus: () => { view.head = h; show(); } }, canvas, caption);
      redraw.push(() => {
        const row = rowOf(bytes, h), top = best(row);
        paint(canvas, bytes, h * size, a.queries, a.keys, view.query, colour);
        caption.textContent = ran ? `${seen(keys[top])} ${share(row[top])}` : "idle";
        tile.setAttribute("aria-label", `${name(h)}: ${ran ? `from “${seen(labels[view.query])}” looks most at “${seen(keys[top])}”, ${share(row[top])}` : "does not run"}`);
      });
      tiles.push(tile);
    }
    rove(tiles, a.heads);
    const grid = el("div", { class: "tiles", role: "group", "aria-label": "Heads: rows look from, columns are looked at" });
    grid.style.setProperty("--wide", `${3.4 + 4.95 * a.heads}rem`);
    const blocks = [...Array(a.blocks).keys()].map((b) => el("div", { class: "block" }, el("span", { class: "small quiet" }, `block ${b}`), ...tiles.slice(b * a.heads, (b + 1) * a.heads)));
    const choice = sidesOf(data, side, (i) => { view.heads = i; heads(root, data, view); root.querySelectorAll("[role=radio]")[i].focus(); });
    grid.append(...blocks);
    root.replaceChildren(...[choice, from, said, strip, grid].filter(Boolean));
    pick(view.query);
    return undefined;
  }

  return { el, seen, input, answers, lens, heads };
})();
