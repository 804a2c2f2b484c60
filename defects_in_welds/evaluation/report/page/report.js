"use strict";

function drawFigures() {
  const isTouched = matchMedia("(pointer: coarse)").matches;
  for (const source of document.querySelectorAll("script[data-figure]")) {
    const element = document.getElementById(source.dataset.figure);
    const figure = JSON.parse(source.textContent);
    // A finger that scrolls the page must not zoom into the figure.
    if (isTouched) figure.layout.dragmode = false;
    element.replaceChildren();
    // Plotly forgets a height of its own when it follows the width of the window: the element has it.
    element.style.height = figure.height + "px";
    const options = { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "resetScale2d"]] };
    if (isTouched) options.displayModeBar = false;
    Plotly.newPlot(element, figure.data, figure.layout, options).then(() => {
      fitLegend(element, figure.height);
      element.on("plotly_afterplot", () => fitLegend(element, figure.height));
    });
  }
}

// The legend takes its room below the plot, never from it.
function fitLegend(element, plotHeight) {
  const legend = element.querySelector(".legend .bg");
  const height = `${plotHeight + (legend ? Math.ceil(legend.getBBox().height) : 0)}px`;
  if (height !== element.style.height) {
    element.style.height = height;
    Plotly.Plots.resize(element);
  }
}

function applyGreyLevels(form) {
  const width = form.window.valueAsNumber / 100;
  const level = form.level.valueAsNumber / 100;
  form.window_text.value = form.window.value + " %";
  form.level_text.value = form.level.value + " %";
  const slope = (form.inverted.checked ? -1 : 1) / width;
  const filter = document.querySelector(".definitions filter");
  for (const channel of filter.firstElementChild.children) {
    channel.setAttribute("slope", slope);
    channel.setAttribute("intercept", 0.5 - slope * level);
  }
  // A new name makes every browser paint the pictures anew.
  filter.id = "grey-" + (Number(filter.id.slice(5)) + 1);
  const isPlain = slope === 1 && level === 0.5;
  document.documentElement.style.setProperty("--grey", isPlain ? "none" : `url(#${filter.id})`);
  for (const kind of ["known", "report"]) document.body.classList.toggle("hide-" + kind, !form[kind].checked);
}

const PAGE_OF_CARDS = 12;
let mostCards = PAGE_OF_CARDS;

const ORDERS = {
  worst: (a, b) => a.dataset.rank - b.dataset.rank,
  score: (a, b) => (b.dataset.score || -1) - (a.dataset.score || -1),
  length: (a, b) => b.dataset.length - a.dataset.length,
  film: (a, b) => a.dataset.film.localeCompare(b.dataset.film),
};

function applyFilters(form) {
  const outcomes = new Set(new FormData(form).getAll("outcome"));
  const isAsked = ({ dataset }) =>
    outcomes.has(dataset.outcome) &&
    (!form.defect_class.value || dataset.class === form.defect_class.value) &&
    (!form.film.value || dataset.film === form.film.value) &&
    // What has no score was not reported: it stays.
    (dataset.score === "" || Number(dataset.score) >= (form.score.valueAsNumber || 0));
  const container = document.getElementById("cards");
  const cards = [...container.children].sort((a, b) => ORDERS[form.order.value](a, b) || ORDERS.worst(a, b));
  const asked = cards.filter(isAsked);
  const shown = new Set(asked.slice(0, mostCards));
  for (const card of cards) card.hidden = !shown.has(card);
  container.append(...cards);
  form.shown.value = `${shown.size} of ${asked.length} shown`;
  document.getElementById("more").hidden = shown.size === asked.length;
}

function showLarge(button) {
  const dialog = document.getElementById("large");
  const frame = button.querySelector(".frame").cloneNode(true);
  const width = Number(frame.dataset.width);
  frame.style.width = width * Math.max(1, Math.min(6, Math.floor((innerWidth * 0.9) / width))) + "px";
  dialog.querySelector(".view").replaceChildren(frame);
  dialog.showModal();
}

const greyForm = document.getElementById("grey");
if (greyForm) {
  greyForm.addEventListener("input", () => applyGreyLevels(greyForm));
  greyForm.addEventListener("reset", () => setTimeout(() => applyGreyLevels(greyForm)));
  greyForm.addEventListener("submit", (event) => event.preventDefault());
  for (const button of document.querySelectorAll(".enlarge")) button.addEventListener("click", () => showLarge(button));
}
const filterForm = document.getElementById("filters");
if (filterForm) {
  filterForm.addEventListener("input", () => {
    mostCards = PAGE_OF_CARDS;
    applyFilters(filterForm);
  });
  filterForm.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("more").addEventListener("click", () => {
    mostCards += PAGE_OF_CARDS;
    applyFilters(filterForm);
  });
  applyFilters(filterForm);
}
if (window.Plotly) drawFigures();
