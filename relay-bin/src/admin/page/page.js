// Asks for the status again and again, shows it, and says since when it is old.

const ASK_EVERY_MS = 3000;
const WAIT_MS = 10000;
const REST_MAX_MS = 30000;
const CHANGES_MAX = 50;
const SPOKEN_MAX = 5;

let latest = null;
let facts = null;
// When the last answer came, and why none does now.
let answered = null;
let failing = null;
let paused = false;
let timer = 0;
// Counts turns: one that was overtaken, by a pause, shows nothing.
let turns = 0;
const seen = [];

function nameOf(status) {
  return status.role === "gateway"
    ? `Gateway instance ${status.instance} of ${status.service}`
    : `Connection point ${status.name}`;
}

function showNow(status) {
  offer("now", true);
  const byKey = new Map(facts.map((it) => [it.key, it]));
  const ready = byKey.get("ready");
  show(byId("ready"), badge(ready.level, ready.level === "good" ? "ready" : "not ready"));
  show(byId("draining"), status.draining ? badge("warn", "draining") : text(""));
  // That it drains stands above.
  const is_wrong = (it) => it.key !== "drains" && ["bad", "warn"].includes(it.level);
  const wrong = facts.filter(is_wrong);
  wrong.sort((a, b) => a.level.localeCompare(b.level));
  const word = (it) => (it.level === "bad" ? "fault" : "warning");
  const item = (it) => ({ ...many(badge(it.level, word(it)), text(` ${it.says}`)), look: "" });
  mendList(byId("wrong"), wrong.length > 0 ? wrong.map(item) : [text("Nothing is wrong.")]);
  const flying =
    status.requests_in_flight == null
      ? []
      : [`${plural(status.requests_in_flight, "request")} in flight`];
  const memory = status.memory
    ? [
        `memory (${status.memory.name}): ${octets(status.memory.octets_used)} of ` +
          `${octets(status.memory.octets_max)}, ${status.memory.pressure}`,
      ]
    : [];
  show(byId("facts"), text([...flying, ...memory].join("; "), "quiet"));
}

function showAll(status) {
  show(byId("name"), nameOf(status));
  show(byId("about"), text(`relay ${status.version}`, "quiet"));
  showNow(status);
  showLinks(status);
  showEndpoints(status);
  showRoles(status);
  showSettings(status);
  showEgress(status);
  showExpiry(status);
  showSources(status);
  showEnded(status);
  showCounts(status);
  offer("changes", true);
  if (seen.length === 0) mendList(byId("changes-list"), [text("Nothing has changed.")]);
  reach();
}

// What is wider than the page is scrolled by keyboard, too; what is not is no stop of it.
function reach() {
  for (const it of document.querySelectorAll(".wide")) {
    const is_wider = it.scrollWidth > it.clientWidth;
    if (is_wider && !it.hasAttribute("tabindex")) it.tabIndex = 0;
    if (!is_wider) it.removeAttribute("tabindex");
  }
}

// Speaks, and notes below: changes alone, so that nobody is read the whole page each time.
function tell(sayings) {
  if (sayings.length === 0) return;
  const at = clock(new Date());
  seen.unshift(...sayings.map((it) => `${at} ${it}`));
  seen.length = Math.min(seen.length, CHANGES_MAX);
  mendList(byId("changes-list"), seen.map((it) => text(it)));
  const more = sayings.length - SPOKEN_MAX;
  const spoken = sayings.slice(0, SPOKEN_MAX).join(". ");
  byId("said").textContent = more > 0 ? `${spoken}. And ${more} more changes.` : `${spoken}.`;
}

function showStale() {
  const is_stale = failing !== null || paused;
  document.body.classList.toggle("stale", is_stale);
  byId("stale").hidden = !is_stale;
  if (is_stale) {
    const then = answered
      ? `What is below is of ${clock(answered)}, ` +
        `${duration(Math.max(0, Date.now() - answered) / 1000)} ago.`
      : "Nothing has been told yet.";
    const why = paused ? "Updates are paused." : `${failing} It is asked again and again.`;
    show(byId("stale"), text(`${why} ${then}`, failing !== null ? "bad" : "warn"));
  }
  const level = facts?.some((it) => it.level === "bad") ? "✕" : "●";
  const mark = failing !== null ? "stale" : paused ? "paused" : level;
  document.title = latest ? `${mark} ${nameOf(latest)}` : "relay";
}

async function ask() {
  const signal = AbortSignal.timeout(WAIT_MS);
  const asked = { cache: "no-store", credentials: "omit", redirect: "error", signal };
  let answer;
  try {
    answer = await fetch("/status.json", asked);
  } catch {
    throw new Error("The role does not answer; has it stopped?");
  }
  if (!answer.ok) throw new Error(`The role answers ${answer.status}, and no status.`);
  try {
    return await answer.json();
  } catch {
    throw new Error("The role's answer broke off, or is no status.");
  }
}

function accept(status) {
  const after = factsOf(status);
  const sayings = facts ? changes(facts, after).map((it) => it.says) : [];
  if (failing !== null) sayings.unshift("The role answers again");
  [latest, facts, answered, failing] = [status, after, new Date(), null];
  showAll(status);
  tell(sayings);
}

function miss(why) {
  const is_new = failing === null;
  failing = why;
  if (is_new) tell([answered ? `${why} What is shown is of ${clock(answered)}` : why]);
}

async function turn() {
  const began = performance.now();
  const mine = ++turns;
  try {
    const status = await ask();
    if (mine === turns) accept(status);
  } catch (error) {
    // One that cannot be shown is no end of asking, either.
    if (mine === turns) miss(error.message);
  }
  if (mine !== turns) return;
  showStale();
  // A status of many windows takes its time: most of it is the role's own.
  const took = failing === null ? performance.now() - began : 0;
  const rest = Math.min(4 * took, REST_MAX_MS);
  timer = setTimeout(turn, Math.max(ASK_EVERY_MS, rest));
}

byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  clearTimeout(timer);
  turns += 1;
  showStale();
  if (!paused) turn();
});
byId("span").addEventListener("change", () => latest && showEndpoints(latest));
byId("windows").addEventListener("toggle", () => latest && showAll(latest));
addEventListener("resize", reach);
setInterval(showStale, 1000);
turn();
