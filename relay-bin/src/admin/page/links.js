// The matrix: what stands on the other side, by place of a link.

const isUp = (link) => link.state === "up";

function figures(link) {
  const trip = link.round_trip_us == null ? "" : `, RTT ${roundTrip(link.round_trip_us)}`;
  return `${link.transport}${trip}`;
}

function linkParts(link, name) {
  const streams = `${link.streams_open} of ${plural(link.streams_total, "stream")} open`;
  const through = `in ${octets(link.octets_received)}, out ${octets(link.octets_sent)}`;
  const stalls = plural(link.credit_stalls, "credit stall");
  const still = link.credit_stalls > 0 ? `, ${link.credit_stalled_ms} ms` : "";
  return [
    badge(isUp(link) ? "good" : "warn", link.state),
    text(` ${figures(link)}`, "line"),
    small(`${name}up ${duration(link.up_seconds)}`),
    small(streams),
    small(through),
    small(`${octets(link.octets_queued)} queued, ${stalls}${still}`),
  ];
}

const NOTHING = badge("idle", "none");

// At a gateway instance: each connection point that has a link, or has lost one.
function gatewayRows(status) {
  const links = list(status.links);
  const lost = new Map();
  for (const it of list(status.ended)) if (it.connection_point) lost.set(it.connection_point, it);
  const names = new Set([...links.map((it) => it.connection_point), ...lost.keys()]);
  return [...names].sort().map((name) => {
    const own = links.filter((it) => it.connection_point === name);
    const up = own.filter(isUp).length;
    const last = lost.get(name);
    const why = last && `link ${last.number} ended ${time(last.at)}: ${last.why}`;
    const state = up > 0 ? { level: "good", word: `${up} up` } : { level: "bad", word: "down" };
    const places = Math.max(0, ...own.map((it) => it.place + 1));
    return { name, own, ...state, places, why: why ? [why] : [] };
  });
}

function gatewayMatrix(status) {
  const rows = gatewayRows(status);
  const cell = (row, place) => {
    const here = row.own.filter((it) => it.place === place);
    return here.length === 0
      ? many(NOTHING)
      : many(...here.flatMap((it) => linkParts(it, `link ${it.number}, `)));
  };
  return matrix(rows, "Connection point", cell);
}

// At a connection point: each instance, whether it is reached or not.
function pointRows(status) {
  const instances = new Map();
  for (const it of list(status.places)) {
    instances.set(it.instance, [...(instances.get(it.instance) ?? []), it]);
  }
  return [...instances].sort(([a], [b]) => a - b).map(([instance, places]) => {
    const wanted = places.filter((it) => it.phase !== "resting").length;
    const up = places.filter((it) => list(it.links).some(isUp)).length;
    const level = up === 0 ? "bad" : up < wanted ? "warn" : "good";
    const word = up === 0 ? "down" : `${up} of ${wanted} up`;
    // All places of an instance share what is known of its ways.
    // A place that waits says the same.
    const failed = places.some((it) => it.why) ? [] : list(places[0].failed);
    const why = failed.map((it) => `${it.transport} failed ${time(it.at)}: ${it.why}`);
    const [name, host] = [`instance ${instance}`, places[0].host];
    const last = Math.max(...places.map((it) => it.place + 1));
    return { name, host, own: places, level, word, places: last, why };
  });
}

function placeParts(place) {
  const name = `link ${place.instance}.${place.place}, `;
  const links = list(place.links).flatMap((it) => linkParts(it, name));
  if (place.phase === "up") return links;
  if (place.phase === "resting") return [...links, badge("idle", "resting")];
  const next =
    place.next_dial_ms == null ? "" : `, dials in ${duration(place.next_dial_ms / 1000)}`;
  const since = small(`since ${time(place.since)}${next}`);
  const why = place.why ? [text(place.why, "reason")] : [];
  return [...links, badge("bad", place.phase), since, ...why];
}

function pointMatrix(status) {
  const cell = (row, number) => {
    const place = row.own.find((it) => it.place === number);
    return many(...(place ? placeParts(place) : [NOTHING]));
  };
  return matrix(pointRows(status), "Gateway instance", cell);
}

function matrix(rows, other, cell) {
  const places = [...Array(Math.max(1, ...rows.map((it) => it.places))).keys()];
  const heads = [other, "State", ...places.map((it) => `Link ${it}`)];
  const body = rows.map((row) => ({
    key: row.name,
    cells: [
      many(text(row.name), ...(row.host ? [small(row.host)] : [])),
      many(ofLevel(row), ...row.why.map(small)),
      ...places.map((place) => cell(row, place)),
    ],
  }));
  return { heads, body };
}

function showLinks(status) {
  const isGateway = status.role === "gateway";
  const { heads, body } = isGateway ? gatewayMatrix(status) : pointMatrix(status);
  const head = byId("links-head");
  while (head.cells.length > heads.length) head.lastChild.remove();
  heads.forEach((name, at) => {
    if (!head.cells[at]) head.append(make("th", { scope: "col" }));
    show(head.cells[at], name);
  });
  const caption = isGateway
    ? `Connection points × instance ${status.instance}: an instance knows its own links`
    : `Instances × ${status.name}: a connection point knows its links to all instances`;
  show(byId("links-caption"), caption);
  fillTable("links", body);
}
