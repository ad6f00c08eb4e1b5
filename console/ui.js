// The one place that knows which library draws the page.

import { Component, createRef, h, render } from './vendor/preact.js';
import { useEffect, useLayoutEffect, useRef, useState } from './vendor/hooks.js';
import htm from './vendor/htm.js';

/** Templates become elements, never markup: a text in them is shown as it is. */
export const html = htm.bind(h);

/** The present, again each `period` ms. Only the component that shows a time is drawn anew for it. */
export function useNow(period = 1000) {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), period);
    return () => clearInterval(timer);
  }, [period]);
  return now;
}

export { Component, createRef, render, useEffect, useLayoutEffect, useRef, useState };
