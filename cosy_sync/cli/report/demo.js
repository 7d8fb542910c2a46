(() => {
  "use strict";
  const $ = (id) => document.getElementById(id);
  const audio = $("audio");
  const rows = [...$("rows").rows];
  const cell = (row, name) => row.querySelector(`.${name}`).textContent;
  const link = (row) => row.querySelector("td.file a");
  const words = new Map(rows.map((row) => [
    row, `#${cell(row, "index")} ${cell(row, "text")} ${cell(row, "category")}`.toLowerCase(),
  ]));
  let category = "";
  let current = null;
  let goesOn = false;

  function refresh() {
    const wanted = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const kind = category === "!failed" ? "failed" in row.dataset
        : !category || row.dataset.category === category;
      // "#7" is the seventh, not the seventieth too.
      row.hidden = !(kind && wanted.every((word) => word[0] === "#"
        ? words.get(row).startsWith(`${word} `) : words.get(row).includes(word)));
    }
    const shown = rows.filter((row) => !row.hidden).length;
    $("shown").textContent = `${shown} of ${rows.length} shown`;
    for (const chip of $("chips").children) {
      chip.setAttribute("aria-pressed", String(chip.dataset.category === category));
    }
  }

  function sort(button) {
    const head = button.parentElement;
    const down = head.getAttribute("aria-sort") === "ascending";
    const name = button.dataset.sort;
    for (const each of head.parentElement.cells) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const byWords = name === "text" || name === "category";
    const order = (a, b) => byWords ? cell(a, name).localeCompare(cell(b, name), "zh")
      : (parseFloat(cell(a, name)) || 0) - (parseFloat(cell(b, name)) || 0);
    $("rows").append(...rows.sort((a, b) => down ? order(b, a) : order(a, b)));
  }

  function play(row) {
    if (row === current && !audio.error) {
      if (audio.paused) audio.play(); else audio.pause();
      return;
    }
    if (current) current.classList.remove("current", "playing");
    current = row;
    row.classList.add("current");
    $("now").textContent = `#${cell(row, "index")} ${cell(row, "text")}`;
    $("trouble").textContent = "";
    $("player").hidden = false;
    audio.src = link(row).href;
    audio.play().catch(() => {});
  }

  function playNext() {
    const shown = rows.filter((row) => !row.hidden && link(row));
    const next = shown[shown.indexOf(current) + 1];
    if (next) play(next);
  }

  $("search").addEventListener("input", refresh);
  $("chips").addEventListener("click", (event) => {
    const chip = event.target.closest("button");
    if (chip) category = chip.dataset.category;
    refresh();
  });
  for (const button of document.querySelectorAll("[data-sort]")) {
    button.addEventListener("click", () => sort(button));
  }
  $("rows").addEventListener("click", (event) => {
    const button = event.target.closest("td.play button");
    if (button) { goesOn = false; play(button.closest("tr")); }
  });
  $("play-all").addEventListener("click", () => {
    goesOn = true;
    if (current) current.classList.remove("current", "playing");
    current = null;
    playNext();
  });
  for (const name of ["play", "pause", "ended"]) {
    audio.addEventListener(name, () => current.classList.toggle("playing", name === "play"));
  }
  audio.addEventListener("ended", () => goesOn && playNext());
  audio.addEventListener("error", () => {
    $("trouble").textContent =
      `Cannot play ${link(current).textContent}: the file is missing or not audio.`;
  });
  refresh();
})();
