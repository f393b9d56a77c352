// Elements. Whatever came from elsewhere becomes text, and never markup.

const SVG = "http://www.w3.org/2000/svg";

const byId = (id) => document.getElementById(id);

function make(name, attributes = {}, ...inner) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...inner);
  return element;
}

function draw(name, attributes = {}, ...inner) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...inner);
  return element;
}

// What an element shows, by which it is left alone while that stays the same: a reader's place in
// the page is not lost, and nothing flickers.
const shown = new WeakMap();

function show(element, content) {
  const { is, put, look = "" } = typeof content === "string" ? text(content) : content;
  if (shown.get(element) !== is) {
    shown.set(element, is);
    element.replaceChildren(...put());
  }
  if (element.className !== look) element.className = look;
}

// The kinds of content: `is` tells two of them apart, `put` makes it, `look` is a class.
const text = (value, look) => ({ is: value, put: () => [value], look });
const count = (value) => text(String(value), "count");
const many = (...parts) => ({
  is: JSON.stringify(parts.map((it) => [it.is, it.look])),
  put: () => parts.map((it) => make("span", { class: it.look ?? "" }, ...it.put())),
  look: "why",
});
const small = (value) => text(value, "small");
const SYMBOLS = { good: "●", warn: "▲", bad: "✕", idle: "○" };
// Colour is never alone: a symbol and a word say the same.
const badge = (level, word) => ({
  is: `${level} ${word}`,
  put: () => [make("span", { "aria-hidden": "true" }, `${SYMBOLS[level]} `), word],
  look: `badge ${level}`,
});

const ofLevel = ({ level, word }) => badge(level, word);

const keys = new WeakMap();

// Has a table's body hold `rows`, of `{ key, cells }`; the first cell is the row's header.
function mend(body, rows) {
  const old = new Map([...body.rows].map((row) => [keys.get(row), row]));
  rows.forEach(({ key, cells }, at) => {
    const row = old.get(key) ?? make("tr");
    old.delete(key);
    keys.set(row, key);
    if (body.rows[at] !== row) body.insertBefore(row, body.rows[at] ?? null);
    while (row.cells.length > cells.length) row.lastChild.remove();
    cells.forEach((content, column) => {
      const header = () => make("th", { scope: "row" });
      if (!row.cells[column]) row.append(column === 0 ? header() : make("td"));
      show(row.cells[column], content);
    });
  });
  for (const row of old.values()) row.remove();
}

// As `mend`, for a list.
function mendList(list, items) {
  while (list.children.length > items.length) list.lastChild.remove();
  items.forEach((content, at) => {
    if (!list.children[at]) list.append(make("li"));
    show(list.children[at], content);
  });
}

// Shows or hides a section, and its place in the navigation with it.
function offer(id, is_there) {
  byId(id).hidden = !is_there;
  document.querySelector(`nav a[href="#${id}"]`).parentElement.hidden = !is_there;
}

function fillTable(id, rows) {
  offer(id, rows.length > 0);
  mend(byId(`${id}-rows`), rows);
}
