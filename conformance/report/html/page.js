// Filters the list of requirements; without this script everything is there, and nothing is filtered.
"use strict";
(() => {
  const form = document.getElementById("filter");
  const every = (selector, root = document) => [...root.querySelectorAll(selector)];
  const rows = every("details.req").map((row) => ({
    row,
    family: row.closest(".family").dataset.family,
    head: row.querySelector("summary").textContent.toLowerCase(),
    level: row.dataset.level,
    entries: every(".entry", row).map((entry) => ({
      entry,
      adapter: entry.dataset.a,
      verdict: entry.dataset.v,
      text: entry.textContent.toLowerCase(),
    })),
    why: every(".why", row).map((part) => part.textContent.toLowerCase()).join(" "),
  }));

  const filter = () => {
    const asked = new FormData(form);
    const verdicts = asked.getAll("verdict"), levels = asked.getAll("level");
    const family = asked.get("family"), adapter = asked.get("adapter") || "";
    const text = asked.get("text").trim().toLowerCase();
    let shown = 0;
    for (const { row, family: own, head, level, entries, why } of rows) {
      const named = !text || head.includes(text) || why.includes(text);
      let some = false;
      for (const one of entries) {
        const fits = (!verdicts.length || verdicts.includes(one.verdict)) && (!adapter || adapter === one.adapter)
          && (named || one.text.includes(text));
        one.entry.hidden = !fits;
        some ||= fits;
      }
      row.hidden = !some || (levels.length && !levels.includes(level)) || (family && family !== own);
      shown += !row.hidden;
    }
    every(".family").forEach((part) => { part.hidden = !part.querySelector("details.req:not([hidden])"); });
    every("[data-a]:not(.entry)").forEach((part) => { part.hidden = adapter !== "" && part.dataset.a !== adapter; });
    document.getElementById("shown").value = `${shown} of ${rows.length} requirements`;
  };

  const visible = () => rows.map(({ row }) => row).filter((row) => !row.hidden);
  const turn = (open) => visible().forEach((row) => { row.open = open; });
  document.getElementById("open").addEventListener("click", () => turn(true));
  document.getElementById("close").addEventListener("click", () => turn(false));
  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());

  // A link to a requirement opens it, and shows all of it even if the filter hides some.
  const follow = () => {
    const target = document.getElementById(location.hash.slice(1));
    if (!target?.matches("details.req")) return;
    if (target.hidden || target.querySelector(".entry[hidden]")) { form.reset(); filter(); }
    target.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", follow);

  // On paper, what is folded away is open, but for requirements that are plainly met.
  let folded = [];
  addEventListener("beforeprint", () => {
    const told = (part) => !part.matches(".req") || part.querySelector(".entry:not([data-v=PASS], [data-v=REFUSED])");
    folded = every("details:not([open])").filter((part) => !part.closest("[hidden]") && told(part));
    folded.forEach((part) => { part.open = true; });
  });
  addEventListener("afterprint", () => folded.forEach((part) => { part.open = false; }));

  form.hidden = false;
  filter();
  follow();
})();
