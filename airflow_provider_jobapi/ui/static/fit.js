// SPDX-License-Identifier: Apache-2.0
// Airflow's page is at least 1,280 pixels wide and scrolls sideways on less; the tab is as wide as what is seen of it.

import { React } from "./react.js";

const MARGIN = 24;

/** The width that can be seen of what an element stands in; null where that is all of it. */
function seen(element) {
  let width = innerWidth;
  for (let box = element.parentElement; box; box = box.parentElement) {
    if (/auto|scroll|hidden/.test(getComputedStyle(box).overflowX)) width = Math.min(width, box.clientWidth);
  }
  const room = element.parentElement.clientWidth;
  return width - MARGIN < room - MARGIN * 2 ? width - MARGIN : null;
}

/** A reference to an element that fits, and, where a page is narrow, is scrolled to. */
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
