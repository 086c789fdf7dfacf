"use strict";
// The sections of the page: each takes a run (an object of the snapshot) and gives an element, or null where it has nothing.

const COLOURS = ["var(--c0)", "var(--c1)", "var(--c2)", "var(--c3)", "var(--c4)", "var(--c5)", "var(--c6)", "var(--c7)"];

// A section is put into the page before it is drawn, so that it knows its width.
function section(kind, title, note, paint) {
  const readout = make("div", { class: "readout" }, note || ""), body = make("div");
  const node = make("section", { class: kind }, make("h2", {}, title), note === "" ? null : readout, body);
  node.paint = () => { body.replaceChildren(); if (paint(body, readout) === false) body.append(make("p", { class: "empty" }, word("none"))); };
  return node;
}

function legend(entries) {
  return make("div", { class: "legend" }, ...entries.map(([name, colour, dashed]) => {
    const mark = make("i", { class: dashed ? "line" : "" });
    mark.style[dashed ? "borderColor" : "background"] = colour;
    return make("span", {}, mark, name);
  }));
}

function banner(run) {
  const status = run.status, node = make("section", { class: `banner ${status.state}` });
  const since = status.since ? ` ${status.state === "dead" ? "" : word("since") + " "}${moment(status.since)}` : "";
  const state = status.state === "dead" ? word("deadSince") : word(status.state);
  const dead = run.ranks.filter((rank) => rank.state === "dead" || rank.state === "crashed");
  node.append(make("div", { class: status.state }, make("span", { class: "dot" }), make("strong", { id: "state" }, state + since)));
  if (status.reason) node.append(make("p", { id: "reason" }, status.reason));
  if (dead.length && status.state !== "crashed") node.append(make("p", {}, `${word("dead")}: ` + dead.slice(0, 12).map((rank) => `${word("rank")} ${rank.rank} (${rank.host})`).join(", ") + (dead.length > 12 ? " …" : "")));
  const hosts = new Set(run.ranks.map((rank) => rank.host)).size;
  node.append(make("p", { class: "path" }, `${run.path} · ${run.ranks.length} ${word("ranks")} · ${hosts} ${word("nodes")}${run.device ? " · " + run.device : ""}`));
  if (run.max_steps) {
    const done = make("div"); done.style.width = `${Math.min(100, 100 * run.step / run.max_steps)}%`;
    node.append(make("div", { class: "bar" }, done));
  }
  const exposed = average(run.ranks.map((rank) => rank["communication/exposed_us"]));
  const peaks = run.ranks.map((rank) => rank[run.memory.of]).filter((value) => value !== null), peak = peaks.length ? Math.max(...peaks) : null;
  const over = run.memory.planned && peak > run.memory.planned;
  const live = run.status.state === "running" || run.status.state === "starting" || run.status.state === "degraded";
  const tiles = [
    ["step", `${run.step.toLocaleString("en")}`, run.max_steps ? `${word("of")} ${run.max_steps.toLocaleString("en")}` : "", "tile-step"],
    ["loss", run.loss === null ? "–" : run.loss.toFixed(4), run.evaluations.length ? `${word("validation")} ${short(run.evaluations[run.evaluations.length - 1].eval_loss)}` : ""],
    ["tokens_per_second", short(run.tokens_per_second), word("tokensUnit")],
    ["mfu", share(run.mfu), run.hfu === null ? "" : `HFU ${share(run.hfu)}`],
    ["seconds", duration(run.seconds_per_step), live && run.stall_after ? `${word("stallAfter")} ${duration(run.stall_after)}` : ""],
    ["remaining", live ? duration(run.remaining_seconds) : "–", live && run.ends_at ? `${word("ends")} ${moment(run.ends_at)}` : run.epoch === null ? "" : `${word("epoch")} ${run.epoch.toFixed(2)}`],
    ["memoryShort", gib(peak), run.memory.limit ? `${share(peak / run.memory.limit)} ${word("of")} ${gib(run.memory.limit)}${over ? " · " + word("planOver") : ""}` : ""],
    ["exposedTitle", exposed === null || !run.seconds_per_step ? "–" : share(exposed / 1e6 / run.seconds_per_step), word("ofStep")],
  ];
  node.append(make("div", { class: "tiles" }, ...tiles.map(([name, value, note, id]) => make("div", { class: "tile" }, make("span", {}, word(name)), make("b", { id: id || null }, value), make("small", {}, note)))));
  return node;
}

const average = (values) => { const known = values.filter((value) => value !== null && value !== undefined); return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null; };

function curve(kind, name, runs, current, options) {
  const shown = runs.filter((run) => run.curves[name]);
  if (!shown.length) return null;
  const colour = (run) => COLOURS[runs.indexOf(run) % COLOURS.length];
  const series = shown.map((run) => ({
    name: runs.length > 1 ? run.name : "", x: run.curves.step, y: run.curves[name], colour: colour(run),
    low: run === current && name === "loss" ? run.curves.loss_least : null, high: run === current && name === "loss" ? run.curves.loss_greatest : null,
  }));
  if (name === "loss") for (const run of shown) if (run.evaluations.length)
    series.push({ name: word("validation"), points: true, x: run.evaluations.map((one) => one.step), y: run.evaluations.map((one) => one.eval_loss ?? null), colour: "var(--c5)" });
  return section(kind, word(name), options.note, (body, readout) => {
    const drawn = lineChart(body, readout, { series, unit: word("step"), ...options, name: word(name) });
    if (drawn && (runs.length > 1 || series.length > 1)) body.append(legend(series.map((one) => [one.name || word(name), one.colour]).filter(([title], i, all) => all.findIndex(([other]) => other === title) === i)));
    return drawn;
  });
}

function phasesOverRun(run, phases) {
  const seen = run.phases.step.map((_, i) => i).filter((i) => run.phases.seconds[i] !== null), only = (list) => seen.map((i) => list[i]);
  const held = phases.filter((phase) => run.phases[phase] && run.phases[phase].some((value) => value));
  if (!held.length) return null;
  return section("half", word("phases"), word("perStep"), (body, readout) => {
    const layers = held.map((phase) => ({ name: phaseWord(phase), y: only(run.phases[phase]), colour: `var(--${phase})` }));
    const drawn = stackChart(body, readout, { x: only(run.phases.step), layers, format: (value) => short(value) + " s", unit: word("step"), name: word("phases") });
    body.append(legend(held.map((phase) => [phaseWord(phase), `var(--${phase})`])));
    return drawn;
  });
}

function timeline(run, phases) {
  const rows = run.timeline.rows.filter((row) => row.steps.length);
  if (!rows.length) return null;
  return section("", word("timeline"), `${word("step")} ${run.timeline.from_step} –`, (body, readout) => {
    const end = Math.max(...rows.map((row) => { const last = row.steps[row.steps.length - 1]; return last.start + last.seconds; }));
    const height = Math.max(Math.min(20, 420 / rows.length), 6), at = frame(body, { x: [0, end], y: [0, rows.length] }, { height: rows.length * height + 32, noY: true, xFormat: (value) => trim(value.toFixed(2)) + " s", name: word("timeline") });
    const cells = new Cells(), every = Math.ceil(13 / height);
    rows.forEach((row, r) => {
      const top = at.box.top + r * height, thick = height - (height > 8 ? 3 : 1);
      for (const step of row.steps) {
        let from = step.start;
        const sum = step.phases.reduce((a, b) => a + b, 0), scale = sum > step.seconds && sum ? step.seconds / sum : 1;
        step.phases.forEach((seconds, p) => {
          const wide = seconds * scale, waited = Math.min((step.waits[p] || 0) * scale, wide);
          if (wide > 0) cells.add(`var(--${phases[p]})`, at.x(from), top, at.x(from + wide) - at.x(from), thick);
          if (waited > 0) cells.add("var(--wait)", at.x(from + wide - waited), top + thick * 0.7, at.x(from + waited) - at.x(from), thick * 0.3);
          from += wide;
        });
      }
      if (r % every === 0) label(at.svg, at.box.left - 6, top + height / 2 + 4, String(row.rank), "end");
    });
    cells.put(at.svg);
    for (const step of rows[0].steps) draw(at.svg, "line", { x1: at.x(step.start), x2: at.x(step.start), y1: at.box.top, y2: at.box.bottom, "stroke-width": 1 }, "var(--ink)", "stroke");
    hover(at, readout, (seconds, y) => {
      const row = rows[Math.min(Math.max(Math.floor((y - at.box.top) / height), 0), rows.length - 1)];
      const step = row.steps.find((one) => seconds < one.start + one.seconds) || row.steps[row.steps.length - 1];
      return [[step.start, `${word("rank")} ${row.rank}, ${word("step")} ${step.step}: ` + step.phases.map((value, p) => value ? `${phaseWord(phases[p])} ${short(value)} s` : "").filter(Boolean).join(", ")]];
    });
    const used = phases.filter((phase, p) => rows.some((row) => row.steps.some((step) => step.phases[p] > 0)));
    const waits = rows.some((row) => row.steps.some((step) => step.waits.some((value) => value > 0)));
    body.append(legend(used.map((phase) => [phaseWord(phase), `var(--${phase})`]).concat(waits ? [[word("wait"), "var(--wait)"]] : [])));
  });
}

const LEVELS = [0.3, 0.5, 0.6, 0.68, 0.75, 0.82, 0.88, 0.92, 0.96];
function memoryMap(run) {
  const memory = run.memory, onHost = memory.of === "host/rss";
  const known = memory.rows.flat().filter((value) => value !== null);
  if (!known.length) return null;
  const most = Math.max(...known), limit = onHost || !memory.limit ? most : memory.limit;
  const level = (value) => { const part = value / limit; let at = 0; while (at < (onHost ? 7 : 9) && part >= LEVELS[at]) at++; return at; };
  const note = `${word(onHost ? "memoryRss" : "memoryPeak")}${onHost ? "; " + word("relative") : ""}`;
  return section("half", word("memory"), note, (body, readout) => {
    const drawn = heatMap(body, readout, { x: memory.step, rows: memory.rows, names: memory.rank.map(String), level, unit: word("step"), rowName: word("rank"), format: (value) => `${gib(value)}${value !== null && !onHost ? ` (${share(value / limit)})` : ""}`, name: word("memory") });
    const entries = LEVELS.slice(0, onHost ? 7 : 9).map((from, i) => [`≥ ${onHost ? gib(from * limit) : share(from)}`, `var(--h${i + 1})`]).filter((_, i) => i > 1);
    if (memory.planned) entries.push([`${word("plan")} ${gib(memory.planned)} (${share(memory.planned / limit)})`, "var(--plan)", true]);
    body.append(legend(entries));
    return drawn;
  });
}

function memoryCurve(run) {
  const memory = run.memory;
  const column = (pick) => memory.step.map((_, c) => { const values = memory.rows.map((row) => row[c]).filter((value) => value !== null).sort((a, b) => a - b); return values.length ? pick(values) / 2 ** 30 : null; });
  const series = [["highest", (v) => v[v.length - 1], 1], ["median", (v) => v[v.length >> 1], 0], ["lowest", (v) => v[0], 2]]
    .slice(0, memory.rows.length > 1 ? 3 : 1).map(([name, pick, colour]) => ({ name: word(name), x: memory.step, y: column(pick), colour: COLOURS[colour] }));
  if (!series[0].y.some((value) => value !== null)) return null;
  const lines = memory.planned ? [{ value: memory.planned / 2 ** 30, name: word("plan"), colour: "var(--plan)" }] : [];
  if (memory.limit && memory.of !== "host/rss") lines.push({ value: memory.limit / 2 ** 30, name: word("device"), colour: "var(--bad)" });
  return section("half", word("memoryCurve"), "GiB", (body, readout) => {
    const drawn = lineChart(body, readout, { series, lines, height: Math.min(Math.max(190, memory.rows.length * 18 + 32), 452), zero: memory.of !== "host/rss", unit: word("step"), name: word("memoryCurve") });
    body.append(legend(series.map((one) => [one.name, one.colour]).concat(lines.map((line) => [`${line.name} ${trim(line.value.toFixed(1))} GiB`, line.colour, true]))));
    return drawn;
  });
}

function bars(rows, options) {
  return (body) => {
    const width = Math.max(body.clientWidth || 300, 220), left = options.left || 92, right = options.right || 96, height = rows.length * 24 + 4;
    const svg = draw(body, "svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img" });
    const most = Math.max(...rows.map((row) => row.value), options.most || 1e-12);
    rows.forEach((row, i) => {
      const top = i * 24 + 3, scale = (width - left - right) / most;
      label(svg, left - 6, top + 13, row.name.length > 14 ? row.name.slice(0, 13) + "…" : row.name, "end");
      if (options.most) draw(svg, "rect", { x: left, y: top, width: width - left - right, height: 18, rx: 2 }, "var(--grid)");
      draw(svg, "rect", { x: left, y: top, width: Math.max(row.value * scale, 1), height: 18, rx: 2, opacity: row.inner === undefined ? 1 : 0.35 }, row.colour);
      if (row.inner !== undefined) draw(svg, "rect", { x: left, y: top, width: Math.max(row.inner * scale, 1), height: 18, rx: 2 }, row.inside);
      label(svg, (options.most ? width - right : left + row.value * scale) + 6, top + 13, row.text);
    });
  };
}

function communication(run) {
  const rows = run.nodes.filter((node) => node["communication/total_us"] !== null);
  if (!rows.length) return null;
  const step = (run.seconds_per_step || run.seconds || 0) * 1e6, exact = run.communication.window_step;
  const part = (value) => step ? share(value / step) : short(value / 1e3) + " ms";
  const note = `${word("ofStep")}; ${exact ? `${word("window")} ${exact}, ` : ""}${word("estimate")}`;
  return section("half", word("communication"), note, (body) => {
    bars(rows.map((node) => ({ name: node.host, value: node["communication/total_us"], inner: node["communication/exposed_us"] || 0, colour: "var(--c0)", inside: "var(--c1)", text: `${part(node["communication/total_us"])} / ${part(node["communication/exposed_us"])}` })), { most: step })(body);
    body.append(legend([[word("total"), "color-mix(in srgb, var(--c0) 35%, transparent)"], [word("exposed"), "var(--c1)"]]));
  });
}

function exposedOverRun(run) {
  const lists = run.communication;
  if (!lists.exposed_us.length || !lists.exposed_us.some((row) => row.some((value) => value !== null))) return null;
  const series = lists.host.slice(0, 8).map((host, i) => ({ name: host, x: lists.step, y: lists.exposed_us[i].map((value) => value === null ? null : value / 1e3), colour: COLOURS[i] }));
  return section("half", word("exposedTitle"), "ms / " + word("step"), (body, readout) => {
    const drawn = lineChart(body, readout, { series, zero: true, unit: word("step"), name: word("exposed") });
    body.append(legend(series.map((one) => [one.name, one.colour])));
    return drawn;
  });
}

function slowest(run) {
  if (!run.slowest.length) return null;
  const behind = run.slowest.filter((row) => row.excess > 0.005);
  return section("half", word("slowest"), word("excess"), (body) => {
    if (!behind.length) { body.append(make("p", { class: "empty" }, word("even"))); return; }
    bars(behind.map((row) => ({ name: `${word("rank")} ${row.rank}`, value: row.excess, colour: `var(--${row.phase})`, text: `+${share(row.excess)} ${phaseWord(row.phase)}` })), { left: 66, right: 132, most: 0.1 })(body); // a bar that fills its track is 10 % of a step, or the worst
  });
}

function tableOf(heads, rows, kind) {
  const table = make("table", { class: kind || null }, make("thead", {}, make("tr", {}, ...heads.map(([name, side]) => make("th", { class: side || null }, name)))), make("tbody", {}, ...rows));
  return make("div", { class: "scroll" }, table);
}

function nodesTable(run) {
  if (!run.nodes.length) return null;
  return section("half", word("nodesTitle"), "", (body) => body.append(tableOf(
    [[word("node"), "left"], [word("ranks")], [word("memoryShort")], [word("hostMemory")], [word("sent")], [word("nic")]],
    run.nodes.map((node) => make("tr", { class: node.bad ? "dead" : "" }, make("td", { class: "left" }, node.host), make("td", {}, `${node.alive}/${node.ranks.length}`), make("td", {}, gib(node[run.memory.of])),
      make("td", {}, node["host/used"] === null ? "–" : `${gib(node["host/used"])} / ${gib(node["host/total"])}`), make("td", {}, node["communication/sent_bytes"] === null ? "–" : (node["communication/coverage"] < 1 ? "≈ " : "") + short(node["communication/sent_bytes"]) + "B"),
      make("td", {}, node["io/nic_in"] === null ? "–" : `${rate(node["io/nic_in"])} / ${rate(node["io/nic_out"])}`))))));
}

const WELL = ["running", "starting", "finished"]; // what is not well stands first
function ranksTable(run) {
  if (!run.ranks.length) return null;
  const cell = (text, kind) => make("td", { class: kind || null }, text);
  return section("", word("table"), "", (body) => body.append(tableOf(
    [[word("rank")], [word("host"), "left"], [word("state"), "left"], [word("phase"), "left"], [word("step")], [word("seconds")], [word("memoryShort")], [word("utilisation")], [word("power")], [word("temperature")], [word("throttle"), "left"], [word("skew")], [word("heartbeat")]],
    run.ranks.slice().sort((one, other) => WELL.includes(one.state) - WELL.includes(other.state)).map((rank) => make("tr", { class: rank.state, "data-rank": rank.rank }, cell(String(rank.rank)), cell(rank.host, "left"),
      cell(rank.state === "dead" ? `${word("deadSince")} ${moment(rank.last_seen)}` : word(rank.state), "left state"), cell(phaseWord(rank.phase), "left"), cell(String(rank.step)), cell(rank.seconds === null ? "–" : short(rank.seconds) + " s"),
      cell(gib(rank[run.memory.of])), cell(rank["gpu/utilisation"] === null ? "–" : `${short(rank["gpu/utilisation"])} %`), cell(rank["gpu/power"] === null ? "–" : `${Math.round(rank["gpu/power"])} W`),
      cell(rank["gpu/temperature"] === null ? "–" : `${Math.round(rank["gpu/temperature"])} °C`), cell(rank.throttle.join(", "), rank.throttle.length ? "left hot" : "left"),
      cell(rank["communication/skew_us"] === null ? "–" : short(rank["communication/skew_us"] / 1e3) + " ms"), cell(rank.silent_seconds === null ? "–" : `${duration(rank.silent_seconds)} ${word("ago")}`))))));
}

function alertsSection(run) {
  return section("", word("alerts"), "", (body) => {
    if (!run.alerts.length) { body.append(make("p", { class: "empty" }, word("noAlerts"))); return; }
    body.append(tableOf([[word("time"), "left"], [word("step")], [word("kind"), "left"], [word("rank")], [word("host"), "left"], [word("message"), "left"]], run.alerts.map((alert) => make("tr", { class: alert.severity === "critical" ? "critical" : "warning" },
      make("td", { class: "left" }, moment(alert.time)), make("td", {}, String(alert.step ?? "")), make("td", { class: "left kind" }, word(alert.kind)), make("td", {}, String(alert.rank ?? "")), make("td", { class: "left" }, alert.host ?? ""), make("td", { class: "left wide" }, alert.message ?? ""))), "alerts"));
  });
}

function dataSection(run) {
  const counted = run.data.counted, total = run.data.ledger.total || {};
  const rows = ["tokens", "targets", "fillers"].map((name) => [word(name), `${counted.exact ? "" : word("about") + " "}${counted[name].toLocaleString("en")}`]);
  for (const [name, value] of Object.entries(total)) if (typeof value === "number") rows.push([`ledger: ${name.replaceAll("_", " ")}`, value.toLocaleString("en")]);
  return section("half", word("data"), "", (body) => body.append(tableOf([], rows.map(([name, value]) => make("tr", {}, make("td", { class: "left wide" }, name), make("td", {}, value))))));
}

function checkpointsSection(run) {
  if (!run.checkpoints.length) return null;
  return section("half", word("checkpoints"), "", (body) => body.append(tableOf([[word("step")], [word("time"), "left"], [word("seconds")], ["", "left"]],
    run.checkpoints.slice().reverse().slice(0, 10).map((one) => make("tr", {}, make("td", {}, String(one.step ?? "")), make("td", { class: "left" }, moment(one.time)), make("td", {}, one.seconds === undefined ? "–" : duration(one.seconds)), make("td", { class: "left wide" }, one.path ?? ""))))));
}
