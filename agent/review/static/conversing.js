// The conversation on the workbench: what is said, what is read of who speaks, and pins.
"use strict";
(() => {
  const section = document.getElementById("talk");
  if (!section) return;
  const { el } = window.drawings, $ = (id) => document.getElementById(id);
  const offered = JSON.parse($("offered").textContent), log = $("talk-log"), form = $("talk-say");
  const pins = {};
  let soFar = "", turns = [], asked = 0;  // asked: counts what the board was asked for, so that a late answer does not undo a newer one

  async function post(path, body) {
    const response = await fetch(`/workbench/${path}`, { method: "POST", headers: { "Content-Type": "application/json", "X-CSRF-Token": offered.csrf }, body: JSON.stringify(body) });
    const found = await response.json();
    if (!response.ok) throw new Error(found.error);
    return found;
  }
  const problem = (text) => { $("talk-problem").textContent = text; $("talk-problem").hidden = !text; };
  const percent = (x) => `${Math.round(100 * x)}%`;
  const begun = () => (turns.length ? soFar : $("talk-begin").value);

  function args(says) {
    return {
      task: $("talk-task").value, says, so_far: begun(), turn: $("talk-turn").value, at: $("talk-at").value.trim(),
      pins: Object.entries(pins).filter(([, v]) => v).map(([a, v]) => `${a}=${v}`), strength: Number($("talk-strength").value),
    };
  }

  function row(a) {
    const select = el("select", { "aria-label": `pin ${a.label}`, onchange: (e) => { pins[a.label] = e.target.value; } }, el("option", { value: "" }, "not pinned"), ...a.values.map((v) => el("option", { value: v.value }, v.value)));
    select.value = pins[a.label] ?? "";
    const best = a.values.reduce((x, y) => (y.chance > x.chance ? y : x), a.values[0]);
    const read = a.read === null ? el("td", { class: "quiet" }, "nothing said yet") : el("td", {}, el("strong", {}, best.value), ` ${percent(best.chance)} `, el("meter", { min: 0, max: 1, value: best.chance, "aria-label": `how sure the probe is of ${best.value}` }));
    const held = el("td", { class: "small held" }, `right on ${percent(a.right)} (words alone ${percent(a.bag)}, last word ${percent(a.last)}, chance ${percent(a.chance)}; n=${a.n}): `, el("em", {}, a.words));
    return el("tr", { class: a.there ? "" : "at-chance", "data-label": a.label }, el("th", { scope: "row" }, a.label), read, held, el("td", {}, select));
  }
  function board(found) {
    $("talk-read").querySelector("tbody").replaceChildren(...found.attributes.map(row));
    $("talk-where").textContent = `Read and pinned at ${found.place}.`;
  }
  function said(who, words, more = "") {
    log.append(el("li", { class: who }, el("span", { class: "small quiet" }, `${who}: `), words, more ? el("span", { class: "small quiet" }, ` ${more}`) : ""));
    log.parentElement.scrollTop = log.scrollHeight;
  }

  // The turn goes on record; the next one waits until it is.
  async function keep(given) {
    await post("call", { tool: "converse", args: given });
    for (let busy = true; busy;) {
      await new Promise((done) => { setTimeout(done, 150); });
      busy = (await (await fetch("/workbench/state.json")).json()).busy?.tool === "converse";
    }
    document.dispatchEvent(new Event("asked"));
  }

  form.addEventListener("submit", async (e) => {
    e.preventDefault();
    const says = form.elements.says.value.trim(), button = form.querySelector("button");
    if (!says || button.disabled) return;
    button.disabled = true;
    section.setAttribute("aria-busy", "true");
    try {
      const given = args(says), found = await post("converse", given);
      problem("");
      said("user", says);
      said("model", found.reply, given.pins.length ? `(${given.pins.join(", ")} pinned; with nothing pinned: ${found.plain})` : "");
      turns.push(says);
      soFar = found.so_far;
      asked += 1;
      board(found);
      form.elements.says.value = "";
      if (found.kept) await keep(given);
    } catch (error) { problem(error.message); }
    section.setAttribute("aria-busy", "false");
    button.disabled = false;
    form.elements.says.focus();
  });

  async function begin() {
    const mine = ++asked;
    turns = [];
    soFar = "";
    log.replaceChildren();
    try {
      const response = await fetch(`/workbench/conversation.json?task=${encodeURIComponent($("talk-task").value)}&at=${encodeURIComponent($("talk-at").value.trim())}`), found = await response.json();
      if (!response.ok) throw new Error(found.error);
      problem("");
      if (mine !== asked) return;
      if (!$("talk-begin").value) $("talk-begin").value = found.begins;
      board(found);
    } catch (error) { problem(error.message); }
  }
  $("talk-anew").addEventListener("click", begin);
  $("talk-task").addEventListener("change", () => { $("talk-begin").value = ""; for (const a of Object.keys(pins)) delete pins[a]; begin(); });
  $("talk-at").addEventListener("change", begin);
  $("talk-strength").addEventListener("input", () => { $("talk-strength-shown").textContent = $("talk-strength").value; });
  begin();
})();
