// The workbench: what is switched on, looks at one example, tools run from forms, the record as it grows.
"use strict";
(() => {
  const { el, seen, input, answers, lens, heads } = window.drawings;
  const $ = (id) => document.getElementById(id), all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const offered = JSON.parse($("offered").textContent), view = {}, readout = offered.stacks.find((s) => s.readout).name;
  let changes = [], past = [], labels = {}, drawn = null, state = null, flying = false, again = null, stale = false;

  const problem = (text) => { $("problem").textContent = text; $("problem").hidden = !text; };
  async function post(path, body) {
    let response;
    try {
      response = await fetch(`/workbench/${path}`, { method: "POST", headers: { "Content-Type": "application/json", "X-CSRF-Token": offered.csrf }, body: JSON.stringify(body) });
    } catch { throw new Error("the workbench does not answer: is it still running?"); }
    const found = await response.json();
    if (!response.ok) throw Object.assign(new Error(found.error), { status: response.status });
    return found;
  }

  // -- looking --------------------------------------------------------------------------------------------------------

  const value = (id) => ($(id) ? $(id).value : "");
  const own = () => !$("own") || $("own").open;
  function args() {
    const given = { task: value("task"), example: Number(value("example") || 0), text: "", answer: "", twin: "", attention: value("attention") };
    if (own()) for (const name of ["text", "answer", "twin"]) given[name] = value(name);
    for (const op of ["zero", "mean", "resample", "patch"]) given[op] = changes.filter((c) => c.op === op).map((c) => c.place);
    given.programs = all(".program").filter((p) => p.value.trim()).map((p) => (p.dataset.stack === readout ? p.value : `${p.dataset.stack}: ${p.value}`));
    if (value("steer-label") && Number(value("dose"))) Object.assign(given, { steer_label: value("steer-label"), steer_value: value("steer-value"), steer_at: value("steer-at"), dose: Number(value("dose")) });
    return given;
  }

  async function look(since = performance.now()) {
    if (flying) { again = since; return; }
    flying = true;
    $("eyes").setAttribute("aria-busy", "true");
    try {
      drawn = await post("look", args());
      problem("");
      stale = false;
      draw();
      await new Promise((done) => { requestAnimationFrame(done); });
      $("took").textContent = `${drawn.milliseconds} ms to compute, ${Math.round(performance.now() - since)} ms from the click to the answer.`;
    } catch (error) {
      stale = error.status === 409;
      problem(error.message);
    }
    flying = false;
    $("eyes").setAttribute("aria-busy", "false");
    if (again !== null) { const next = again; again = null; look(next); }
  }

  function draw() {
    input($("input"), drawn);
    answers($("answers"), drawn);
    lens($("lens"), drawn, view);
    heads($("heads"), drawn, view);
    $("lens-not").textContent = drawn.why_not.lens ?? "";
    $("attention-not").textContent = drawn.why_not.attention ?? "";
    const cannot = drawn.cannot, kept = $("anchor").value, roles = ["answer", "all", ...drawn.roles, "-1", "-2"];
    all("#how input").forEach((r) => { r.disabled = r.value in cannot; });
    $("how-not").textContent = [...new Set(Object.entries(cannot).filter(([op]) => op !== "steer").map(([op, why]) => `${op}: ${why}`))].join("; ");
    if (all("#how input:checked:disabled").length) all("#how input")[0].checked = true;
    $("anchor").replaceChildren(...roles.map((r) => el("option", { value: r }, { answer: "at the answer", all: "at every position", "-1": "at the last token of the prompt", "-2": "at the last but one" }[r] ?? `at ${r}`)));
    $("anchor").value = roles.includes(kept) ? kept : "answer";
    for (const id of ["steer-label", "steer-value", "steer-at", "dose"]) $(id).disabled = "steer" in cannot;
  }

  // -- switches -------------------------------------------------------------------------------------------------------

  function switched(render = true) {
    const ops = new Map(changes.map((c) => [c.part, c]));
    all(".map button").forEach((b) => {
      const on = ops.get(b.dataset.part);
      b.setAttribute("aria-pressed", String(Boolean(on)));
      b.dataset.op = on ? on.op : "";
    });
    const chips = changes.map((c) => chip(`${{ zero: "zero", mean: "mean", resample: "resample", patch: "patch" }[c.op]} ${c.place}`, () => { changes = changes.filter((o) => o !== c); }));
    all(".program").filter((p) => p.value.trim()).forEach((p) => chips.push(chip(`${p.dataset.stack}: ${p.value}`, () => { p.value = ""; })));
    if (value("steer-label") && Number(value("dose"))) chips.push(chip(`${value("dose")} x ${value("steer-label")}=${value("steer-value")} at ${value("steer-at")}`, () => { $("dose").value = 0; }));
    $("dose-shown").textContent = value("dose");
    $("on").replaceChildren(...(chips.length ? chips : [el("li", { class: "quiet small" }, "nothing: the model as it is")]));
    $("clear").disabled = !chips.length;
    $("undo").disabled = !past.length;
    if (render) { save(); look(); }
  }
  // What is switched on outlives a visit to the report, in this tab.
  const KEPT = ["task", "example", "text", "answer", "twin", "attention", "steer-label", "steer-value", "steer-at", "dose"];
  function save() {
    try { sessionStorage.setItem(`workbench ${offered.subject}`, JSON.stringify({ changes, own: Boolean($("own")?.open), programs: all(".program").map((p) => p.value), fields: Object.fromEntries(KEPT.map((id) => [id, value(id)])) })); } catch { /* no storage: nothing is kept */ }
  }
  async function restore() {
    let kept = null;
    try { kept = JSON.parse(sessionStorage.getItem(`workbench ${offered.subject}`)); } catch { /* as above */ }
    if (kept && offered.tasks.includes(kept.fields.task)) $("task").value = kept.fields.task;
    await examples(false);
    if (kept && kept.fields.task === value("task")) {
      for (const id of KEPT) if ($(id)) { $(id).value = kept.fields[id]; if (id === "steer-label") values(); }
      if ($("own")) $("own").open = kept.own;
      changes = kept.changes;
      all(".program").forEach((p, i) => { p.value = kept.programs[i] ?? ""; });
    }
    switched();
  }
  const remember = () => { past.push(JSON.stringify([changes, all(".program").map((p) => p.value), value("dose")])); past = past.slice(-50); };
  const chip = (words, off) => el("li", {}, el("code", {}, words), el("button", { type: "button", "aria-label": `switch off ${words}`, onclick: () => { remember(); off(); switched(); } }, "×"));
  function toggle(button) {
    const part = button.dataset.part, stack = part.split(".")[0], on = changes.some((c) => c.part === part);
    remember();
    if (on) changes = changes.filter((c) => c.part !== part);
    else {
      const anchor = stack !== readout && value("anchor") === "answer" ? "all" : value("anchor");
      changes.push({ part, op: document.querySelector("#how input:checked").value, place: `${part}@${anchor}` });
    }
    switched();
  }
  function clear() {
    remember();
    changes = [];
    all(".program").forEach((p) => { p.value = ""; });
    $("dose").value = 0;
    switched();
  }
  function undo() {
    const before = past.pop();
    if (!before) return;
    const [kept, programs, dose] = JSON.parse(before);
    changes = kept;
    all(".program").forEach((p, i) => { p.value = programs[i]; });
    $("dose").value = dose;
    switched();
  }

  all(".map").forEach((map) => {
    const buttons = all("button", map), wide = buttons.length / all("tbody tr", map).length;
    buttons.forEach((b, i) => {
      b.tabIndex = i ? -1 : 0;
      b.addEventListener("click", () => toggle(b));
      b.addEventListener("keydown", (e) => {
        const next = buttons[i + ({ ArrowRight: 1, ArrowLeft: -1, ArrowDown: wide, ArrowUp: -wide }[e.key] ?? NaN)];
        if (!next) return;
        e.preventDefault();
        buttons.forEach((o) => { o.tabIndex = -1; });
        next.tabIndex = 0;
        next.focus();
      });
    });
  });
  all(".program").forEach((p) => p.addEventListener("change", () => switched()));
  for (const id of ["steer-value", "steer-at", "dose"]) $(id).addEventListener("input", () => switched());
  $("steer-label").addEventListener("change", () => { values(); switched(); });
  $("clear").addEventListener("click", clear);
  $("undo").addEventListener("click", undo);
  document.addEventListener("keydown", (e) => { if (e.key === "Escape" && !$("clear").disabled && !/^(INPUT|SELECT|TEXTAREA)$/.test(e.target.tagName)) clear(); });

  // -- input ----------------------------------------------------------------------------------------------------------

  const values = () => $("steer-value").replaceChildren(...(labels[value("steer-label")] ?? []).map((v) => el("option", { value: v }, v)));
  async function examples(render = true) {
    $("example").replaceChildren();
    if (!value("task")) return render && look();
    try {
      const response = await fetch(`/workbench/examples.json?task=${encodeURIComponent(value("task"))}`), found = await response.json();
      if (!response.ok) throw new Error(found.error);
      labels = found.labels;
      $("example").replaceChildren(...found.examples.map((e, i) => el("option", { value: String(i) }, `${seen(e.prompt)} → ${e.answer.trim()}`)));
      $("steer-label").replaceChildren(el("option", { value: "" }, "nothing"), ...Object.keys(labels).map((l) => el("option", { value: l }, l)));
      values();
    } catch (error) { return problem(error.message); }
    changes = changes.filter((c) => /@(answer|all|-\d+)$/.test(c.place));
    return render && switched();
  }
  $("task").addEventListener("change", () => examples());
  for (const id of ["example", "text", "answer", "twin", "attention"]) $(id)?.addEventListener("change", () => { save(); look(); });
  $("own")?.addEventListener("toggle", () => { if (value("text") || value("twin")) look(); });

  // -- the run --------------------------------------------------------------------------------------------------------

  async function call(body, wrong) {
    try {
      await post("call", body);
      wrong("");
      await poll();
    } catch (error) { wrong(error.message); }
  }
  $("begin").addEventListener("submit", async (e) => {
    e.preventDefault();
    const question = e.target.elements.question.value, button = e.target.querySelector("button");
    button.disabled = true;
    try { await post("begin", { question }); problem(""); await poll(); } catch (error) { problem(error.message); }
    button.disabled = false;
  });
  $("keep").addEventListener("click", () => call({ tool: "illustrate", args: args() }, problem));
  $("cancel").addEventListener("click", () => post("cancel", {}).catch((error) => problem(error.message)));
  $("ask-many").addEventListener("click", () => {
    const kind = changes.some((c) => c.op === "patch") ? "carries" : changes.length ? "necessary" : "capability";
    return openForm("examine", { kind, task: value("task"), components: changes.map((c) => c.place) });
  });

  let timer = null;
  async function poll() {
    clearTimeout(timer);
    try {
      const now = await (await fetch("/workbench/state.json")).json(), before = state;
      state = now;
      const run = now.run, working = Boolean(now.busy) && now.busy.tool !== "a look";
      $("begin").hidden = Boolean(run) && !run.ended;
      $("underway").hidden = !run;
      if (run) {
        $("goal").textContent = run.goal;
        $("spent").textContent = run.ended ? `${run.status}${run.reason ? `: ${run.reason}` : ""}; ask the next question above` : run.spent;
        $("to-report").href = `/runs/${run.name}/report`;
        $("to-report").textContent = run.ended ? "the report" : "report so far";
      }
      $("busy").hidden = !working;
      if (working) $("busy").querySelector("span").textContent = `${now.busy.message || now.busy.tool}, ${now.busy.seconds.toFixed(0)} s`;
      if (run && (run.seq !== before?.run?.seq || run.ended !== before?.run?.ended)) await record();
      if (now.last && now.last.number !== before?.last?.number && before) await told(now.last);
      if (!working && stale) look();
      timer = setTimeout(poll, working ? 400 : 4000);
    } catch { timer = setTimeout(poll, 4000); }
  }
  const inert = (text) => new DOMParser().parseFromString(text, "text/html").body;
  async function record() {
    const body = inert(await (await fetch("/workbench/record.html")).text());
    $("record").replaceChildren(...body.childNodes);
  }

  // What a call came to: its text, and its figure where it has one.
  async function told(last) {
    const form = document.querySelector(`form.tool[data-tool="${last.tool}"]`), ok = last.status === "ok";
    if (!ok && form) {
      const alert = form.querySelector(".problem");
      alert.textContent = last.text;
      alert.hidden = false;
      return;
    }
    const result = el("div", { class: `result ${last.status}` }, el("h3", {}, `${last.tool}${last.handle ? `: ${last.handle}` : ""}`, el("span", { class: "small quiet" }, ` ${ok ? "" : `${last.status}, `}${last.seconds} s`)), el("pre", { tabIndex: 0 }, last.text));
    $("result").replaceChildren(result);
    const single = ["illustrate", "converse"].includes(last.tool);
    if (single) problem("");
    if (!last.handle?.startsWith("E") || single) return;
    const href = `/runs/${state.run.name}/experiments/${last.handle}`;
    const plots = all("figure.plot", inert(await (await fetch(href)).text())).slice(0, 2);
    result.append(el("p", { class: "small" }, el("a", { href }, `${last.handle} with its table`)));
    if (plots.length) { result.append(...plots); document.dispatchEvent(new Event("fresh")); }
  }

  // -- forms ----------------------------------------------------------------------------------------------------------

  let opening = 0;
  async function openForm(tool, given = {}) {
    const mine = ++opening;
    $("tool").value = tool;
    $("form").replaceChildren(); // what is on its way must not be run as what stood there before
    if (!tool) return undefined;
    const response = await fetch(`/workbench/forms/${tool}?given=${encodeURIComponent(JSON.stringify(given))}`);
    const text = await response.text();
    if (mine !== opening) return undefined;
    if (!response.ok) return problem(JSON.parse(text).error);
    $("form").replaceChildren(...inert(text).childNodes);
    $("form").querySelector(".fill")?.addEventListener("click", (e) => openForm(tool, JSON.parse(e.target.dataset.example)));
    $("form").querySelector("form").addEventListener("submit", (e) => {
      e.preventDefault();
      const filled = Object.fromEntries(new FormData(e.target)), alert = e.target.querySelector(".problem");
      call({ tool, filled }, (text) => { alert.textContent = text; alert.hidden = !text; if (text) alert.scrollIntoView({ block: "nearest" }); });
    });
    $("tools").scrollIntoView({ block: "start" });
    $("form").querySelector("input, select, textarea, button")?.focus({ preventScroll: true });
    return undefined;
  }
  $("tool").addEventListener("change", () => openForm(value("tool")));
  document.addEventListener("click", (e) => { const b = e.target.closest("button[data-tool]"); if (b) openForm(b.dataset.tool, JSON.parse(b.dataset.given ?? "{}")); });

  // Elsewhere this key searches the runs; here it would lose what is switched on.
  document.addEventListener("keydown", (e) => {
    if (e.key !== "/" || e.ctrlKey || e.metaKey || e.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(e.target.tagName)) return;
    e.preventDefault();
    e.stopImmediatePropagation();
    $("tool").focus();
  }, true);
  document.addEventListener("asked", poll);
  restore();
  poll();
})();
