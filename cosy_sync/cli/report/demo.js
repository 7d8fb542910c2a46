"use strict";
const $ = (id) => document.getElementById(id);
const audio = $("audio");
const rows = [...$("rows").rows];
const chips = [...document.querySelectorAll("[data-category].chip")];
const said = (row, column) => row.cells[column].textContent;
const file = (row) => row.querySelector("a");
let category = "";
let current = null;
let goesOn = false;

function refresh() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  // "#7" is the seventh, not the seventieth too.
  const has = (row, word) => word[0] === "#" ? `#${said(row, 1)}` === word
    : `${said(row, 2)} ${said(row, 3)}`.toLowerCase().includes(word);
  for (const row of rows) {
    row.hidden = ![row.dataset.category, row.dataset.state, ""].includes(category)
      || !words.every((word) => has(row, word));
  }
  $("shown").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} shown`;
  for (const chip of chips) chip.ariaPressed = chip.dataset.category === category;
}

function sort(head) {
  const down = head.ariaSort === "ascending";
  const at = head.cellIndex;
  const sign = down ? -1 : 1;
  for (const each of head.parentElement.cells) each.removeAttribute("aria-sort");
  head.ariaSort = down ? "descending" : "ascending";
  rows.sort((a, b) => sign * said(a, at).localeCompare(said(b, at), "zh", { numeric: true }));
  $("rows").append(...rows);
}

function play(row) {
  if (row === current && !audio.error) {
    if (audio.paused) audio.play(); else audio.pause();
    return;
  }
  if (current) current.classList.remove("current", "playing");
  current = row;
  row.classList.add("current");
  $("now").textContent = `#${said(row, 1)} ${said(row, 2)}`;
  $("trouble").textContent = "";
  $("player").hidden = false;
  audio.src = file(row).href;
  audio.play().catch(() => {});
}

function playNext() {
  const shown = rows.filter((row) => !row.hidden && file(row));
  const next = shown[shown.indexOf(current) + 1];
  if (next) play(next);
}

$("search").addEventListener("input", refresh);
document.addEventListener("click", ({ target }) => {
  const button = target.closest("button");
  if (chips.includes(button)) {
    category = button.dataset.category;
    refresh();
  } else if (button?.id === "play-all") {
    goesOn = true;
    if (current) current.classList.remove("current", "playing");
    current = null;
    playNext();
  } else if (button?.closest("th")) {
    sort(button.closest("th"));
  } else if (button) {
    goesOn = false;
    play(button.closest("tr"));
  }
});
for (const name of ["play", "pause", "ended"]) {
  audio.addEventListener(name, () => current.classList.toggle("playing", name === "play"));
}
audio.addEventListener("ended", () => goesOn && playNext());
audio.addEventListener("error", () => {
  $("trouble").textContent =
    `Cannot play ${file(current).textContent}: the file is missing or not audio.`;
});
refresh();
