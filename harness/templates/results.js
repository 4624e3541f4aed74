// The page over all results: choices, the plot, the table's rows and order, and what differs.
"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const { rows, palette } = JSON.parse(document.getElementById("data").textContent);
  const pick = Object.fromEntries(
    ["base", "target", "axis", "suite"].map((name) => [name, document.getElementById(name)]),
  );
  const suites = [...new Set(rows.map((row) => row.suite))];
  const body = document.querySelector("#table tbody");
  const lines = [...body.children].map((line) => ({ line, row: rows[Number(line.dataset.row)] }));
  const order = { key: "gain", down: true };

  function element(name, attributes, text) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // Only choices that have rows stay selectable, from the left to the right.
  function narrow() {
    let left = rows;
    for (const name of ["base", "target", "axis"]) {
      const known = new Set(left.map((row) => row[name]));
      for (const option of pick[name].options) {
        option.hidden = option.disabled = !known.has(option.value);
      }
      if (!known.has(pick[name].value)) pick[name].value = [...known][0];
      left = left.filter((row) => row[name] === pick[name].value);
    }
    return left.filter((row) => !pick.suite.value || row.suite === pick.suite.value);
  }

  const SHAPES = [
    (x, y) => ["circle", { cx: x, cy: y, r: 5 }],
    (x, y) => ["rect", { x: x - 4.5, y: y - 4.5, width: 9, height: 9 }],
    (x, y) => ["polygon", { points: `${x},${y - 6} ${x + 6},${y + 5} ${x - 6},${y + 5}` }],
    (x, y) => ["polygon", { points: `${x},${y - 6} ${x + 6},${y} ${x},${y + 6} ${x - 6},${y}` }],
    (x, y) => ["polygon", { points: `${x},${y + 6} ${x + 6},${y - 5} ${x - 6},${y - 5}` }],
  ];
  const colour = (suite) => palette[suites.indexOf(suite) % palette.length];
  function mark(suite, x, y) {
    const [name, place] = SHAPES[suites.indexOf(suite) % SHAPES.length](x, y);
    return element(name, { ...place, class: "mark", fill: colour(suite) });
  }

  function domain(values) {
    const low = Math.min(0, ...values), high = Math.max(0, ...values);
    const room = 0.06 * (high - low || 1);
    return [low - room, high + room];
  }

  function ticks([low, high]) {
    const rough = (high - low) / 6, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough));
    const found = [];
    for (let n = Math.ceil(low / step); n * step <= high; n += 1) found.push(n * step);
    return found;
  }

  const number = (value) => String(Number(value.toPrecision(3))).replace("-", "−");
  const limits = ([low, value, high]) => `${number(value)} [${number(low)}, ${number(high)}]`;

  function draw(shown) {
    const svg = document.querySelector("#plot svg");
    const narrowPage = svg.clientWidth < 620;
    const width = narrowPage ? 420 : 1100, height = narrowPage ? 400 : 540;
    const edge = { left: 54, right: 18, top: 12, bottom: 46 };
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const across = domain(shown.flatMap((row) => row.gain));
    const up = domain(shown.flatMap((row) => row.drop.map((value) => -value)));
    const x = (v) =>
      edge.left + ((v - across[0]) / (across[1] - across[0])) * (width - edge.left - edge.right);
    const y = (v) =>
      height - edge.bottom - ((v - up[0]) / (up[1] - up[0])) * (height - edge.top - edge.bottom);
    for (const tick of ticks(across)) {
      svg.append(element("line", { x1: x(tick), x2: x(tick), y1: edge.top,
        y2: height - edge.bottom, class: tick === 0 ? "zero" : "grid" }));
      svg.append(element("text", { x: x(tick), y: height - edge.bottom + 17,
        "text-anchor": "middle", class: "tick" }, number(tick)));
    }
    for (const tick of ticks(up)) {
      svg.append(element("line", { x1: edge.left, x2: width - edge.right, y1: y(tick), y2: y(tick),
        class: tick === 0 ? "zero" : "grid" }));
      svg.append(element("text", { x: edge.left - 7, y: y(tick) + 4, "text-anchor": "end",
        class: "tick" }, number(tick)));
    }
    svg.append(element("text", { x: (width + edge.left) / 2, y: height - 8,
      "text-anchor": "middle", class: "title" }, "gain, pp"));
    svg.append(element("text", { x: 14, y: height / 2, "text-anchor": "middle", class: "title",
      transform: `rotate(-90 14 ${height / 2})` }, "change of retention, pp"));
    const taken = [];
    for (const row of shown) {
      const stroke = colour(row.suite), px = x(row.gain[1]), py = y(-row.drop[1]);
      taken.push([px - 6, py - 6, px + 6, py + 6]);
      svg.append(element("line", { x1: x(row.gain[0]), x2: x(row.gain[2]), y1: py, y2: py, stroke,
        class: "bar" }));
      svg.append(element("line", { x1: px, x2: px, y1: y(-row.drop[0]), y2: y(-row.drop[2]),
        stroke, class: "bar" }));
    }
    for (const row of shown) {
      const px = x(row.gain[1]), py = y(-row.drop[1]);
      const point = mark(row.suite, px, py);
      const drift = row.drift === null ? "" : `, drift ${number(row.drift)} %`;
      point.append(element("title", {}, `${row.recipe}, ${row.suite}: gain ${limits(row.gain)}, ` +
        `drop ${limits(row.drop)} pp${drift}, ${row.seeds} seed${row.seeds > 1 ? "s" : ""}`));
      svg.append(point);
      label(svg, row.recipe, px, py, taken, width - edge.right, edge);
    }
  }

  // A name at the first of eight places that covers nothing; none where all are taken.
  function label(svg, name, px, py, taken, right, edge) {
    const long = 6.6 * name.length;
    const places = [[9, 4], [-9 - long, 4], [-long / 2, -10], [-long / 2, 19], [7, -7],
      [-7 - long, -7], [7, 16], [-7 - long, 16]];
    for (const [dx, dy] of places) {
      const box = [px + dx, py + dy - 10, px + dx + long, py + dy + 3];
      const inside = box[0] > edge.left && box[2] < right && box[1] > 0;
      const meets = taken.some((one) =>
        box[0] < one[2] && one[0] < box[2] && box[1] < one[3] && one[1] < box[3]);
      if (inside && !meets) {
        taken.push(box);
        svg.append(element("text", { x: px + dx, y: py + dy, class: "name" }, name));
        return;
      }
    }
  }

  function legend(shown) {
    const present = suites.filter((suite) => shown.some((row) => row.suite === suite));
    document.getElementById("legend").replaceChildren(...present.map((suite) => {
      const item = document.createElement("li"), key = element("svg", { viewBox: "0 0 14 14" });
      key.append(mark(suite, 7, 7));
      item.append(key, suite);
      return item;
    }));
  }

  function fill(shown) {
    const sign = order.down ? -1 : 1;
    const value = (row) => (order.key === "drift" ? row.drift : row[order.key][1]);
    const sorted = [...lines].sort((a, b) => {
      const [one, two] = [value(a.row), value(b.row)];
      if (one === null || two === null) return (one === null) - (two === null);
      return sign * (one - two);
    });
    for (const { line, row } of sorted) {
      line.hidden = !shown.includes(row);
      body.append(line);
    }
    for (const head of document.querySelectorAll("th[data-sort]")) {
      if (head.dataset.sort === order.key) {
        head.setAttribute("aria-sort", order.down ? "descending" : "ascending");
      } else head.removeAttribute("aria-sort");
    }
    const count = `${shown.length} recipe${shown.length === 1 ? "" : "s"}`;
    document.getElementById("count").textContent = count;
  }

  // What rows of one choice still differ in, suite by suite.
  function differences(shown) {
    const list = document.getElementById("limits");
    while (list.children.length > 1) list.lastChild.remove();
    const say = (what, name) => {
      const values = new Map();
      for (const row of shown) {
        if (!values.has(row[name])) values.set(row[name], new Set());
        values.get(row[name]).add(row.suite);
      }
      if (values.size < 2) return;
      const item = document.createElement("li");
      const parts = [...values].map(([value, where]) => `${[...where].join(", ")}: ${value}`);
      item.textContent = `${what} ${parts.join("; ")}.`;
      list.append(item);
    };
    say("Different budgets, so do not compare across:", "budget");
    say("Different numbers of seeds:", "seeds");
    say("Different questions on this axis, so drops of these suites are not comparable:", "asked");
  }

  function show() {
    const shown = narrow();
    draw(shown);
    legend(shown);
    fill(shown);
    differences(shown);
    document.documentElement.dataset.drawn = "yes";
  }

  for (const head of document.querySelectorAll("th[data-sort]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      order.down = order.key === head.dataset.sort ? !order.down : head.dataset.sort === "gain";
      order.key = head.dataset.sort;
      show();
    });
  }
  document.getElementById("choices").hidden = false;
  document.getElementById("plot").hidden = false;
  document.body.classList.add("chosen");
  for (const select of Object.values(pick)) select.addEventListener("change", show);
  let wide = null;
  new ResizeObserver(([entry]) => {
    const now = entry.contentRect.width >= 620;
    if (now !== wide) { wide = now; show(); }
  }).observe(document.getElementById("plot"));
  show();
})();
