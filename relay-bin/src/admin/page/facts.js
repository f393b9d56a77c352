// What holds now, by key: what is wrong is listed, and what changes is spoken.

const fact = (key, level, says) => ({ key, level, says });

function ofLinks(status) {
  const isGateway = status.role === "gateway";
  const rows = isGateway ? gatewayRows(status) : pointRows(status);
  return rows.map((row) => {
    // Of a place: why it is down tells most while it waits.
    const waits = row.own.flatMap((it) => (it.why ? [it.why] : []));
    const why = [...waits, ...row.why][0];
    const key = `link ${row.name}`;
    const reason = why ? `: ${why}` : "";
    const { level, word } = row;
    const says = `${row.name}: ${word}${level === "good" ? "" : reason}`;
    return { ...fact(key, level, says), what: word };
  });
}

function ofSettings(status) {
  const sites = list(status.settings).map((it) => {
    const says = `settings of site ${it.site}: version ${it.version ?? "none"}`;
    const refused = it.refused ? `, refused last: ${it.refused}` : "";
    const level = it.version == null ? "bad" : refused ? "warn" : "good";
    return fact(`site ${it.site}`, level, says + refused);
  });
  const published = list(status.published).map((it) => {
    const level = it.outcome === "applied" ? "good" : it.outcome === "waiting" ? "idle" : "bad";
    const says = `settings at instance ${it.instance}: ${it.outcome}${it.why ? `: ${it.why}` : ""}`;
    return fact(`published ${it.instance}`, level, says);
  });
  const tokens = status.site_tokens;
  const fault = tokens && (tokens.key_fault ?? tokens.why);
  const ofTokens = tokens
    ? [fact("tokens", fault ? "bad" : "good", `site tokens: ${fault ?? "published"}`)]
    : [];
  return [...sites, ...published, ...ofTokens];
}

function ofOthers(status) {
  const roles = list(status.backends).map((it) => {
    const why = it.state !== "up" && it.why ? `: ${it.why}` : "";
    const says = `site role ${it.url} for ${it.endpoint}: ${it.state}${why}`;
    const key = JSON.stringify(["role", it.endpoint, it.url]);
    return { ...fact(key, BACKENDS[it.state] ?? "warn", says), what: it.state };
  });
  const ends = list(status.expiry).map((it) => {
    const { level, word } = left(it);
    const says = `${it.what} ${it.name}: ${word}`;
    const key = JSON.stringify([it.what, it.name, it.place]);
    return { ...fact(key, level, says), what: level };
  });
  const sources = list(status.sources).map((it) => {
    const why = it.why ? `: ${it.why}` : "";
    const says = `fetched from ${it.address}: ${it.state}${why}`;
    return { ...fact(`source ${it.address}`, SOURCES[it.state] ?? "bad", says), what: it.state };
  });
  return [...roles, ...ends, ...sources];
}

function ofEgress(status) {
  const it = status.egress?.fortnight;
  if (!it) return [];
  const level = EGRESS[it.level] ?? "warn";
  const fault = it.fault ? `, sums cannot be kept: ${it.fault}` : "";
  const says = `egress: ${it.level}, ${it.percent} % of the threshold${fault}`;
  const what = `${it.level}${fault}`;
  return [{ ...fact("egress", fault ? "bad" : level, says), what }];
}

function ofFile(status) {
  const it = status.configuration;
  if (!it) return [];
  const waits = list(it.at_next_start).join(", ");
  if (it.fault) {
    const why = it.fault.split("\n")[0];
    return [fact("file", "bad", `the file on disk cannot be used, what was before holds: ${why}`)];
  }
  if (waits) return [fact("file", "warn", `changed on disk, waits for the next start: ${waits}`)];
  return [fact("file", "good", "the file on disk holds")];
}

function factsOf(status) {
  const { ready = true, reasons = [] } = status.readiness ?? {};
  const not = `not ready: ${list(reasons).join("; ")}`;
  const pressure = status.memory?.pressure ?? "calm";
  return [
    fact("ready", ready ? "good" : "bad", ready ? "ready" : not),
    status.draining ? fact("drains", "warn", "draining") : fact("drains", "good", "not draining"),
    fact("memory", pressure === "calm" ? "good" : "bad", `memory: ${pressure}`),
    ...ofLinks(status),
    ...ofSettings(status),
    ...ofOthers(status),
    ...ofEgress(status),
    ...ofFile(status),
  ];
}

// What a change is judged by is `what`, where there is one: a reason alone that changes, as with
// each attempt to dial, would be spoken without end.
const judged = (it) => it.what ?? it.says;

function changes(before, after) {
  const old = new Map(before.map((it) => [it.key, it]));
  const said = after.filter((it) => {
    const was = old.get(it.key);
    old.delete(it.key);
    return was ? judged(was) !== judged(it) : it.level !== "good" || it.key.startsWith("link ");
  });
  const gone = [...old.values()].map((it) => fact(it.key, "idle", `no longer there: ${it.says}`));
  return [...said, ...gone];
}
