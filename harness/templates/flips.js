"use strict";
// The flips explorer: items that were lost and gained, with prompt, choices and both answers.
// Everything from outside is written with textContent; nothing is parsed as HTML.

const byId = (id) => document.getElementById(id);
const parsed = (id) => JSON.parse(byId(id).textContent);

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

const PAGE = 20;

function explorer() {
  const data = parsed("flip-data");
  const list = byId("flip-list");
  if (!data.flips.length) {
    list.append(element("p", "No item is here to show.", "empty"));
    return;
  }
  byId("flip-controls").hidden = false;
  const several = Object.keys(data.pairs).length > 1;
  const all = data.flips.map(([pair, item, lost, answer, soft]) => {
    const [name, recipe, target] = data.pairs[pair];
    const asked = data.items[item];
    const text = [asked.prompt, asked.base, answer, asked.gold, ...asked.choices].join("\n");
    return {
      name, recipe, target, several, asked, lost, answer, soft,
      task: asked.task, text: text.toLowerCase(),
    };
  });
  const own = (flip) => Number(flip.task === flip.target);
  all.sort((a, b) => own(a) - own(b)); // what was forgotten before what the new task lost
  const selects = [...document.querySelectorAll("[data-flip]")];
  for (const select of selects) {
    const names = new Set(all.map((flip) => flip[select.dataset.flip]));
    select.append(...[...names].map((name) => new Option(name, name)));
  }
  let page = 0;
  const value = (id) => byId(id).value;
  const chosen = () => {
    const query = value("flip-search").trim().toLowerCase();
    return all.filter((flip) =>
      (!value("flip-kind") || String(flip.lost) === value("flip-kind")) &&
      selects.every((select) => !select.value || flip[select.dataset.flip] === select.value) &&
      (!query || flip.text.includes(query)));
  };
  const show = () => {
    const found = chosen();
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.min(page, pages - 1);
    const part = found.slice(page * PAGE, (page + 1) * PAGE);
    list.replaceChildren(...part.map(card));
    if (!part.length) list.append(element("p", "No item matches.", "empty"));
    byId("flip-count").textContent = `${found.length} of ${all.length} items`;
    byId("flip-pager").hidden = pages < 2;
    byId("flip-page").textContent = `page ${page + 1} of ${pages}`;
    byId("flip-previous").disabled = page === 0;
    byId("flip-next").disabled = page === pages - 1;
  };
  const turn = (step) => () => { page += step; show(); byId("flips").scrollIntoView(); };
  byId("flip-previous").addEventListener("click", turn(-1));
  byId("flip-next").addEventListener("click", turn(1));
  for (const event of ["input", "change"]) {
    byId("flip-controls").addEventListener(event, () => { page = 0; show(); });
  }
  show();
}

// Item ids mostly begin with their task.
function named(asked) {
  return asked.id.startsWith(`${asked.task}:`) ? asked.id : `${asked.task} · ${asked.id}`;
}

function card(flip) {
  const made = element("article", undefined, flip.lost ? "flip lost" : "flip");
  const head = element("header");
  head.append(element("b", flip.lost ? "lost" : "gained"));
  if (flip.several) head.append(element("span", flip.name));
  head.append(element("span", named(flip.asked)));
  if (typeof flip.soft === "number" && typeof flip.asked.soft === "number") {
    const change = `P(gold) ${flip.asked.soft.toFixed(2)} → ${flip.soft.toFixed(2)}`;
    head.append(element("span", change));
  }
  const known = flip.asked.prompt !== null;
  const prompt = element("p", known ? flip.asked.prompt : "(the prompt is not here)", "prompt");
  prompt.dir = "auto";
  made.append(head, prompt);
  if (flip.asked.choices.length) made.append(choices(flip));
  const written = answers(flip);
  if (written.children.length) made.append(written);
  return made;
}

function choices(flip) {
  const list = element("ul");
  for (const choice of flip.asked.choices) {
    const marks = [];
    if (choice === flip.asked.gold) marks.push("gold");
    if (choice === flip.asked.base) marks.push("base");
    if (choice === flip.answer) marks.push("candidate");
    const entry = element("li", choice, marks.includes("gold") ? "gold" : "");
    entry.dir = "auto";
    if (marks.length) entry.append(element("small", marks.join(", ")));
    list.append(entry);
  }
  return list;
}

// What is not one of the choices: every answer in words, and a gold that is the letter of a choice.
function answers(flip) {
  const list = element("dl");
  const pairs = [["gold", flip.asked.gold], ["base", flip.asked.base], ["candidate", flip.answer]];
  for (const [name, text] of pairs) {
    if (text === null || flip.asked.choices.includes(text)) continue;
    const answer = element("dd", text.trim() === "" ? "(empty)" : text.trim());
    answer.dir = "auto";
    list.append(element("dt", name), answer);
  }
  return list;
}

explorer();
