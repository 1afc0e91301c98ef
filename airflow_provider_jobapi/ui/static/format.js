// SPDX-License-Identifier: Apache-2.0
// Numbers, durations, sizes and times as text.

/** A value of a metric with at most five digits; NaN and infinities by name. */
export function number(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number" || !Number.isFinite(value)) return String(value).replace("-", "−");
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text =
    size >= 1e6 || size < 1e-3
      ? value.toExponential(3).replace(/\.?0+e/, "e").replace("e+", "e")
      : Number(value.toPrecision(5)).toLocaleString("en", { maximumFractionDigits: 8 });
  return text.replaceAll("-", "−");
}

/** A number on an axis whose ticks are `step` apart, with the digits that the step needs. */
export function tick(value, step) {
  const size = Math.max(Math.abs(value), step);
  if (value !== 0 && (size >= 1e5 || size < 1e-3)) {
    return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e").replaceAll("-", "−");
  }
  const digits = Math.max(0, Math.min(8, Math.ceil(-Math.log10(step) - 1e-9)));
  // A tick that rounding left a little below zero would be shown as −0.
  return (Math.abs(value) < step / 1e6 ? 0 : value).toLocaleString("en", { maximumFractionDigits: digits, useGrouping: size >= 1e4 }).replace("-", "−");
}

/** A duration in seconds: "4.2 s", "3 min 12 s", "2 h 5 min", "3 d 4 h". */
export function span(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  const all = Math.max(0, seconds);
  if (all < 9.95) return `${all.toFixed(1)} s`;
  const whole = Math.round(all);
  const [days, hours, minutes, rest] = [whole / 86400, (whole / 3600) % 24, (whole / 60) % 60, whole % 60].map(Math.floor);
  if (days) return pair(days, "d", hours, "h");
  if (hours) return pair(hours, "h", minutes, "min");
  return minutes ? pair(minutes, "min", rest, "s") : `${rest} s`;
}

/** A time that is left, as exact as it can be known: "about 12 min left". */
export function timeLeft(seconds) {
  const minutes = Math.round(seconds / 60);
  if (seconds < 50) return "less than a minute left";
  if (minutes < 60) return `about ${minutes} min left`;
  const tens = Math.round(minutes / 10) * 10;
  if (tens < 24 * 60) return `about ${pair(Math.floor(tens / 60), "h", tens % 60, "min")} left`;
  const hours = Math.round(minutes / 60);
  return `about ${pair(Math.floor(hours / 24), "d", hours % 24, "h")} left`;
}

const pair = (first, one, second, other) => (second ? `${first} ${one} ${second} ${other}` : `${first} ${one}`);

/** A size in bytes. */
export function bytes(size) {
  if (typeof size !== "number" || !Number.isFinite(size)) return "";
  const units = ["B", "KB", "MB", "GB", "TB"];
  let [left, unit] = [size, 0];
  while (left >= 999.5 && unit < units.length - 1) [left, unit] = [left / 1000, unit + 1];
  return `${unit && left < 9.95 ? left.toFixed(1) : Math.round(left)} ${units[unit]}`;
}

/** A count with its noun. */
export const many = (count, one, more = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : more}`;

/** The time zone chosen in Airflow's UI, which keeps it in the browser's local storage. */
function zone() {
  try {
    const kept = JSON.parse(globalThis.localStorage.getItem("timezone"));
    // Throws for a zone that this browser does not know.
    return new Intl.DateTimeFormat("en", { timeZone: kept }).resolvedOptions().timeZone;
  } catch {
    return undefined;
  }
}

const formats = new Map();

function formatted(milliseconds, options) {
  if (!Number.isFinite(milliseconds)) return "";
  const name = JSON.stringify([zone(), options]);
  if (!formats.has(name)) formats.set(name, new Intl.DateTimeFormat("en-GB", { ...options, timeZone: zone() ?? undefined }));
  return formats.get(name).format(milliseconds);
}

/** The time of day, in the zone chosen in Airflow. */
export const clock = (milliseconds) => formatted(milliseconds, { timeStyle: "medium" });

/** Date and time, in the zone chosen in Airflow. */
export const moment = (milliseconds) => formatted(milliseconds, { dateStyle: "medium", timeStyle: "long" });
