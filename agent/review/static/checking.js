// The check of a task on the workbench: what is known of it before a run, as the doctor says it.
"use strict";
(() => {
  const details = document.getElementById("check");
  if (!details) return;
  const { el } = window.drawings, $ = (id) => document.getElementById(id);
  let asked = "";

  async function check() {
    const task = $("check-task").value, into = $("checked");
    if (!details.open || task === asked) return;
    asked = task;
    into.setAttribute("aria-busy", "true");
    into.replaceChildren(el("p", { class: "quiet" }, `reading ${task} …`));
    let shown;
    try {
      const response = await fetch(`/workbench/checked.html?task=${encodeURIComponent(task)}`), text = await response.text();
      if (!response.ok) throw new Error(JSON.parse(text).error);
      shown = [...new DOMParser().parseFromString(text, "text/html").body.childNodes];
    } catch (error) {
      shown = [el("p", { class: "problem", role: "alert" }, error.message)];
    }
    if (task !== asked) return; // somebody chose another one since
    if (shown[0].className === "problem") asked = "";
    into.replaceChildren(...shown);
    into.setAttribute("aria-busy", "false");
  }

  details.addEventListener("toggle", () => {
    if (details.open && !asked) $("check-task").value = $("task").value;
    check();
  });
  $("check-task").addEventListener("change", check);
})();
