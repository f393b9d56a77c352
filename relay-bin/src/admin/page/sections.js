// The other sections, a function for each.

const BACKENDS = { up: "good", resting: "bad", "check-fails": "warn" };
const OUTCOMES = { applied: "good", refused: "bad", failed: "bad" };
const SOURCES = { held: "good", awaited: "idle" };

function showRoles(status) {
  const rows = list(status.backends).map((it) => {
    const next =
      it.next_try_ms == null ? "" : `, tried again in ${duration(it.next_try_ms / 1000)}`;
    const why = it.why ? [small(`failed last: ${it.why}${next}`)] : [];
    const state = badge(BACKENDS[it.state] ?? "warn", it.state);
    return {
      key: JSON.stringify([it.endpoint, it.url]),
      cells: [
        text(it.url),
        text(it.endpoint, "why"),
        many(state, small(`since ${time(it.since)}`), ...why),
        count(it.requests_in_flight),
        count(it.requests_waiting),
        count(it.connections),
      ],
    };
  });
  fillTable("roles", rows);
}

const version = (it) => count(it.version ?? "none");

function settingsOfSite(it) {
  const level = it.version == null ? "bad" : "good";
  const said = it.version == null ? "none" : `applied, ${plural(it.endpoints, "endpoint")}`;
  const from = it.since ? [small(`since ${time(it.since)}, from ${it.from}`)] : [];
  const refused = it.refused ? [small(`refused last: ${it.refused}`)] : [];
  const state = many(badge(level, said), ...from, ...refused);
  const cells = [text(`site ${it.site}`), version(it), state];
  return { key: it.site, cells };
}

function settingsAtInstance(it) {
  const state = badge(OUTCOMES[it.outcome] ?? "idle", it.outcome);
  const why = it.why ? [small(it.why)] : [];
  const cells = [
    text(`at instance ${it.instance}`),
    version(it),
    many(state, small(`since ${time(it.at)}`), ...why),
  ];
  return { key: `at ${it.instance}`, cells };
}

function settingsOfTokens(it) {
  const faults = [
    it.stale_since && `blocks since ${time(it.stale_since)} are not published: ${it.why}`,
    it.key_fault && `signing keys cannot be used: ${it.key_fault}`,
  ].filter(Boolean);
  const said = `${plural(it.signers, "signing certificate")}, ${it.blocked} blocked`;
  const until = it.signing_ends ? [small(`signs until ${time(it.signing_ends)}`)] : [];
  const state = faults.length > 0 ? badge("bad", "not published") : badge("good", "published");
  const parts = [state, small(said), ...until, ...faults.map(small)];
  const cells = [text("site tokens"), count(it.revision ?? "none"), many(...parts)];
  return { key: "tokens", cells };
}

function showSettings(status) {
  const tokens = status.site_tokens ? [settingsOfTokens(status.site_tokens)] : [];
  fillTable("settings", [
    ...list(status.settings).map(settingsOfSite),
    ...list(status.published).map(settingsAtInstance),
    ...tokens,
  ]);
}

const NEAR_DAYS = 7;

// What lives for a week is always near its end: the role says what is near for its kind.
function left({ days_left: days, is_near }) {
  if (days < 0) return { level: "bad", word: "over" };
  const level = !is_near ? "good" : days < NEAR_DAYS ? "bad" : "warn";
  return { level, word: `${plural(days, "day")} left` };
}

function showExpiry(status) {
  const all = [...list(status.expiry)];
  all.sort((a, b) => Date.parse(a.ends_at) - Date.parse(b.ends_at));
  const rows = all.map((it) => ({
    key: JSON.stringify([it.what, it.name, it.place, it.ends_at]),
    cells: [
      text(it.what),
      text(it.name, "why"),
      { ...many(ofLevel(left(it))), look: "count" },
      text(time(it.ends_at), "line"),
      text(it.place, "why"),
    ],
  }));
  fillTable("expiry", rows);
}

function showSources(status) {
  const rows = list(status.sources).map((it) => {
    const since = it.failing_since ? ` since ${time(it.failing_since)}` : "";
    const failed = `failed ${it.failures_in_a_row} times${since}, last: ${it.why}`;
    const why = it.why ? [small(failed)] : [];
    const spell = (seconds) => text(seconds == null ? "–" : duration(seconds), "count");
    const state = badge(SOURCES[it.state] ?? "bad", it.state);
    const cells = [text(it.address), many(state, ...why)];
    return {
      key: JSON.stringify([it.kind, it.tenant, it.address]),
      cells: [...cells, spell(it.age_seconds), spell(it.next_try_seconds)],
    };
  });
  fillTable("sources", rows);
}

function showEnded(status) {
  const rows = [...list(status.ended)].reverse().map((it) => {
    const who = it.connection_point
      ? `link ${it.number} of ${it.connection_point}`
      : it.refused_from
        ? `refused ${it.refused_from}`
        : "a link";
    const key = JSON.stringify([it.at, who, it.why]);
    return { key, cells: [text(time(it.at), "line"), text(who, "why"), text(it.why, "why")] };
  });
  fillTable("ended", rows);
}

function showCounts(status) {
  const all = Object.entries(status.counts ?? {});
  for (const [method, counts] of Object.entries(status.authentications ?? {})) {
    for (const [outcome, n] of Object.entries(counts)) all.push([`${method}: ${outcome}`, n]);
  }
  const happened = all.filter(([, n]) => n > 0);
  fillTable("counts", happened.map(([name, n]) => ({ key: name, cells: [text(name), count(n)] })));
}

const EGRESS = { calm: "good", warning: "warn", critical: "bad" };

function showEgress(status) {
  const it = status.egress?.fortnight;
  offer("egress", Boolean(status.egress));
  byId("egress-bar").hidden = !it;
  if (!status.egress) return;
  const sent = `${octets(status.egress.octets_sent)} sent to clients since the start`;
  if (!it) {
    show(byId("egress-text"), sent);
    show(byId("egress-marks"), text("no threshold: there is no [egress]", "quiet"));
    return;
  }
  const of = `${octets(it.octets)} of ${octets(it.threshold_octets)} in 14 days, ${it.percent} %`;
  show(byId("egress-text"), {
    ...many(badge(EGRESS[it.level] ?? "warn", it.level), text(` ${of}; ${sent}`)),
    look: "",
  });
  const bar = byId("egress-bar");
  bar.low = it.warning_percent;
  bar.high = it.critical_percent;
  bar.optimum = 0;
  bar.value = it.percent;
  const stop = it.stop_when_critical ? ", where new requests are refused" : "";
  const fault = it.fault ? ` The sums cannot be kept: ${it.fault}` : "";
  const marks = `warning at ${it.warning_percent} %, critical at ${it.critical_percent} %${stop}.`;
  show(byId("egress-marks"), text(marks + fault, "quiet"));
}
