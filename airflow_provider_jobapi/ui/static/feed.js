// SPDX-License-Identifier: Apache-2.0
// Polls Airflow for what the page shows: while the task is not over, and only while the page is visible.

import { ApiError, plain, read, tail } from "./api.js";
import { KEYS, isOver } from "./status.js";

const PAUSE = 2500;
const IDLE_PAUSE = 10_000;
const LONGEST_PAUSE = 30_000;
const LOG_PAUSE = 5000;
const LAST_LINES = 200;
const WAKE = 2000;

/** Whether the same request may succeed a moment later. */
const isPassing = (error) => error instanceof ApiError && (error.status === 0 || error.status >= 500 || error.status === 429);

/** Polls one task instance and calls `onChange` with a new snapshot after each poll. */
export class Feed {
  constructor(place, onChange) {
    this.place = place;
    this.onChange = onChange;
    this.aborter = new AbortController();
    this.failures = 0;
    this.read = { ti: null, xcoms: new Map(), store: [], links: null, log: null, forbidden: false, trouble: null };
    this.seen = new Map();
    this.logDue = 0;
    this.polling = false;
    this.stored = null;
  }

  start() {
    const { signal } = this.aborter;
    document.addEventListener("visibilitychange", () => this.poll(), { signal });
    // A task that is over starts again when it is cleared, and the button for that is on this page.
    document.addEventListener("click", () => this.wake(), { signal });
    this.poll();
    return this;
  }

  stop() {
    this.aborter.abort();
    clearTimeout(this.timer);
  }

  wake() {
    if (!this.polling && isOver(this.read.ti)) this.later(WAKE);
  }

  later(milliseconds) {
    clearTimeout(this.timer);
    if (!this.aborter.signal.aborted) this.timer = setTimeout(() => this.poll(), milliseconds);
  }

  async poll() {
    if (this.polling || document.hidden) return;
    this.polling = true;
    clearTimeout(this.timer);
    let pause = null;
    try {
      pause = await this.readAll();
      this.failures = 0;
      this.read = { ...this.read, trouble: null };
    } catch (error) {
      if (this.aborter.signal.aborted) return;
      pause = this.onError(error instanceof ApiError ? error : new ApiError(-1, String(error)));
    } finally {
      this.polling = false;
    }
    if (this.aborter.signal.aborted) return;
    this.onChange({ ...this.read, xcoms: new Map(this.read.xcoms) });
    if (pause !== null) this.later(pause);
  }

  /** Note an error; returns the milliseconds until the next poll, or null where another one cannot help. */
  onError(error) {
    this.failures += 1;
    this.read = { ...this.read, trouble: error };
    return isPassing(error) ? Math.min(LONGEST_PAUSE, PAUSE * 2 ** this.failures) : null;
  }

  async get(path, query = {}) {
    const { body, date } = await read(path, query, this.aborter.signal);
    if (!Number.isNaN(date)) this.read.offset = date - Date.now();
    return body;
  }

  /** Read everything once; returns the milliseconds until the next poll, or null for none. */
  async readAll() {
    const { place } = this;
    const before = this.read.ti;
    const ti = await this.get(place.mapped ? `${place.instance}/${place.mapIndex}` : place.instance);
    this.read = { ...this.read, ti };
    // Each try has its own id and its own XComs.
    if (before?.id !== ti.id) this.forget();
    await this.readXComs();
    if (!this.read.xcoms.has("training_job_id")) await this.readLinks();
    await this.readStore(ti);
    const ended = isOver(ti) && before?.state !== ti.state;
    await this.readLog(ti, ended);
    if (isOver(ti)) return isPassing(this.read.log?.refused) ? IDLE_PAUSE : null;
    return ti.state ? PAUSE : IDLE_PAUSE;
  }

  forget() {
    this.seen.clear();
    this.logDue = 0;
    this.read = { ...this.read, xcoms: new Map(), log: null, links: null };
  }

  async readXComs() {
    const path = `${this.place.instance}/xcomEntries`;
    const query = { map_index: this.place.mapIndex };
    try {
      const { xcom_entries: entries, total_entries: total } = await this.get(path, { ...query, limit: 100 });
      const stamps = new Map(entries.map(({ key, timestamp }) => [key, timestamp]));
      // When a task has more XComs than one page of answers, those of this provider are read by name.
      const wanted = KEYS.filter((key) => stamps.has(key) || total > entries.length);
      for (const key of this.read.xcoms.keys()) if (!wanted.includes(key)) this.read.xcoms.delete(key);
      await Promise.all(wanted.map((key) => this.readXCom(path, key, query, stamps.get(key))));
      this.read = { ...this.read, forbidden: false };
    } catch (error) {
      if (error.status !== 403 && error.status !== 401) throw error;
      this.read = { ...this.read, forbidden: true };
    }
  }

  async readXCom(path, key, query, stamp) {
    if (stamp !== undefined && this.seen.get(key) === stamp) return;
    try {
      const { value, timestamp } = await this.get(`${path}/${key}`, query);
      this.read.xcoms.set(key, plain(value));
      this.seen.set(key, timestamp);
    } catch (error) {
      // Deleted between the two requests, as at the start of a new try.
      if (error.status !== 404) throw error;
      this.read.xcoms.delete(key);
    }
  }

  /** Read the names of the task's links, by which a training that has not submitted yet differs from other tasks. */
  async readLinks() {
    if (this.read.links !== null) return;
    const links = await this.optional(`${this.place.instance}/links`, { map_index: this.place.mapIndex });
    this.read = { ...this.read, links: links?.extra_links ?? {} };
  }

  /** Read the curves of earlier tries, which Airflow 3.3 and later keep. */
  async readStore(ti) {
    if (this.stored === ti.id || !(ti.try_number > 1)) return;
    const found = await this.optional(`${this.place.instance}/state-store`, { map_index: this.place.mapIndex, limit: 100 });
    this.stored = ti.id;
    this.read = { ...this.read, store: found?.task_state_store ?? [] };
  }

  /** Read what an older Airflow may not have and a user may not be allowed to see; null then. */
  async optional(path, query) {
    try {
      return await this.get(path, query);
    } catch (error) {
      if (![400, 401, 403, 404, 405, 422].includes(error.status)) throw error;
      return null;
    }
  }

  /** Read the log. Airflow reads the whole file for each request, so the longer it takes, the rarer it is read. */
  async readLog(ti, ended) {
    if (!(ti.try_number > 0) || (!ended && performance.now() < this.logDue)) return;
    const began = performance.now();
    try {
      const log = await tail(this.place, ti.try_number, LAST_LINES, this.aborter.signal);
      this.read = { ...this.read, log };
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.read = { ...this.read, log: { lines: [], ofJob: false, count: 0, error: null, refused: error } };
    }
    this.logDue = performance.now() + Math.max(LOG_PAUSE, 20 * (performance.now() - began));
  }
}
