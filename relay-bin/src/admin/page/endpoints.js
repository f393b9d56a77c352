// What came to each endpoint: the figures of the traffic reports, and a stroke for each window.

const WINDOW_SECONDS = 300;
const WINDOWS = 288;
const ROWS_SHOWN = 300;

// The windows by how long before the last one they began, in windows.
function slots(traffic) {
  const began = (it) => Date.parse(it.begun_at) / 1000;
  const last = traffic.length > 0 ? began(traffic[traffic.length - 1]) : 0;
  const dated = traffic.map((it) => [Math.round((last - began(it)) / WINDOW_SECONDS), it]);
  return dated.filter(([ago]) => ago >= 0 && ago < WINDOWS);
}

// Of how much time there are windows: less than a day after a start, and where so many endpoints
// are busy that the oldest windows went.
function held(traffic) {
  const windows = 1 + Math.max(0, ...slots(traffic).map(([ago]) => ago));
  return windows === WINDOWS ? "24 hours" : duration(windows * WINDOW_SECONDS);
}

function byEndpoint(traffic) {
  const found = new Map();
  for (const [ago, window] of slots(traffic)) {
    for (const row of list(window.endpoints)) {
      const key = JSON.stringify([row.site, row.endpoint]);
      if (!found.has(key)) found.set(key, { key, row, windows: [] });
      found.get(key).windows.push([ago, row]);
    }
  }
  return [...found.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
}

function sum(windows, within) {
  const all = windows.filter(([ago]) => ago < within).map(([, row]) => row);
  const added = (name) => all.reduce((total, row) => total + row[name], 0);
  return {
    requests: added("TotalRequests"),
    token: added("TotalRequestsWithBearerToken"),
    atOnce: Math.max(0, ...all.map((row) => row.MaxConcurrentRequests)),
    came: added("TotalRequestBytes"),
    went: added("TotalResponseBytes"),
    failed: added("FailedRequests"),
  };
}

function spark(windows, span) {
  const most = Math.max(1, ...windows.map(([, row]) => row.TotalRequests));
  const strokes = (name, from, height, least) =>
    windows
      .filter(([, row]) => row[name] > 0)
      .map(([ago, row]) => {
        const long = Math.max(least, (Math.min(row[name], most) / most) * Math.abs(height));
        return `M${WINDOWS - ago - 0.5} ${from}v${Math.sign(height) * long}`;
      })
      .join("");
  const day = sum(windows, WINDOWS);
  const peak = windows.reduce((a, b) => (b[1].TotalRequests > a[1].TotalRequests ? b : a));
  const when = peak[0] === 0 ? "now" : `${duration(peak[0] * WINDOW_SECONDS)} ago`;
  const spoken =
    `${plural(day.requests, "request")} in ${span}, ${day.failed} failed; ` +
    `most in five minutes: ${peak[1].TotalRequests}, ${when}`;
  const paths = [strokes("TotalRequests", 30, -28, 1), strokes("FailedRequests", 31, 9, 4)];
  return {
    is: JSON.stringify([spoken, paths]),
    put: () => [
      draw(
        "svg",
        { class: "spark", viewBox: "0 0 288 40", role: "img", "aria-label": spoken },
        draw("path", { class: "base", d: "M0 30.5h288" }),
        draw("path", { class: "came", d: paths[0] }),
        draw("path", { class: "failed", d: paths[1] }),
      ),
    ],
  };
}

const named = (row) => many(text(row.endpoint), small(`site ${row.site}`));

function showEndpoints(status) {
  const within = Number(byId("span").value);
  const span = held(list(status.traffic));
  show(byId("spark-head"), span);
  const strokes = `A stroke for each five minutes of the last ${span}`;
  show(byId("endpoints-caption"), `${strokes}: up for requests, down for failed`);
  const rows = byEndpoint(list(status.traffic)).map(({ key, row, windows }) => {
    const figures = sum(windows, within);
    const cells = [
      named(row),
      spark(windows, span),
      count(figures.requests),
      count(figures.token),
      count(figures.atOnce),
      text(octets(figures.came), "count"),
      text(octets(figures.went), "count"),
      figures.failed > 0
        ? { ...many(badge("warn", String(figures.failed))), look: "count" }
        : count(0),
    ];
    return { key, cells };
  });
  fillTable("endpoints", rows);
  if (byId("windows").open) showWindows(list(status.traffic));
}

function showWindows(traffic) {
  const all = [...traffic].reverse().flatMap((window) =>
    list(window.endpoints).map((row) => ({
      key: JSON.stringify([window.begun_at, row.site, row.endpoint]),
      cells: [
        text(window.open ? `${time(window.begun_at)}, so far` : time(window.begun_at)),
        named(row),
        count(row.TotalRequests),
        count(row.TotalRequestsWithBearerToken),
        count(row.MaxConcurrentRequests),
        text(octets(row.TotalRequestBytes), "count"),
        text(octets(row.TotalResponseBytes), "count"),
        count(row.FailedRequests),
      ],
    })),
  );
  const more = all.length > ROWS_SHOWN ? `; ${ROWS_SHOWN} of ${all.length} rows` : "";
  show(byId("windows-caption"), `The latest first${more}`);
  mend(byId("windows-rows"), all.slice(0, ROWS_SHOWN));
}
