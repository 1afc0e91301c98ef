// SPDX-License-Identifier: Apache-2.0
// Limits the tab to the visible width: Airflow's page is at least 1,280 pixels wide and scrolls sideways below that.

import { React } from "./react.js";

const MARGIN = 24;

/** The visible width of an element's container; null where all of it is visible. */
function seen(element) {
  let width = innerWidth;
  for (let box = element.parentElement; box; box = box.parentElement) {
    if (/auto|scroll|hidden/.test(getComputedStyle(box).overflowX)) width = Math.min(width, box.clientWidth);
  }
  const room = element.parentElement.clientWidth;
  return width - MARGIN < room - MARGIN * 2 ? width - MARGIN : null;
}

/** A reference for an element that is kept to the visible width, and scrolled to on a narrow page. */
export function useFit() {
  const box = React.useRef(null);
  React.useLayoutEffect(() => {
    const element = box.current;
    let narrow = false;
    const fit = () => {
      const width = seen(element);
      element.style.maxWidth = width === null ? "" : `${width}px`;
      if (width !== null && !narrow) element.scrollIntoView({ block: "nearest", inline: "center" });
      narrow = width !== null;
    };
    fit();
    const observer = new ResizeObserver(fit);
    observer.observe(element.parentElement);
    addEventListener("resize", fit);
    return () => {
      observer.disconnect();
      removeEventListener("resize", fit);
    };
  }, []);
  return box;
}
