// Keeps the page as new as the store. Everything works without it: it only saves a reload.
"use strict";

const RETRY_MS = 5000;
const body = document.body;
const bare = document.title.replace(/^\(\d+\) /, "");
let busy = false;
let again = false;

function count(waiting) {
  const badge = document.getElementById("count");
  badge.textContent = String(waiting);
  badge.hidden = waiting === 0;
  document.title = (waiting ? `(${waiting}) ` : "") + bare;
}

// What a person has typed or chosen is kept, as long as the request itself did not change.
function renew(page) {
  for (const old of document.querySelectorAll("[data-live]")) {
    const fresh = page.getElementById(old.id);
    if (!fresh || !old.isConnected || fresh.dataset.mark === old.dataset.mark) continue;
    const focused = document.activeElement instanceof HTMLAnchorElement ? document.activeElement.href : "";
    old.replaceWith(fresh);
    for (const link of fresh.querySelectorAll("a")) if (focused && link.href === focused) link.focus();
    begin();
  }
}

async function refresh() {
  if (!document.querySelector("[data-live]")) return;
  if (busy) {
    again = true;
    return;
  }
  busy = true;
  try {
    const answer = await fetch(location.href, { credentials: "same-origin", redirect: "manual" });
    if (answer.type === "opaqueredirect" || answer.status === 401) return location.reload();
    if (answer.ok) renew(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch {
    // The guard is away; the stream comes back when it is.
  } finally {
    busy = false;
    if (again) {
      again = false;
      refresh();
    }
  }
}

function told(seconds) {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

function begin() {
  for (const place of document.querySelectorAll("[data-expires]")) {
    place.deadline = performance.now() + Number(place.dataset.expires) * 1000;
  }
  for (const time of document.querySelectorAll("time")) {
    time.title = `${new Date(time.dateTime).toLocaleString()}, your time`;
  }
}

function tick() {
  let over = false;
  for (const place of document.querySelectorAll("[data-expires]")) {
    const seconds = Math.max(0, Math.ceil((place.deadline - performance.now()) / 1000));
    place.textContent = told(seconds);
    over = over || seconds === 0;
  }
  if (over) refresh();
}

// A browser opens six connections to one place, so all tabs share one stream: whoever holds the lock listens for all.
const others = new BroadcastChannel(body.dataset.events);
let stream = null;
let last = null;
let leave = null;

function heard(said) {
  if (said.waiting === undefined) return location.reload();
  count(said.waiting);
  return refresh();
}

function pass(said) {
  last = said;
  others.postMessage(said);
  heard(said);
}

function listen() {
  stream = new EventSource(body.dataset.events);
  stream.addEventListener("change", (event) => pass(JSON.parse(event.data)));
  stream.addEventListener("end", () => {
    stream.close();
    pass({});
  });
  // A refused stream does not come back by itself.
  stream.addEventListener("error", () => {
    if (stream?.readyState === EventSource.CLOSED) setTimeout(() => leave && listen(), RETRY_MS);
  });
}

function join() {
  const wait = new AbortController();
  const turn = () =>
    new Promise((done) => {
      leave = done;
      listen();
    });
  navigator.locks.request(body.dataset.events, { signal: wait.signal }, turn).catch(() => {});
  addEventListener("pagehide", () => {
    wait.abort();
    stream?.close();
    stream = null;
    leave?.();
    leave = null;
  }, { once: true });
}

others.addEventListener("message", (event) => {
  if (event.data !== "new") heard(event.data);
  else if (last) others.postMessage(last);
});
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") refresh();
});

begin();
setInterval(tick, 1000);
join();
others.postMessage("new");
