// What a page owes to whoever cannot see it, or not well; the body of a function that returns
// its faults. What browsers compute of names is asked of them and not here.

const faults = [];
const claim = (holds, fault) => holds || faults.push(fault);
const all = (selector) => [...document.querySelectorAll(selector)];
const shown = (element) => element.checkVisibility();
const shortly = (element) => element.outerHTML.slice(0, 120);

claim(document.documentElement.lang === "en", "no language");
claim(document.title.length > 5, "no title");
for (const one of ["main", "h1", "header", "footer", "nav"]) {
  claim(all(one).length === 1, `${all(one).length} of ${one}`);
}
let level = 0;
for (const heading of all("h1, h2, h3, h4").filter(shown)) {
  const own = Number(heading.localName[1]);
  claim(own <= level + 1, `a heading of level ${own} below one of ${level}`);
  level = own;
}

const ids = all("[id]").map((it) => it.id);
claim(new Set(ids).size === ids.length, "an id is there twice");
for (const it of all("[aria-labelledby]")) {
  claim(document.getElementById(it.getAttribute("aria-labelledby")), `no label: ${shortly(it)}`);
}
for (const it of all("a[href^='#']").filter(shown)) {
  const target = document.querySelector(it.getAttribute("href"));
  claim(target && shown(target), `leads nowhere: ${shortly(it)}`);
}

for (const table of all("table").filter(shown)) {
  claim(table.caption?.textContent.trim(), `no caption: ${shortly(table)}`);
  for (const th of table.querySelectorAll("th")) {
    const scope = th.closest("thead") ? "col" : "row";
    claim(th.scope === scope, `no scope: ${shortly(th)}`);
    claim(th.textContent.trim(), `an empty header: ${shortly(table)}`);
  }
  for (const row of table.tBodies[0].rows) {
    claim(row.cells[0].localName === "th", `no header: ${shortly(row)}`);
    claim(row.cells.length === table.tHead.rows[0].cells.length, `ragged: ${shortly(row)}`);
  }
}

const live = all("[aria-live]");
claim(live.length === 1 && live[0].ariaLive === "polite", "not one polite region");
// A word beside the symbol, and beside the colour.
for (const it of all(".badge").filter(shown)) {
  claim(/[a-z0-9]/.test(it.textContent), `a colour alone: ${shortly(it)}`);
}
claim(document.documentElement.scrollWidth <= innerWidth, "the page is wider than its window");

// WCAG 2.2, "contrast ratio" and "relative luminance".
const channels = (colour) => {
  const found = colour.match(/^rgba?\(([\d.]+), ([\d.]+), ([\d.]+)(?:, ([\d.]+))?\)$/);
  return found && [...found.slice(1, 4).map(Number), Number(found[4] ?? 1)];
};
const luminance = (colour) => {
  const linear = colour.slice(0, 3).map((it) => {
    const part = it / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
};
const groundOf = (element) => {
  for (let it = element; it; it = it.parentElement) {
    const ground = channels(getComputedStyle(it).backgroundColor);
    if (ground && ground[3] === 1) return ground;
    claim(ground && ground[3] === 0, `a ground that shows through: ${shortly(it)}`);
  }
  return [255, 255, 255, 1];
};
let examined = 0;
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
  const element = texts.currentNode.parentElement;
  const is_text = texts.currentNode.data.trim() && !["SCRIPT", "OPTION"].includes(element.tagName);
  if (!is_text || !shown(element)) continue;
  const ink = channels(getComputedStyle(element).color);
  claim(ink && ink[3] === 1, `a colour that shows through: ${shortly(element)}`);
  const [dark, light] = [luminance(ink), luminance(groundOf(element))].sort((a, b) => a - b);
  const contrast = (light + 0.05) / (dark + 0.05);
  claim(contrast >= 4.5, `contrast ${contrast.toFixed(2)}: ${shortly(element)}`);
  examined += 1;
}
claim(examined > 40, `${examined} texts are too few to judge by`);
return faults;
