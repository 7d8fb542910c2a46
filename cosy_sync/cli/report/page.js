"use strict";
(() => {
  const FIELDS = ["index", "text", "category", "file", "seconds", "latency", "batch", "error",
    "bytes"];
  const CHUNK = 120;
  const FAILED = "!failed";
  const SHAPES = {
    play: '<svg viewBox="0 0 24 24" aria-hidden="true">' +
      '<path class="solid" d="M8 5v14l11-7z"/></svg>',
    pause: '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M8.5 6v12M15.5 6v12" ' +
      'stroke-width="4" stroke-linecap="butt"/></svg>',
  };
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("run-data").textContent);
  const fold = (text) => text.normalize("NFKC").toLowerCase();
  const rows = data.rows.map((cells) => {
    const row = Object.fromEntries(FIELDS.map((field, i) => [field, cells[i]]));
    const name = data.names[row.category] || "";
    row.hay = fold(`${row.text} ${row.category} ${name} ${row.error ? "failed" : ""}`);
    return row;
  });
  const order = new Intl.Collator("zh-CN");
  const state = { query: "", category: "", sort: "index", down: false };
  let shown = [];
  let current = null;
  const made = new Map();

  /* ---- search, filter, sort ---- */

  function matcher(query) {
    const words = fold(query).split(/\s+/).filter(Boolean);
    return (row) => words.every((word) =>
      /^#\d+$/.test(word) ? String(row.index) === word.slice(1) : row.hay.includes(word));
  }

  function compare(a, b) {
    const x = a[state.sort], y = b[state.sort];
    const blankX = x === null || a.error !== null, blankY = y === null || b.error !== null;
    const measured = ["seconds", "latency", "bytes"].includes(state.sort);
    if (measured && blankX !== blankY) return blankX ? 1 : -1;
    const ahead = typeof x === "string" ? order.compare(x, y) : x - y;
    return (state.down ? -ahead : ahead) || a.index - b.index;
  }

  function refresh() {
    const found = rows.filter(matcher(state.query));
    const inChip = (row) => !state.category ||
      (state.category === FAILED ? row.error !== null : row.category === state.category);
    shown = found.filter(inChip).sort(compare);
    drawChips(found);
    drawHeads();
    made.clear();
    $("rows").replaceChildren();
    more();
    const all = rows.length.toLocaleString("en");
    const some = shown.length.toLocaleString("en");
    const whole = shown.length === rows.length;
    $("shown").textContent = whole ? `${all} shown` : `${some} of ${all} shown`;
    $("play-all").lastChild.textContent = whole ? "Play all" : "Play these";
    $("nothing").hidden = shown.length > 0;
    $("table").hidden = shown.length === 0;
    $("play-all").disabled = !shown.some((row) => row.file);
  }

  function drawChips(found) {
    const counts = new Map([["", found.length]]);
    for (const row of rows) counts.set(row.category, 0);
    if (rows.some((row) => row.error !== null)) counts.set(FAILED, 0);
    for (const row of found) {
      counts.set(row.category, counts.get(row.category) + 1);
      if (row.error !== null) counts.set(FAILED, counts.get(FAILED) + 1);
    }
    const box = $("chips");
    if (box.children.length !== counts.size) box.replaceChildren(...[...counts].map(chip));
    for (const button of box.children) {
      button.setAttribute("aria-pressed", String(button.dataset.category === state.category));
      button.querySelector("i").textContent = counts.get(button.dataset.category);
    }
  }

  function chip([category]) {
    const button = document.createElement("button");
    const tally = document.createElement("i");
    button.type = "button";
    button.dataset.category = category;
    const label = [category.replace("!", "") || "all", data.names[category]];
    button.append(label.filter(Boolean).join(" "), tally);
    button.addEventListener("click", () => {
      state.category = state.category === category ? "" : category;
      changed();
    });
    return button;
  }

  function drawHeads() {
    for (const button of document.querySelectorAll("[data-sort]")) {
      const head = button.parentElement;
      if (button.dataset.sort !== state.sort) head.removeAttribute("aria-sort");
      else head.setAttribute("aria-sort", state.down ? "descending" : "ascending");
    }
  }

  /* ---- rows, made when they come near the screen ---- */

  function more() {
    const from = made.size;
    const next = shown.slice(from, from + CHUNK);
    if (next.length) $("rows").append(...next.map(makeRow));
    return next.length > 0;
  }

  function makeRow(row) {
    const tr = $("row").content.firstElementChild.cloneNode(true);
    const cell = (name) => tr.querySelector(`.${name}`);
    cell("index").textContent = row.index;
    highlight(cell("text").firstElementChild, row.text);
    cell("tag").textContent = row.category;
    cell("tag").style.setProperty("--tag", `var(--category-${CSS.escape(row.category)})`);
    cell("seconds").textContent = row.seconds === null ? "–" : `${row.seconds.toFixed(2)} s`;
    cell("latency").textContent = row.latency === null ? "–" : spell(row.latency);
    if (row.error !== null) cell("text").append(make("span", row.error, "error"));
    if (row.file) linkFile(cell("file"), row);
    made.set(row, tr);
    if (!row.file) cell("play").replaceChildren(make("span", "!", "refused"));
    drawRow(row);
    return tr;
  }

  function make(kind, text, name) {
    const element = document.createElement(kind);
    element.textContent = text;
    element.className = name || "";
    return element;
  }

  function fileName(row) {
    return decodeURIComponent(row.file.slice(2));
  }

  function linkFile(cell, row) {
    const link = make("a", fileName(row).split("/").pop());
    link.href = row.file;
    cell.append(link, make("small", `${Math.max(1, Math.round(row.bytes / 1000))} kB`));
  }

  function spell(seconds) {
    return seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(2)} s`;
  }

  function highlight(element, text) {
    const words = state.query.split(/\s+/).filter((word) => word && !word.startsWith("#"));
    if (!words.length) { element.textContent = text; return; }
    const plain = words.map((word) => word.replace(/[.*+?^$()|[\]{}\\]/g, "\\$&"));
    text.split(new RegExp(`(${plain.join("|")})`, "i")).forEach((piece, i) => {
      element.append(i % 2 ? make("mark", piece) : piece);
    });
  }

  /* ---- the player: one audio element, loaded only on play ---- */

  const audio = $("audio");

  function start(row) {
    const before = current;
    current = row;
    if (before) drawRow(before);
    if (made.has(row)) made.get(row).classList.remove("missing");
    $("trouble").textContent = "";
    $("player").hidden = false;
    document.body.classList.add("playing");
    $("now").replaceChildren(make("b", `#${row.index}`), row.text);
    audio.src = row.file;
    audio.play().catch((reason) => {
      if (reason.name === "NotAllowedError") trouble("The browser wants a click before it plays.");
    });
    draw();
  }

  function press(row) {
    if (row !== current || audio.error) start(row);
    else if (audio.paused) audio.play().catch(() => {});
    else audio.pause();
  }

  function step(way) {
    const at = shown.indexOf(current);
    for (let i = at + way; i >= 0 && i < shown.length; i += way) {
      if (!shown[i].file) continue;
      while (!made.has(shown[i]) && more());
      start(shown[i]);
      made.get(current).scrollIntoView({ block: "nearest" });
      return;
    }
    if (way > 0) $("go-on").checked = false;
  }

  function trouble(words) {
    $("trouble").textContent = words;
    draw();
  }

  function missing() {
    if (!current || !audio.getAttribute("src")) return;
    const tr = made.get(current);
    if (tr) tr.classList.add("missing");
    trouble(`Cannot play ${fileName(current)}: the file is missing or not audio.`);
  }

  function quit() {
    const row = current;
    current = null;
    audio.pause();
    audio.removeAttribute("src");
    $("player").hidden = true;
    document.body.classList.remove("playing");
    if (row) drawRow(row);
  }

  const playing = () => current !== null && !audio.paused && !audio.ended && !audio.error;
  const length = () => (Number.isFinite(audio.duration) && audio.duration) ||
    (current && current.seconds) || 0;
  const clock = (s, total) => total < 60 ? s.toFixed(1) :
    `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;

  function drawRow(row) {
    const tr = made.get(row);
    const button = tr && tr.querySelector("td.play button");
    if (!button) return;
    const active = row === current && playing();
    tr.classList.toggle("current", row === current);
    button.querySelector("svg")?.remove();
    button.insertAdjacentHTML("beforeend", active ? SHAPES.pause : SHAPES.play);
    button.setAttribute("aria-label", `${active ? "Pause" : "Play"} sentence ${row.index}`);
  }

  function draw() {
    if (!current) return;
    drawRow(current);
    $("toggle").innerHTML = playing() ? SHAPES.pause : SHAPES.play;
    $("toggle").setAttribute("aria-label", playing() ? "Pause" : "Play");
    progress();
  }

  let frame = 0;

  function progress() {
    cancelAnimationFrame(frame);
    if (!current) return;
    const total = length();
    const done = total ? Math.min(1, audio.currentTime / total) : 0;
    const tr = made.get(current);
    if (tr) tr.style.setProperty("--done", done.toFixed(3));
    if (document.activeElement !== $("seek") || playing()) $("seek").value = done;
    const unit = total < 60 ? " s" : "";
    $("time").textContent = `${clock(audio.currentTime, total)} / ${clock(total, total)}${unit}`;
    if (playing()) frame = requestAnimationFrame(progress);
  }

  /* ---- the address: #q=…&category=…&sort=…&down=1 ---- */

  function readAddress() {
    const given = new URLSearchParams(location.hash.slice(1));
    const sorts = [...document.querySelectorAll("[data-sort]")].map((b) => b.dataset.sort);
    state.query = given.get("q") || "";
    state.category = given.get("category") || "";
    state.sort = sorts.includes(given.get("sort")) ? given.get("sort") : "index";
    state.down = given.get("down") === "1";
    $("search").value = state.query;
    refresh();
  }

  function changed() {
    const kept = new URLSearchParams();
    if (state.query) kept.set("q", state.query);
    if (state.category) kept.set("category", state.category);
    if (state.sort !== "index" || state.down) kept.set("sort", state.sort);
    if (state.down) kept.set("down", "1");
    const hash = String(kept);
    try {
      history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
    } catch { /* some browsers refuse this for local files; the page works without it */ }
    refresh();
  }

  /* ---- wiring ---- */

  $("search").addEventListener("input", (event) => {
    state.query = event.target.value;
    changed();
  });
  $("reset").addEventListener("click", () => {
    state.query = state.category = $("search").value = "";
    changed();
  });
  document.querySelector("thead").addEventListener("click", (event) => {
    const button = event.target.closest("[data-sort]");
    if (!button) return;
    state.down = state.sort === button.dataset.sort && !state.down;
    state.sort = button.dataset.sort;
    changed();
  });
  $("rows").addEventListener("click", (event) => {
    const tr = event.target.closest("td.play button") && event.target.closest("tr");
    const found = tr && [...made].find(([, element]) => element === tr);
    if (found) press(found[0]);
  });
  $("play-all").addEventListener("click", () => {
    $("go-on").checked = true;
    current = null;
    step(1);
  });
  $("toggle").addEventListener("click", () => current && press(current));
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("close").addEventListener("click", quit);
  $("seek").addEventListener("input", (event) => {
    if (length()) audio.currentTime = event.target.value * length();
  });
  for (const name of ["play", "pause", "playing", "seeked"]) audio.addEventListener(name, draw);
  audio.addEventListener("ended", () => { draw(); if ($("go-on").checked) step(1); });
  audio.addEventListener("error", missing);
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input:not([type=range], [type=checkbox])");
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/" && !typing) { event.preventDefault(); $("search").focus(); }
    if (typing || !current) return;
    if (event.key === "n") step(1);
    if (event.key === "p") step(-1);
    if (event.key === "Escape") quit();
  });
  window.addEventListener("hashchange", readAddress);
  new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) while (more() && nearEnd());
  }, { rootMargin: "800px" }).observe($("more"));
  const nearEnd = () => $("more").getBoundingClientRect().top < innerHeight + 800;

  readAddress();
})();
