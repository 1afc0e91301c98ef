// SPDX-License-Identifier: Apache-2.0
// The Training tab of the task-instance page. Airflow loads this module and renders the component that it registers.

import { Place } from "./api.js";
import { Curves } from "./curves.js";
import { Facts, LastLines, Model } from "./facts.js";
import { Feed } from "./feed.js";
import { useFit } from "./fit.js";
import { NoMetrics } from "./no_metrics.js";
import { React, h } from "./react.js";
import { broughtModel, fetchedModel, isOver, understand } from "./status.js";
import { Failure, Headline, Progress, Timeline } from "./timeline.js";

const STYLES_WAIT = 3000;

/** The tab. */
function Training(props) {
  const place = new Place(props);
  const key = JSON.stringify([place.instance, place.mapIndex]);
  return h("div", { className: "jobapi-training", ref: useFit() }, h(Boundary, { key }, h(Followed, { place })));
}

function Followed({ place }) {
  const [read, setRead] = React.useState(null);
  React.useEffect(() => {
    const feed = new Feed(place, setRead).start();
    return () => feed.stop();
  }, []);
  if (read === null) return h("p", { className: "jt-muted", role: "status" }, "Reading the training…");
  if (read.ti === null) return h(Unreadable, { place, trouble: read.trouble });
  const view = understand(read);
  return h(React.Fragment, null, read.trouble && h(Trouble, { trouble: read.trouble }), h(Page, { view, read, place }));
}

function Page({ view, read, place }) {
  const training = view.kind === "training";
  const curves = view.metrics.size > 0 || (view.tries.length > 0 && (training || view.kind === "cleared"));
  const asked = training || ["jobless", "cleared", "forbidden"].includes(view.kind);
  const [fetched, brought] = [fetchedModel(read.xcoms), broughtModel(read.xcoms)];
  return h(
    React.Fragment,
    null,
    h(Headline, { view }),
    view.phases.length > 0 && h(Timeline, { view }),
    view.progress && h(Progress, { progress: view.progress }),
    view.failure && h(Failure, { failure: view.failure }),
    h(Model, { view: { ...view, fetched, brought } }),
    curves && h(Curves, { view }),
    training && !curves && h(NoMetrics, { over: isOver(view.ti) }),
    h(
      "div",
      { className: "jt-columns" },
      training && h(Facts, { view }),
      asked && read.log && h(LastLines, { log: read.log, href: place.pageOf() }),
    ),
    view.ignored.length > 0 && h("p", { className: "jt-note" }, `Ignored, because it belongs to another job: ${view.ignored.join(", ")}.`),
  );
}

/** The page when the task instance cannot be read. */
function Unreadable({ place, trouble }) {
  const { status, message } = trouble ?? {};
  if (status === 404 && /mapped/.test(message) && !place.mapped) {
    return h(Sentence, { title: "Mapped" }, "This task is mapped and runs once for each of its values; choose one under ", h("a", { href: place.pageOf() + "/mapped" }, "its task instances"), ".");
  }
  if (status === 404) return h(Sentence, { title: "Not there" }, "This task instance does not exist; its dag run may have been deleted.");
  if (status === 401) return h(Sentence, { title: "Logged out" }, "You are logged out of Airflow; reload the page to log in.");
  if (status === 403) return h(Sentence, { title: "No permission" }, "You may not see the task instances of this DAG.");
  if (status > 0 && status < 500) return h(Sentence, { title: "Not readable" }, message);
  return h(Sentence, { title: "No answer" }, "Airflow does not answer; trying again in some seconds.");
}

const Sentence = ({ title, children }) =>
  h("header", { className: "jt-head" }, h("div", { className: "jt-badge jt-idle" }, h("span", { className: "jt-dot", "aria-hidden": true }), title), h("p", { className: "jt-sentence", role: "status" }, children));

function Trouble({ trouble }) {
  const { status } = trouble;
  const text =
    status === 401
      ? "You are logged out of Airflow; reload the page to log in. The page shows what was read before."
      : status === 0 || status >= 500
        ? "Airflow does not answer; trying again in some seconds. The page shows what was read before."
        : `Airflow refused the request: ${trouble.message}`;
  return h("p", { className: "jt-note", role: "alert" }, text);
}

/** Shows a sentence instead of a blank page when a component throws. */
class Boundary extends (React.Component ?? Object) {
  state = { error: null };

  static getDerivedStateFromError(error) {
    return { error };
  }

  render() {
    if (this.state.error === null) return this.props.children;
    return h(
      Sentence,
      { title: "Not shown" },
      `This page has a fault and cannot show the training, which is not affected: ${this.state.error}. The Logs tab has the lines. `,
      h("button", { type: "button", onClick: () => this.setState({ error: null }) }, "Try again"),
    );
  }
}

/** Load the styles; waits for them, at most STYLES_WAIT, so that the page is not shown without them. */
function styles() {
  const href = new URL("./training.css", import.meta.url).href;
  if (document.querySelector(`link[href="${href}"]`)) return undefined;
  const link = Object.assign(document.createElement("link"), { rel: "stylesheet", href });
  return new Promise((ready) => {
    for (const event of ["load", "error"]) link.addEventListener(event, ready);
    setTimeout(ready, STYLES_WAIT);
    document.head.append(link);
  });
}

await styles();
// The name of the app in plugin.py, under which Airflow looks for its component.
globalThis.Training = Training;
