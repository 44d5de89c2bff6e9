"use strict";
// Nothing here is needed to read the page.

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function sortable(table) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const original = [...body.rows];
  const key = (row, column) => {
    const cell = row.cells[column];
    return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim();
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  heads.forEach((head, column) => {
    const button = make("button", "", { type: "button" });
    button.append(...[...head.childNodes].filter((node) => node.nodeName !== "SMALL"));
    head.prepend(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      const rows = [...original];
      if (before !== "descending") {
        const sign = before === "ascending" ? -1 : 1;
        head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
        rows.sort((a, b) => sign * compare(key(a, column), key(b, column)));
      }
      body.append(...rows);
    });
  });
}

function player(root) {
  const sides = [...root.querySelectorAll("[data-side]")].filter((s) => s.querySelector("audio"));
  if (!sides.length) return;
  const audio = (side) => side.querySelector("audio");
  const bar = make("div", "Switch at the same moment:", {
    class: "switch", role: "group", "aria-label": "Switch between the players at the same moment",
  });
  const buttons = sides.map((side) => {
    const title = side.querySelector("strong").textContent;
    const button = make("button", title, { type: "button", "aria-pressed": "false" });
    button.addEventListener("click", () => {
      const from = sides.find((s) => !audio(s).paused) || sides.find((s) => audio(s).currentTime > 0);
      const target = audio(side);
      if (from === side) { if (target.paused) target.play(); else target.pause(); return; }
      const start = from ? audio(from).currentTime : 0;
      if (from) audio(from).pause();
      const go = () => { target.currentTime = start; target.play(); };
      if (target.readyState > 0) go();
      else { target.addEventListener("loadedmetadata", go, { once: true }); target.load(); }
    });
    bar.append(button);
    return button;
  });
  root.prepend(bar);
  const longest = Number(root.dataset.seconds);
  sides.forEach((side, index) => {
    const sound = audio(side);
    const pictures = side.querySelector(".pictures");
    const cursor = make("div", "", { class: "cursor", hidden: "" });
    pictures.append(cursor);
    const place = () => {
      cursor.hidden = sound.currentTime === 0;
      cursor.style.left = `${(100 * sound.currentTime) / longest}%`;
    };
    const follow = () => { place(); if (!sound.paused) requestAnimationFrame(follow); };
    const state = () => {
      side.classList.toggle("playing", !sound.paused);
      buttons[index].setAttribute("aria-pressed", String(!sound.paused));
    };
    sound.addEventListener("play", () => {
      document.querySelectorAll("audio").forEach((other) => { if (other !== sound) other.pause(); });
      state();
      follow();
    });
    for (const name of ["pause", "ended"]) sound.addEventListener(name, state);
    for (const name of ["seeked", "timeupdate"]) sound.addEventListener(name, place);
    pictures.addEventListener("click", (event) => {
      const box = pictures.getBoundingClientRect();
      const wanted = (longest * (event.clientX - box.left)) / box.width;
      const seek = () => { sound.currentTime = Math.min(wanted, sound.duration || wanted); };
      if (sound.readyState > 0) seek();
      else { sound.addEventListener("loadedmetadata", seek, { once: true }); sound.load(); }
    });
  });
}

function graph(root) {
  const marks = [...root.querySelectorAll(".chart .op > title")].map((title) => ({
    element: title.parentElement, text: title.textContent.replaceAll("\n", " · "),
    x: Number(/^M([\d.]+)/.exec(title.parentElement.getAttribute("d"))[1]),
  }));
  if (!marks.length) return;
  const chart = root.querySelector(".chart");
  const bar = make("div", "", { class: "filter" });
  const label = make("label", "Filter operations ", { for: "operation-filter" });
  const input = make("input", "", { type: "search", id: "operation-filter", placeholder: "conv, generator, fp16 …" });
  const count = make("span", "", { role: "status" });
  bar.append(label, input, count);
  chart.before(bar);
  const readout = make("p", "Point at a dot to read its operation.", { class: "readout" });
  chart.after(readout);
  const table = root.querySelector("[data-operations]");
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (text) => words.every((word) => text.toLowerCase().includes(word));
    let shown = 0;
    for (const mark of marks) {
      const fit = fits(mark.text);
      mark.element.classList.toggle("dim", !fit);
      shown += fit ? 1 : 0;
    }
    if (table) for (const row of table.tBodies[0].rows) row.hidden = !fits(row.textContent);
    count.textContent = words.length ? `${shown} of ${marks.length}` : "";
  });
  const svg = chart.querySelector("svg");
  svg.addEventListener("pointermove", (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    let best = null;
    for (const mark of marks) {
      if (mark.element.classList.contains("dim")) continue;
      if (!best || Math.abs(mark.x - at.x) < Math.abs(best.x - at.x)) best = mark;
    }
    if (best) readout.textContent = best.text;
  });
}

function reveal() {
  const target = document.getElementById(location.hash.slice(1));
  if (target instanceof HTMLDetailsElement) target.open = true;
}

document.querySelectorAll("[data-sortable]").forEach(sortable);
document.querySelectorAll("[data-player]").forEach(player);
document.querySelectorAll("[data-graph]").forEach(graph);
window.addEventListener("hashchange", reveal);
reveal();
