"use strict";

// ---- Swaps that disturb nobody ------------------------------------------------------------------
// A poll brings fresh HTML. Only what differs is touched, so that focus, selection, ticked boxes,
// what was typed and scroll positions stay; rows are told apart by their `data-key`.

function morph(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  // What a person opened, and what was loaded into it, stays.
  if (old.dataset.keep && old.dataset.keep === fresh.dataset.keep) return;
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !isTheirs(old, name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value && !isTheirs(old, name)) old.setAttribute(name, value);
  }
  if (old.localName !== "select" && old.localName !== "textarea") morphChildren(old, fresh);
}

// Whether an attribute says what a person did, which the server does not know.
function isTheirs(element, name) {
  return name === "open" && (element.localName === "details" || element.localName === "dialog");
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
    const fresh = fragment.firstElementChild;
    sayTimes(fresh);
    morph(target, fresh);
    return [target];
  },
});

// ---- Polls --------------------------------------------------------------------------------------
// A poll says what its page has, and is answered 204 while there is nothing else. Nobody looks at a
// hidden tab: it asks for nothing, and at once when it is seen again. When the portal is away the
// page asks ever more seldom, says so, and keeps what it shows.

const SHORTEST = 2000;
const LONGEST = 60000;
let pause = 0; // for how long not to ask, after how many failures
let askAgainAt = 0;
let isPaused = false;
let answeredAt = new Date();

function isPoll(element) {
  return element.matches("[hx-trigger^=every]");
}

document.addEventListener("htmx:configRequest", (event) => {
  const have = event.detail.elt.dataset.have;
  if (have) event.detail.headers["X-Have"] = have;
});

document.addEventListener("htmx:beforeRequest", (event) => {
  if (!isPoll(event.detail.elt)) return;
  if (document.hidden || isPaused || Date.now() < askAgainAt) event.preventDefault();
});

document.addEventListener("htmx:afterRequest", (event) => {
  const { elt, xhr } = event.detail;
  const isAnswered = xhr.status >= 200 && xhr.status < 400;
  const have = xhr.getResponseHeader("X-Have");
  if (have && elt.isConnected) elt.dataset.have = have;
  if (isAnswered || (xhr.status >= 400 && xhr.status < 500)) {
    pause = 0;
    askAgainAt = 0;
    answeredAt = new Date();
  } else if (isPoll(elt)) {
    pause = Math.min(pause ? pause * 2 : SHORTEST, LONGEST);
    askAgainAt = Date.now() + pause * (0.8 + 0.4 * Math.random());
  }
  sayStale(!isAnswered && isPoll(elt));
});

function sayStale(isStale) {
  const banner = document.getElementById("stale");
  banner.hidden = !isStale;
  document.body.classList.toggle("stale", isStale);
  if (!isStale) return;
  const seconds = Math.round((askAgainAt - Date.now()) / 1000);
  const again = seconds > 3 ? ` It asks again in ${seconds} s.` : " It goes on asking.";
  banner.textContent = `The portal does not answer: this page is as of ${answeredAt.toLocaleTimeString()}.${again}`;
}

function wake() {
  askAgainAt = 0;
  for (const element of document.querySelectorAll("[hx-trigger*=wake]")) htmx.trigger(element, "wake");
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) wake();
});

const pausing = document.getElementById("pause");
if (pausing) {
  pausing.hidden = false;
  pausing.addEventListener("click", () => {
    isPaused = !isPaused;
    pausing.setAttribute("aria-pressed", String(isPaused));
    if (!isPaused) wake();
  });
}

// ---- Times --------------------------------------------------------------------------------------
// The server writes instants as UTC, which never change. Here they are said in the viewer's zone,
// ages and countdowns go on by themselves, and UTC is in the title.

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const calendar = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short" });
const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
const LATE = 30;

function lasting(seconds) {
  const parts = [];
  let rest = Math.max(0, Math.floor(seconds));
  for (const [name, size] of UNITS) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count) parts.push(`${count} ${name}`);
  }
  return parts.slice(0, 2).join(" ") || "0 s";
}

const SAID = {
  ago(behind) {
    if (Math.abs(behind) < 1) return "just now";
    return behind > 0 ? `${lasting(behind)} ago` : `in ${lasting(-behind)}`;
  },
  due(behind) {
    if (behind < 0) return `in ${lasting(-behind)}`;
    return behind < LATE ? "due now" : `late by ${lasting(behind)}`;
  },
  since: (behind) => lasting(behind),
  hour: (behind, date) => clock.format(date).slice(0, 5),
  at: (behind, date) => `${calendar.format(date)} ${clock.format(date)}`,
};

function sayTimes(root) {
  const now = Date.now();
  for (const element of root.querySelectorAll("time[data-say]")) {
    const date = new Date(element.dateTime);
    const words = SAID[element.dataset.say]((now - date) / 1000, date);
    if (element.textContent !== words) element.textContent = words;
  }
}

sayTimes(document);
document.addEventListener("htmx:load", (event) => sayTimes(event.target));

// A narrow screen scrolls the links of the bar: the page that is shown is in sight.
document.querySelector(".bar nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
setInterval(() => {
  if (!document.hidden) sayTimes(document);
}, 1000);

// ---- Output -------------------------------------------------------------------------------------
// It is followed while its end is in view; a reader who scrolled up is left in peace.

const output = document.getElementById("output");
if (output) {
  const toEnd = document.getElementById("to-end");
  let follows = true;
  const follow = () => {
    output.scrollTop = output.scrollHeight;
  };
  follow();
  output.addEventListener("scroll", () => {
    follows = output.scrollHeight - output.scrollTop - output.clientHeight < 40;
    if (follows) toEnd.hidden = true;
  });
  output.addEventListener("htmx:afterSettle", () => {
    if (follows) follow();
    else toEnd.hidden = false;
  });
  toEnd.addEventListener("click", () => {
    follows = true;
    toEnd.hidden = true;
    follow();
  });
}

// ---- What saves a click -------------------------------------------------------------------------

document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-submits]");
  if (form) form.requestSubmit();
});

document.addEventListener("click", (event) => {
  const all = event.target.closest("[data-ticks]");
  if (!all) return;
  for (const box of document.querySelectorAll(all.dataset.ticks)) box.checked = all.checked;
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copies]");
  if (!button) return;
  const text = document.getElementById(button.dataset.copies).textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(document.getElementById(button.dataset.copies));
    button.textContent = "Selected: press Ctrl+C";
  }
});

// ---- A part of the coverage map -----------------------------------------------------------------
// Dragging over a strip fills in the form below it and sends it: the next page says what would run.
// The form does the same by keyboard.

const NS = "http://www.w3.org/2000/svg";
const CELL = 8; // the width of a cell in the units of its strip
let picked = null; // the strip, the cell where the drag began, and what shows it

document.addEventListener("pointerdown", (event) => {
  const strip = event.target.closest("[data-picks] .map svg");
  if (!strip || event.button) return;
  event.preventDefault();
  strip.setPointerCapture(event.pointerId);
  const shade = document.createElementNS(NS, "rect");
  shade.setAttribute("class", "shade");
  shade.setAttribute("height", strip.viewBox.baseVal.height);
  strip.append(shade);
  picked = { strip, shade, first: cellAt(strip, event) };
  shadeTo(picked.first);
});

document.addEventListener("pointermove", (event) => {
  if (picked) shadeTo(cellAt(picked.strip, event));
});

document.addEventListener("pointercancel", forgetPart);

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") forgetPart();
});

document.addEventListener("pointerup", (event) => {
  if (!picked) return;
  const { strip, first } = picked;
  const [from, to] = [first, cellAt(strip, event)].sort((a, b) => a - b);
  const table = strip.closest("[data-picks]");
  const form = document.getElementById(table.dataset.picks);
  const start = Date.parse(table.dataset.start);
  const minute = (cell, round) => {
    const minutes = round((start + cell * table.dataset.step * 1000) / 60000);
    return new Date(minutes * 60000).toISOString().slice(0, 16);
  };
  form.elements.from.value = minute(from, Math.floor);
  form.elements.to.value = minute(to + 1, Math.ceil);
  form.elements.job.value = strip.closest("[data-job]").dataset.job;
  forgetPart();
  form.requestSubmit();
});

function cellAt(strip, event) {
  const { left, width } = strip.getBoundingClientRect();
  const cells = strip.viewBox.baseVal.width / CELL;
  return Math.max(0, Math.min(cells - 1, Math.floor(((event.clientX - left) / width) * cells)));
}

function shadeTo(cell) {
  const { shade, first } = picked;
  shade.setAttribute("x", Math.min(first, cell) * CELL);
  shade.setAttribute("width", (Math.abs(cell - first) + 1) * CELL);
}

function forgetPart() {
  picked?.shade.remove();
  picked = null;
}
