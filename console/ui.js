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

/** Left and right go through the tabs of a list. */
export function walkTabs(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const tabs = [...event.currentTarget.querySelectorAll('[role=tab]')];
  const next = tabs[(tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length];
  next.focus();
  next.click();
}

/** Enter sends what is in a box, unless it ends a composed character or asks for a new line. */
export const onEnter = (send) => (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
};
