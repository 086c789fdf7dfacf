"use strict";
// State, refreshing and layout. The picture is a function of the last snapshot; run and language stand in the address.

let view = JSON.parse(document.getElementById("data").textContent);
const place = new URLSearchParams(location.hash.slice(1)), query = new URLSearchParams(location.search);
let selected = place.get("run"), lostSince = null;
language = place.get("lang") || view.language || (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");

function remember() {
  const state = new URLSearchParams();
  if (selected) state.set("run", selected);
  state.set("lang", language);
  history.replaceState(null, "", "#" + state);
}

function current() { return view.runs.find((run) => run.path === selected) || view.runs[0]; }

function heading() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  const runs = document.getElementById("runs"), run = current();
  runs.replaceChildren(...view.runs.map((one) => {
    const button = make("button", { type: "button", class: one.status.state, "aria-pressed": String(one === run), title: one.path }, make("span", { class: "dot" }), one.name);
    button.addEventListener("click", () => { selected = one.path; remember(); show(); });
    return button;
  }));
  document.title = `${run.name} · ${word(run.status.state)} · medscroll`;
  document.getElementById("language").textContent = word("language");
  connection();
}

function connection() {
  const node = document.getElementById("connection");
  node.className = lostSince ? "lost" : "";
  node.textContent = view.live ? (lostSince ? `${word("lost")} ${moment(lostSince)}` : `${word("live")} · ${word("updated")} ${moment(view.generated)}`) : `${word("still")} ${moment(view.generated)}`;
}

function show() {
  heading();
  const run = current(), runs = view.runs, plain = { zero: false }, small = runs.some((one) => one.curves.mfu) ? "third" : "half";
  const parts = [
    banner(run), run.alerts.length ? alertsSection(run) : null,
    curve("half", "loss", runs, run, { ...plain, height: 230 }), curve("half", "tokens_per_second", runs, run, { zero: true, height: 230, note: word("tokensUnit") }),
    curve(small, "mfu", runs, run, { zero: true, format: share }), curve(small, "grad_norm", runs, run, plain), curve(small, "learning_rate", runs, run, { zero: true }),
    memoryMap(run), memoryCurve(run), communication(run), exposedOverRun(run), phasesOverRun(run, view.phases), slowest(run),
    timeline(run, view.phases), nodesTable(run), dataSection(run), checkpointsSection(run), ranksTable(run), run.alerts.length ? null : alertsSection(run),
  ].filter(Boolean);
  const main = document.getElementById("main"), scrolls = [...main.querySelectorAll(".scroll")].map((node) => [node.scrollTop, node.scrollLeft]), top = scrollY;
  main.style.minHeight = `${main.offsetHeight}px`;
  main.replaceChildren(...parts);
  for (const part of parts) if (part.paint) part.paint();
  main.style.minHeight = "";
  [...main.querySelectorAll(".scroll")].forEach((node, i) => { if (scrolls[i]) [node.scrollTop, node.scrollLeft] = scrolls[i]; });
  if (scrollY !== top) scrollTo(0, top);
  footer(run);
}

function footer(run) {
  const reading = run.reading, lines = [];
  if (reading.share < 1) lines.push(`${word("reading")}: ${share(reading.share)}`);
  if (reading.bad_lines) lines.push(`${reading.bad_lines} ${word("bad")}`);
  if (reading.unfinished_lines) lines.push(`${reading.unfinished_lines} ${word("unfinished")}`);
  if (reading.sampled) lines.push(word("sampled"));
  if (reading.thinned) lines.push(word("thinned"));
  for (const [name, problem] of Object.entries(reading.unreadable)) lines.push(`${name} ${word("unreadable")}: ${problem}`);
  for (const note of reading.notes) {
    const more = note.seconds !== undefined ? ` ${duration(note.seconds)} (${Object.entries(note.offsets).map(([host, by]) => `${host} ${by >= 0 ? "+" : ""}${by.toFixed(1)} s`).join(", ")})` : note.versions ? ` (${note.versions.join(", ")}; ${note.ours})` : "";
    lines.push(`${note.count ? note.count + " " : ""}${word(note.kind)}${more}`);
  }
  document.getElementById("footer").replaceChildren(...lines.map((line) => make("p", {}, line)));
}

async function refresh() {
  try {
    const token = query.get("token");
    const answer = await fetch(`data?after=${view.serial}${token ? "&token=" + encodeURIComponent(token) : ""}`, { cache: "no-store" });
    if (answer.status === 204) { if (lostSince) { lostSince = null; connection(); } }
    else if (answer.ok) { view = await answer.json(); lostSince = null; show(); }
    else throw new Error(String(answer.status));
  } catch (error) {
    lostSince = lostSince || Date.now() / 1000;
    connection();
  }
  setTimeout(refresh, document.hidden ? 10000 : 2000);
}

document.getElementById("language").addEventListener("click", () => { language = language === "zh" ? "en" : "zh"; remember(); show(); });
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; show(); } });
addEventListener("beforeprint", () => show());
show();
if (view.live) setTimeout(refresh, 1000);
