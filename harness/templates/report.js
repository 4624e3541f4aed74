"use strict";
// Sorting and filtering of the results, and figures in the page's own colours. `flips.js` runs
// before it and brings `byId`, `parsed` and `element`.
// Everything from outside is written with textContent; nothing is parsed as HTML.

// ---------------------------------------------------------------- results table

function sortable(table) {
  table.querySelectorAll("thead th").forEach((head, index) => {
    const button = element("button", head.textContent);
    button.type = "button";
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      sortBy(table, index, down);
    });
  });
}

function sortBy(table, index, down) {
  const body = table.tBodies[0];
  const key = (row) => row.cells[index].dataset.sort;
  const numeric = [...body.rows].every((row) => key(row) === "" || Number.isFinite(Number(key(row))));
  const order = (a, b) => (numeric ? Number(a) - Number(b) : a.localeCompare(b));
  const rows = [...body.rows].sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === "" || y === "") return (x === "") - (y === ""); // missing values last, either way
    return down ? order(y, x) : order(x, y);
  });
  body.append(...rows);
}

function filterable(table) {
  const selects = [...document.querySelectorAll("[data-filter]")];
  const apply = () => {
    const rows = [...table.tBodies[0].rows];
    for (const row of rows) {
      row.hidden = selects.some((s) => s.value && row.dataset[s.dataset.filter] !== s.value);
    }
    const left = rows.filter((row) => !row.hidden).length;
    byId("shown").textContent = `${left} of ${rows.length} rows`;
  };
  selects.forEach((select) => select.addEventListener("change", apply));
  apply();
}

// ---------------------------------------------------------------- figures

const dark = matchMedia("(prefers-color-scheme: dark)");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Colours of the figures on paper -> names of the page's own, light or dark.
const COLOURS = {
  "#e7ebed": "--grid", "#6b757b": "--zero", "#1d2529": "--ink", "#ffffff": "--page",
  "#000000": "--cell", "#f1efec": "--middle", "#eef2f4": "--pale", "#7fb0c4": "--half",
  "#1f5673": "--full",
};

function themed(spec) {
  const text = JSON.stringify(spec.config ? { ...spec, config: {} } : spec);
  const found = JSON.parse(text.replace(/"(#[0-9a-f]{6})"/g,
    (all, code) => (code in COLOURS ? JSON.stringify(colour(COLOURS[code])) : all)));
  const config = JSON.parse(JSON.stringify(spec.config));
  const [ink, muted, line] = [colour("--ink"), colour("--muted"), colour("--zero")];
  config.background = "transparent";
  config.font = getComputedStyle(document.body).fontFamily;
  Object.assign(config.axis, {
    labelColor: muted, titleColor: muted, domainColor: line, tickColor: line,
    gridColor: colour("--grid"),
  });
  Object.assign(config.legend, { labelColor: ink, titleColor: muted, symbolBaseFillColor: muted });
  config.header.labelColor = ink;
  config.title.color = ink;
  config.rect.stroke = colour("--page");
  found.config = config;
  return found;
}

// Panels grow to fill the width, up to half again their size on paper, and wrap where it is narrow.
function fitted(spec, width) {
  if (spec.facet) {
    const { width: side, height } = spec.spec;
    const fit = Math.floor((width - 60) / (0.8 * side + 20));
    const most = spec.columns === 5 ? Math.floor((width - 60) / (side + 20)) : spec.columns;
    spec.columns = Math.max(1, Math.min(fit, most));
    const free = Math.floor((width - 70) / spec.columns) - 20;
    spec.spec.width = Math.max(Math.min(side, width - 90), Math.min(1.5 * side, free));
    if (!height.step) {
      spec.spec.height = Math.round(Math.min(1.15 * height, (spec.spec.width * height) / side));
    }
  } else if (spec.concat) {
    spec.columns = width < 1000 ? 1 : 2;
  } else if (spec.hconcat && width < 640) {
    spec.vconcat = spec.hconcat;
    delete spec.hconcat;
    for (const panel of spec.vconcat) {
      for (const layer of panel.layer) layer.encoding.y.axis.labels = true;
    }
  }
  spec.config.legend.columns = Math.max(3, Math.floor(width / 110));
  return spec;
}

async function draw(specs, target) {
  for (const place of document.querySelectorAll("[data-figure]")) {
    const spec = (specs[place.dataset.figure] ?? {})[target];
    if (!spec) {
      place.replaceChildren(element("p", "No finished recipe has these measurements here.", "empty"));
      continue;
    }
    const sized = fitted(themed(spec), place.clientWidth);
    await vegaEmbed(place, sized, {
      actions: false, ast: true, renderer: "svg", defaultStyle: false,
      tooltip: { disableDefaultStyle: true },
    });
  }
  const marks = document.documentElement.dataset; // tests and scripts wait for these
  marks.drawn = target;
  marks.count = Number(marks.count ?? 0) + 1;
}

function figures() {
  const { specs } = parsed("data");
  const select = byId("figure-target");
  const first = Object.values(specs).flatMap(Object.keys)[0];
  const again = () => draw(specs, select ? select.value : first);
  if (select) select.addEventListener("change", again);
  dark.addEventListener("change", again);
  let width = innerWidth;
  let waiting = 0;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(again, 200);
  });
  return again();
}

const results = document.querySelector("table.results");
sortable(results);
filterable(results);
figures();
