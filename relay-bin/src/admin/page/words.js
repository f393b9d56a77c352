// Figures and times as people read them; the same as `relay status` in a terminal.

const list = (value) => (Array.isArray(value) ? value : []);

const plural = (n, one) => `${n} ${one}${n === 1 ? "" : "s"}`;

function duration(seconds) {
  const whole = Math.floor(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor(whole / 60) % 60} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor(whole / 3600) % 24} h`;
}

const roundTrip = (micros) =>
  micros < 1000 ? `${micros} µs` : `${(Math.floor(micros / 100) / 10).toFixed(1)} ms`;

function octets(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let whole = value;
  while (whole >= 10240 && unit + 1 < units.length) {
    whole = Math.floor(whole / 1024);
    unit += 1;
  }
  return `${whole} ${units[unit]}`;
}

// All times are UTC, as in the log.
function time(rfc3339) {
  const parts = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?Z$/.exec(rfc3339 ?? "");
  return parts ? `${parts[1]} ${parts[2]} UTC` : String(rfc3339 ?? "");
}

const clock = (date) => `${date.toISOString().slice(11, 19)} UTC`;
