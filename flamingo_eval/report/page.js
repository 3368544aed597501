"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);

  /* Text goes in as text, never as markup. */
  function el(tag, props, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(props || {})) {
      if (name.startsWith("aria-") && typeof value === "boolean") node.setAttribute(name, String(value));
      else if (value === undefined || value === null || value === false) continue;
      else if (name === "class") node.className = value;
      else if (name === "on") for (const [event, f] of Object.entries(value)) node.addEventListener(event, f);
      else node.setAttribute(name, value === true ? "" : String(value));
    }
    for (const child of children.flat()) {
      if (child === null || child === undefined || child === false) continue;
      node.append(child instanceof Node ? child : document.createTextNode(String(child)));
    }
    return node;
  }

  /* ---------------------------------------------------------------- theme */
  const themes = ["system", "light", "dark"];
  const signs = { system: "◐", light: "☀", dark: "☾" };
  let theme = "system";
  try { theme = localStorage.getItem("flamingo-eval-theme") || "system"; } catch { /* storage is off: for this view only */ }
  if (!themes.includes(theme)) theme = "system";
  function showTheme() {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    $("theme").textContent = signs[theme];
    $("theme").setAttribute("aria-label", "Colours: " + (theme === "system" ? "as the system" : theme));
  }
  $("theme").addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    try { localStorage.setItem("flamingo-eval-theme", theme); } catch { /* as above */ }
    showTheme();
  });
  showTheme();

  /* --------------------------------------------------------------- tables */
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      head.firstElementChild.addEventListener("click", () => {
        const was = head.getAttribute("aria-sort");
        const number = head.classList.contains("number");
        const first = number ? "descending" : "ascending";
        const second = number ? "ascending" : "descending";
        const now = was === null ? first : was === first ? second : null;
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        if (now) head.setAttribute("aria-sort", now);
        const sign = now === "descending" ? -1 : 1;
        const rows = now === null ? original : [...original].sort((a, b) => {
          const x = a.cells[column].dataset.v, y = b.cells[column].dataset.v;
          if (x === "" || y === "") return (x === "") - (y === "");
          return sign * (number ? Number(x) - Number(y) : x.localeCompare(y, "en", { numeric: true }));
        });
        body.append(...rows);
      });
    });
  }

  /* -------------------------------------------------------------- browser */
  if (!data.tasks.some((t) => t.queries.length)) return;
  $("browser").hidden = false;
  const state = { task: 0, run: 0, other: -2, filter: "all", type: "", order: "file", search: "", query: 0 };
  const NONE = -2, ANY = -1;
  let shown = [];

  const task = () => data.tasks[state.task];
  const run = () => task().runs[state.run];
  const answerOf = (r, q) => task().runs[r].answers[q];
  const said = (a) => (a === null ? "" : a.error ? "failed" : a.answer ?? "");
  const others = () => state.other >= 0 ? [state.other]
    : task().runs.map((_, i) => i).filter((i) => i !== state.run && task().runs[i].series === run().series);
  const changed = (q) => others().some((r) => answerOf(r, q) && answerOf(state.run, q) && said(answerOf(r, q)) !== said(answerOf(state.run, q)));

  const filters = {
    all: ["All", () => true],
    wrong: ["Wrong", (a) => a && a.ok === false],
    right: ["Right", (a) => a && a.ok === true],
    changed: ["Changed", (a, q) => changed(q)],
    failed: ["Failed", (a) => a && a.error],
  };
  const orders = { file: "as in the file", low: "lowest score first", high: "highest score first" };

  function fill(select, entries, value) {
    select.replaceChildren(...entries.map(([v, text]) => el("option", { value: v }, text)));
    select.value = String(value);
  }
  function segments(box, name, entries, value, choose) {
    box.replaceChildren(...entries.map(([v, text, off]) => {
      const input = el("input", { type: "radio", name, value: v, checked: v === value, disabled: off,
        on: { change: () => choose(v) } });
      return el("label", {}, input, text);
    }));
  }
  const unique = (values) => [...new Set(values)];
  const label = (r) => `${r.shots} shots, seed ${r.seed}` + (unique(task().runs.map((x) => x.series)).length > 1 ? `, ${r.series}` : "");

  /* The run with these properties, or the nearest one: a series may lack a seed or a number of shots. */
  function pick(series, shots, seed) {
    const runs = task().runs;
    const cost = (r) => (r.series === series ? 0 : 1e6) + Math.abs(r.shots - shots) * 100 + Math.abs(r.seed - seed);
    return runs.reduce((best, r, i) => (cost(r) < cost(runs[best]) ? i : best), 0);
  }

  function controls() {
    const t = task(), r = run();
    fill($("task"), data.tasks.map((x, i) => [i, x.label]), state.task);
    fill($("series"), unique(t.runs.map((x) => x.series)).map((s) => [s, s]), r.series);
    const mine = t.runs.filter((x) => x.series === r.series);
    const byNumber = (a, b) => a - b;
    segments($("shots"), "shots", unique(mine.map((x) => x.shots)).sort(byNumber).map((k) => [k, k]), r.shots,
      (k) => setRun(pick(r.series, k, run().seed)));
    segments($("seeds"), "seed", unique(mine.map((x) => x.seed)).sort(byNumber).map((k) => [k, k]), r.seed,
      (k) => setRun(pick(r.series, run().shots, k)));
    fill($("other"), [[NONE, "no other run"], [ANY, "all runs of this model"],
      ...t.runs.map((x, i) => [i, label(x)]).filter(([i]) => i !== state.run)], state.other);
    const any = (name) => t.queries.some((_, q) => filters[name][1](answerOf(state.run, q), q));
    segments($("filter"), "filter", Object.entries(filters).map(([name, [text]]) => [name, text, name !== "all" && !any(name)]),
      state.filter, (name) => { state.filter = name; listing(); });
    fill($("type"), [["", "all"], ...t.types.map((x) => [x, x])], t.types.includes(state.type) ? state.type : "");
    fill($("order"), Object.entries(orders), state.order);
  }

  function setRun(index) {
    state.run = index;
    if (state.other === index) state.other = NONE;
    const back = document.activeElement;
    const group = back && back.name && back.type === "radio" ? back.name : "";
    controls();
    if (group) document.querySelector(`input[name="${group}"]:checked`)?.focus();
    listing();
  }
  function setTask(index) {
    const r = run();
    Object.assign(state, { task: index, other: NONE, query: 0, type: "", run: 0 });
    state.run = pick(r.series, r.shots, r.seed);
    controls();
    listing();
  }

  function badge(a) {
    if (!a) return el("span", { class: "badge" }, "–");
    if (a.error) return el("span", { class: "badge bad" }, "failed");
    const kind = a.ok === true ? " ok" : a.ok === false ? " bad" : "";
    const sign = a.ok === true ? "✓ " : a.ok === false ? "✗ " : "";
    const text = a.score === undefined ? (a.ok === undefined ? "answered" : a.ok ? "right" : "wrong") : Math.round(a.score * 10) / 10;
    return el("span", { class: "badge" + kind }, sign + text);
  }
  /* An ablation may have changed what is right in its run. */
  function referencesOf(query, a) {
    return a?.references || query.references;
  }
  function picture(index) {
    const p = data.pictures[index];
    if (!p.uri) return el("div", { class: "absent" }, p.about, el("br"), p.why);
    return el("img", { src: p.uri, alt: p.about, title: p.about, width: p.w, height: p.h });
  }

  function listing() {
    const t = task(), words = state.search.toLowerCase().trim();
    const keep = filters[state.filter][1];
    shown = t.queries.map((_, q) => q).filter((q) => {
      const query = t.queries[q], a = answerOf(state.run, q);
      if (!keep(a, q)) return false;
      if (state.type && !query.labels.includes(state.type)) return false;
      return !words || [query.id, query.text, said(a), ...referencesOf(query, a).map((x) => x[0])].join("\n").toLowerCase().includes(words);
    });
    const score = (q) => answerOf(state.run, q)?.score ?? (answerOf(state.run, q)?.ok === true ? 100 : 0);
    if (state.order !== "file") shown.sort((a, b) => (state.order === "low" ? 1 : -1) * (score(a) - score(b)) || a - b);
    $("list").replaceChildren(...shown.map((q) => {
      const query = t.queries[q], a = answerOf(state.run, q);
      const small = query.pictures.length && data.pictures[query.pictures[0]].uri;
      return el("li", { role: "option", id: "q" + q, "aria-selected": "false", on: { click: () => choose(q) } },
        small ? el("img", { src: small, alt: "" }) : el("span", { class: "blank" }),
        el("span", {}, el("span", { class: "said" }, said(a) || "(nothing)"), el("span", { class: "asked" }, query.text || query.id)),
        badge(a));
    }));
    if (!shown.length) $("list").append(el("li", { class: "empty", role: "option", "aria-disabled": "true" }, "No query fits."));
    const sampled = t.shown < t.of ? `, a keyed draw out of ${t.of.toLocaleString("en")}` : "";
    $("count").textContent = `${shown.length} of ${t.shown} queries on this page${sampled}.` + (t.why ? ` No prompts here: ${t.why}.` : "");
    choose(shown.includes(state.query) ? state.query : shown[0] ?? -1);
  }

  function choose(q, focus) {
    const list = $("list");
    list.querySelector('[aria-selected="true"]')?.setAttribute("aria-selected", "false");
    if (q < 0 || q === undefined) {
      list.removeAttribute("aria-activedescendant");
      $("detail").replaceChildren();
      return;
    }
    state.query = q;
    const item = $("q" + q);
    item.setAttribute("aria-selected", "true");
    list.setAttribute("aria-activedescendant", item.id);
    const top = item.offsetTop - list.offsetTop, bottom = top + item.offsetHeight;
    if (top < list.scrollTop) list.scrollTop = top - 6;
    else if (bottom > list.scrollTop + list.clientHeight) list.scrollTop = bottom - list.clientHeight + 6;
    detail();
    if (focus) list.focus();
    try { history.replaceState(null, "", address()); } catch { /* not everywhere from file:// */ }
  }
  /* What is shown, by name: a link keeps its meaning when runs are added to the page. */
  function address() {
    const r = run();
    return "#" + new URLSearchParams({ query: task().queries[state.query].id, task: task().label, run: runName(r) });
  }
  const runName = (r) => `${r.series}, ${r.shots} shots, seed ${r.seed}`;
  function addressed() {
    const asked = new URLSearchParams(location.hash.slice(1));
    if (!asked.has("query")) return false;
    const at = data.tasks.findIndex((t) => t.label === asked.get("task"));
    if (at < 0) return false;
    const runAt = data.tasks[at].runs.findIndex((r) => runName(r) === asked.get("run"));
    const queryAt = data.tasks[at].queries.findIndex((q) => q.id === asked.get("query"));
    if (runAt < 0 || queryAt < 0) return false;
    Object.assign(state, { task: at, run: runAt, query: queryAt });
    return true;
  }
  function step(by) {
    if (!shown.length) return;
    const at = shown.indexOf(state.query);
    choose(shown[Math.min(shown.length - 1, Math.max(0, at + by))]);
  }
  function moreShots(by) {
    const r = run();
    const shots = unique(task().runs.filter((x) => x.series === r.series).map((x) => x.shots)).sort((a, b) => a - b);
    const next = shots[shots.indexOf(r.shots) + by];
    if (next !== undefined) setRun(pick(r.series, next, r.seed));
  }

  /* --------------------------------------------------------- one query */
  function detail() {
    const t = task(), r = run(), q = state.query, query = t.queries[q], a = answerOf(state.run, q);
    const parts = [el("div", { class: "head" },
      el("div", {}, el("span", {}, "query ", el("b", {}, query.id)), el("span", {}, label(r)),
        query.labels.map((x) => el("span", { class: "chip" }, x))),
      el("span", { class: "step" },
        el("button", { type: "button", class: "quiet", "aria-label": "Previous query", on: { click: () => step(-1) } }, "↑"),
        el("button", { type: "button", class: "quiet", "aria-label": "Next query", on: { click: () => step(1) } }, "↓")))];
    const verdict = el("div", { class: "verdict" }, answerBox("Answer", a, true));
    if (state.other >= 0) verdict.append(answerBox(label(t.runs[state.other]), answerOf(state.other, q), false));
    const references = referencesOf(query, a);
    if (references.length) {
      const long = references.some(([text]) => text.length > 40);
      verdict.append(el("div", {}, el("h3", {}, "References"), el("ul", { class: "refs" + (long ? " long" : "") },
        references.map(([text, n]) => el("li", {}, text, n > 1 && el("small", {}, ` ×${n}`))))));
    }
    parts.push(verdict);
    if (a && a.top) parts.push(el("h3", {}, "Candidates, by log-likelihood"), ranks(a.top));
    if (t.runs.length > 1) parts.push(el("h3", {}, "The same query in every run"), matrix(q));
    if (a) {
      parts.push(el("h3", {}, `Prompt, ${a.tokens} tokens` + (r.text_only ? `, ${r.text_only} demonstrations without pictures` : "")));
      parts.push(Array.isArray(a.prompt) ? prompt(a, r) : el("p", { class: "note" }, a.prompt || t.why || "The prompt is not on this page."));
      if (a.raw !== undefined) parts.push(el("h3", {}, "As the model wrote it"), el("pre", {}, a.raw || "(nothing)"));
    }
    $("detail").replaceChildren(...parts);
  }
  function answerBox(title, a, mine) {
    const text = !a ? "not in this run" : a.error || a.answer || "(nothing)";
    const empty = !a || a.error || !a.answer;
    return el("div", { class: mine ? "mine" : "" }, el("h3", {}, title, badge(a)),
      el("p", { class: "said-big" + (empty ? " nothing" : "") }, text));
  }
  function ranks(top) {
    const finite = top.map((x) => x[1]).filter((x) => x !== null);
    const high = Math.max(...finite), low = Math.min(...finite, high - 1);
    return el("table", { class: "ranks" }, el("tbody", {}, top.map(([text, score, rank, right]) =>
      el("tr", {}, el("td", { class: "number" }, rank + "."), el("td", {}, data.texts[text], right && el("span", { class: "badge ok" }, "✓ right")),
        el("td", {}, score !== null && el("meter", { min: low - (high - low) * 0.1, max: high, value: score, "aria-label": "log-likelihood" })),
        el("td", { class: "number" }, score === null ? "not finite" : score.toFixed(2))))));
  }
  function matrix(q) {
    const runs = task().runs;
    const shots = unique(runs.map((x) => x.shots)).sort((a, b) => a - b);
    const rows = unique(runs.map((x) => `${x.series}\n${x.seed}`));
    const several = unique(runs.map((x) => x.series)).length > 1;
    return el("div", { class: "matrix" }, el("table", {},
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, el("span", { class: "hidden" }, "run")), shots.map((k) => el("th", { scope: "col" }, `${k} shots`)))),
      el("tbody", {}, rows.map((row) => {
        const [series, seed] = row.split("\n");
        return el("tr", {}, el("th", { scope: "row" }, (several ? series + ", " : "") + "seed " + seed), shots.map((k) => {
          const i = runs.findIndex((x) => x.series === series && String(x.seed) === seed && x.shots === k);
          if (i < 0) return el("td", {});
          const a = answerOf(i, q), kind = a && a.ok === true ? "ok" : a && (a.ok === false || a.error) ? "bad" : "";
          const verdict = kind === "ok" ? "right" : kind === "bad" ? "wrong" : "";
          return el("td", {}, el("button", { type: "button", class: kind, "aria-pressed": i === state.run, title: said(a) + (verdict && ` (${verdict})`),
            on: { click: () => setRun(i) } }, said(a) || "(nothing)"));
        }));
      }))));
  }
  function prompt(a, r) {
    return el("ol", { class: "prompt" }, a.prompt.map((number, i) => {
      const [pictures, text, closed] = data.cards[number];
      const query = i === a.prompt.length - 1;
      const wide = pictures.some((p) => data.pictures[p].frames > 1) || (!pictures.length && data.texts[text].length > 160);
      return el("li", { class: (query ? "query" : "") + (wide ? " wide" : "") },
        pictures.map((p) => picture(p)),
        el("p", { class: "text" }, data.texts[text], query && a.answer !== undefined && " ",
          query && a.answer !== undefined && el("span", { class: "completion" }, a.answer || "(nothing)"),
          closed ? el("span", { class: "token" }, r.eoc) : null));
    }));
  }

  /* ------------------------------------------------------------- events */
  $("task").addEventListener("change", (e) => setTask(Number(e.target.value)));
  $("series").addEventListener("change", (e) => setRun(pick(e.target.value, run().shots, run().seed)));
  $("other").addEventListener("change", (e) => { state.other = Number(e.target.value); controls(); listing(); });
  $("type").addEventListener("change", (e) => { state.type = e.target.value; listing(); });
  $("order").addEventListener("change", (e) => { state.order = e.target.value; listing(); });
  $("search").addEventListener("input", (e) => { state.search = e.target.value; listing(); });
  document.querySelector(".controls").addEventListener("submit", (e) => e.preventDefault());
  const keys = {
    ArrowDown: () => step(1), ArrowUp: () => step(-1), PageDown: () => step(8), PageUp: () => step(-8),
    Home: () => step(-1e9), End: () => step(1e9), ArrowLeft: () => moreShots(-1), ArrowRight: () => moreShots(1),
    Enter: () => $("detail").focus(),
  };
  $("list").addEventListener("keydown", (e) => {
    if (keys[e.key] && !e.ctrlKey && !e.metaKey && !e.altKey) { e.preventDefault(); keys[e.key](); }
  });
  /* Arrow keys work without a click wherever the queries fill the window and nothing else has the focus. */
  const inView = () => {
    const box = document.querySelector(".split").getBoundingClientRect();
    return box.top < innerHeight * 0.6 && box.bottom > innerHeight * 0.3;
  };
  document.addEventListener("keydown", (e) => {
    const free = document.activeElement === document.body || document.activeElement === $("detail");
    if (free && inView() && /^Arrow/.test(e.key) && !e.ctrlKey && !e.metaKey && !e.altKey) { e.preventDefault(); keys[e.key](); }
  });
  document.addEventListener("keydown", (e) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(e.target.tagName) && e.target.type !== "radio";
    if (e.key === "/" && !typing && !e.ctrlKey && !e.metaKey) { e.preventDefault(); $("search").focus(); }
    if (e.key === "Escape" && e.target === $("search")) { e.target.value = state.search = ""; listing(); $("list").focus(); }
  });

  const linked = addressed();
  if (!linked) {
    const runs = task().runs;
    state.run = pick(runs[0].series, 4, runs[0].seed);
  }
  controls();
  const hash = location.hash;
  listing();
  if (!linked && hash !== location.hash) try { history.replaceState(null, "", hash || location.pathname); } catch { /* as above */ }
  if (linked) $("queries").scrollIntoView();
  addEventListener("hashchange", () => { if (addressed()) { controls(); listing(); } });
})();
