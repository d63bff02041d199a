"use strict";

// Polls bring fresh HTML every 2 s. Only what differs is touched, so that focus, selection and
// scroll positions stay; rows are told apart by their `data-key`.
function morph(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  // What a person opened, and what was loaded into it, stays.
  if (old.dataset.keep && old.dataset.keep === fresh.dataset.keep) return;
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  morphChildren(old, fresh);
}

function morphChildren(old, fresh) {
  const kept = new Map([...old.children].map((child) => [child.dataset.key, child]));
  let at = old.firstChild;
  for (const next of [...fresh.childNodes]) {
    const key = next.dataset?.key;
    const same = key ? kept.get(key) : isAlike(at, next) ? at : null;
    if (!same) {
      old.insertBefore(next, at);
    } else {
      if (same === at) at = at.nextSibling;
      else if (old.moveBefore) old.moveBefore(same, at);
      else old.insertBefore(same, at);
      morph(same, next);
    }
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

function isAlike(old, fresh) {
  return old && old.nodeName === fresh.nodeName && !old.dataset?.key && old.id === fresh.id;
}

htmx.defineExtension("morph", {
  isInlineSwap: (style) => style === "morph",
  handleSwap(style, target, fragment) {
    if (style !== "morph") return false;
    morph(target, fragment.firstElementChild);
    return [target];
  },
});

// Nobody looks at a hidden tab: it asks for nothing.
document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden && event.detail.elt.matches("[hx-trigger^=every]")) event.preventDefault();
});

document.addEventListener("htmx:afterRequest", (event) => {
  document.getElementById("stale").hidden = Boolean(event.detail.successful);
});

// Follow the output while its end is in view; a reader who scrolled up is left in peace.
const output = document.getElementById("output");
if (output) {
  let follows = true;
  output.scrollTop = output.scrollHeight;
  output.addEventListener("scroll", () => {
    follows = output.scrollHeight - output.scrollTop - output.clientHeight < 40;
  });
  output.addEventListener("htmx:afterSettle", () => {
    if (follows) output.scrollTop = output.scrollHeight;
  });
}
