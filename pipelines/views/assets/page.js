"use strict";
// Draws a page from its contents (`contents.py`) and its charts (`charts.py`). Texts of others are set as text, never
// as HTML, and expressions in charts are interpreted, not compiled: nothing that is shown can run.
(() => {
  const element = (id) => document.getElementById(id);
  const charts = JSON.parse(element("charts").textContent);
  const live = document.body.dataset.live === "yes";
  const MOST_IN_SVG = 300;  // windows
  let contents = null;
  let views = [];

  const add = (parent, tag, text, more = {}) => {
    const made = document.createElement(tag);
    if (text !== undefined && text !== null) made.textContent = text;
    Object.entries(more).forEach(([name, value]) => made.setAttribute(name, value));
    parent.append(made);
    return made;
  };
  const clear = (node) => { node.replaceChildren(); return node; };
  const iso = (at) => new Date(at).toISOString().replace(/\.000Z$/, "Z").replace("T", " ").replace("Z", "");
  const span = (a, b) => (a === null ? "all of the data" : `${iso(a)} to ${iso(b)} UTC`);
  const figure = (value, digits = 4) => (value === null || value === undefined ? "–"
    : value !== 0 && (Math.abs(value) < 1e-4 || Math.abs(value) >= 1e9) ? value.toExponential(2)
    : value.toLocaleString("en-US", {maximumSignificantDigits: digits}));
  // To so many digits after the point, which tell such numbers apart.
  const placed = (value, places) => (value === null || value === undefined || places === null ? figure(value)
    : value.toLocaleString("en-US", {minimumFractionDigits: places, maximumFractionDigits: places}));
  const share = (value, sign = false) => (value === null || value === undefined ? "–"
    : `${sign && value > 0 ? "+" : ""}${(100 * value).toLocaleString("en-US", {maximumSignificantDigits: 3})} %`);

  // Columns of equal length -> rows.
  const rows = (columns) => {
    const names = Object.keys(columns).filter((name) => columns[name].length);
    const n = names.length ? columns[names[0]].length : 0;
    return Array.from({length: n}, (_, i) => Object.fromEntries(names.map((name) => [name, columns[name][i]])));
  };

  const far_off = (all, gone, centers) => {
    const weight = (those) => those.reduce((sum, one) => sum + one.weight, 0);
    const said = [
      ...(gone.length ? [`${gone.length.toLocaleString("en-US")} of these rows (${share(weight(gone) / weight(all))} of their weight)`] : []),
      ...(centers ? [`${centers} center${centers > 1 ? "s" : ""}`] : []),
    ];
    return said.length ? ` Far off and not drawn: ${said.join(" and ")}.` : "";
  };

  const of_points = (now, x, y) => {
    const {points, centers} = now;
    const sampled = points.id.map((id, i) => ({
      id, weight: points.weight[i], cluster: points.cluster.length ? points.cluster[i] : null,
      x: points[`a${x}`][i], y: points[`a${y}`][i],
    }));
    const found = centers.name.map((name, i) => ({
      name, share: centers.share[i], row: centers.row[i], x: centers[`a${x}`][i], y: centers[`a${y}`][i],
    }));
    // What is far off from nearly everything else is left out of the picture, unless somebody wants to see it.
    const near = (value, ends) => ends === null || (value >= ends[0] && value <= ends[1]);
    const drawn = (one) => element("far").checked || (near(one.x, now.bulk[x]) && near(one.y, now.bulk[y]));
    const centers_drawn = found.filter(drawn);
    return {
      points: sampled.filter(drawn), centers: centers_drawn,
      named: centers_drawn.length <= 40 ? centers_drawn : centers_drawn.slice(0, 12),
      far: far_off(sampled, sampled.filter((one) => !drawn(one)), found.length - centers_drawn.length),
      clusters: [...new Set(points.cluster)].sort((a, b) => a - b),
    };
  };

  // A figure of each window, with an empty row in each gap, which breaks lines.
  const of_series = (series, names) => {
    const {windows, gaps} = contents;
    const drifted = new Set(series.drifted);
    const found = series.at.map((w, i) => ({
      end: windows.end[w], when: span(windows.start[w], windows.end[w]), drifted: drifted.has(i),
      ...Object.fromEntries(names.filter((name) => series[name]).map((name) => [name, series[name][i]])),
    }));
    gaps.start.forEach((start, i) => found.push({end: (start + gaps.end[i]) / 2}));
    return found.sort((a, b) => a.end - b.end);
  };

  const of_shards = () => {
    const {windows, missing, gaps} = contents;
    const most = Math.max(1, ...windows.shards.map((s) => s || 0));
    const edges = [windows.start[0], ...gaps.end].map((start, i) => ({
      start, end: i < gaps.start.length ? gaps.start[i] : Math.max(...windows.end), low: -0.5, high: most - 0.5,
    }));
    return {spans: edges, missing: rows(missing).map((run) => ({
      ...run, start: run.from, end: run.to, low: run.shard - 0.5, high: run.shard + 0.5, when: span(run.from, run.to),
    }))};
  };

  const of_events = (key) => rows(contents.events)
    .filter((event) => event.key === null || event.key === key)
    .map((event) => ({...event, when: iso(event.at) + " UTC"}));

  const data_of = (key, now, x, y) => {
    const {windows, gaps} = contents;
    const series = contents.series[key];
    const timed = windows.start.length && windows.start[0] !== null;
    const data = {...of_points(now, x, y), letters: rows(contents.letters)};
    const name = contents.keys[key];
    data.curve = contents.curve.k ? rows(contents.curve).filter((row) => name.endsWith(row.key ? `, key ${row.key}` : "")) : [];
    if (!timed) return data;
    return Object.assign(data, of_shards(), {
      cost: of_series(series, ["cost", "cost_low", "cost_high"]),
      drift: of_series(series, ["excess", "excess_low", "excess_high", "moved", "moved_low", "moved_high"]),
      events: of_events(key),
      windows: rows(windows).map((w) => ({...w, when: span(w.start, w.end), answered: `${w.answered} of ${w.shards}`})),
      gaps: rows(gaps).map((gap) => ({...gap, when: span(gap.start, gap.end)})),
      deadline: contents.deadline ? [{seconds: contents.deadline, label: `deadline ${contents.deadline} s`}] : [],
    });
  };

  // Which charts have something to show.
  const shown = (name, data, timed, series) => ({
    points: data.points.length > 0, cost: timed && series.cost, moved: timed && series.moved,
    excess: timed && series.excess, events: timed && data.events.length > 0, coverage: timed, shards: timed,
    lag: timed && contents.windows.lag.some((lag) => lag !== null), letters: data.letters.length > 0,
    curve: data.curve.length > 1,
  })[name];

  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const config = () => {
    const [text, faint, line, mark, strong] = ["--text", "--faint", "--line", "--mark", "--strong"].map(style);
    const palette = style("--palette").split(" ");
    return {
      background: "transparent", view: {stroke: null},
      font: "system-ui, sans-serif",
      axis: {labelColor: faint, titleColor: text, gridColor: line, domainColor: line, tickColor: line,
             titleFontWeight: "normal", labelOverlap: true, titlePadding: 8},
      axisY: {minExtent: 46},
      legend: {labelColor: text, titleColor: text},
      range: {category: palette, faults: [style("--critical"), style("--warning"), ...palette],
              severity: [faint, style("--warning"), style("--critical")]},
      style: {
        sampled: {opacity: 0.55, color: mark}, center: {color: strong, stroke: strong, strokeWidth: 2.5, size: 90},
        name: {color: text, fontSize: 11}, interval: {color: mark, opacity: 0.25}, ends: {color: mark, opacity: 0.4, strokeWidth: 1}, estimate: {color: mark, strokeWidth: 1.5},
        drifted: {color: style("--warning"), size: 70}, touched: {color: mark, size: contents.windows.end.length > MOST_IN_SVG ? 5 : 20},
        event: {size: 55}, answered: {color: mark, opacity: 0.7}, there: {color: mark, opacity: 0.18},
        missing: {strokeWidth: 1}, dot: {color: mark, size: 18}, deadline: {color: style("--warning"), strokeDash: [4, 3]},
        letter: {color: mark}, gap: {color: line, opacity: 0.9},
      },
    };
  };

  const each_part = (node, change) => {
    if (Array.isArray(node)) node.forEach((part) => each_part(part, change));
    else if (node && typeof node === "object") { change(node); Object.values(node).forEach((part) => each_part(part, change)); }
  };

  // Units of the same length on both axes: the narrower axis is widened.
  const equal_scales = (spec, data, width, height, stretch) => {
    const both = [...data.points, ...data.centers];
    const ends = (name) => both.reduce(([a, b], p) => [Math.min(a, p[name]), Math.max(b, p[name])], [Infinity, -Infinity]);
    const [x, y] = ["x", "y"].map(ends).map(([a, b]) => [a - (b - a || 1) * 0.04, b + (b - a || 1) * 0.04]);
    const unit = Math.max((x[1] - x[0]) / width, (y[1] - y[0]) / stretch / height);
    const widened = ([a, b], length) => [(a + b - length) / 2, (a + b + length) / 2];
    const domains = {x: widened(x, unit * width), y: widened(y, unit * stretch * height)};
    each_part(spec, (part) => {
      if ((part.field === "x" || part.field === "y") && part.scale) part.scale = {...part.scale, domain: domains[part.field]};
    });
  };

  const prepared = (name, data, now, x, y, width) => {
    const spec = structuredClone(charts[name]);
    if (name === "points") {
      each_part(spec, (part) => {
        if (part.title === "x" && part.field === "x") part.title = now.axes[x];
        if (part.title === "y" && part.field === "y") part.title = now.axes[y];
      });
      if (!now.points.cluster.length) delete spec.layer[0].encoding.color;
      else spec.layer[0].encoding.color.scale = {domain: data.clusters};
      const principal = now.explained.length > 0 && Math.min(x, y) >= now.axes.length - 2;
      const on_map = now.map && x === now.x && y === now.y;
      const middle = on_map ? data.points.reduce((sum, p) => sum + p.y, 0) / data.points.length : 0;
      if (principal || on_map) equal_scales(spec, data, Math.max(100, width - 80), spec.height - 50, Math.cos(middle * Math.PI / 180));
    }
    if (name === "shards") spec.height = 80 + Math.max(40, Math.min(400, 9 * Math.max(...contents.windows.shards)));
    if (name === "events") spec.height = 80 + 24 * new Set(data.events.map((event) => event.kind)).size;
    if (name === "letters") spec.height = 60 + 24 * data.letters.length;
    const used = new Set();
    each_part(spec, (part) => { if (part.data && part.data.name) used.add(part.data.name); });
    spec.datasets = Object.fromEntries([...used].map((one) => [one, data[one] || []]));
    return spec;
  };

  const draw = async () => {
    const key = Number(element("key").value || 0);
    const now = contents.latest[key];
    const [x, y] = ["x-axis", "y-axis"].map((id) => Number(element(id).value));
    const timed = contents.windows.start.length > 0 && contents.windows.start[0] !== null;
    element("far-off").hidden = now.bulk[x] === null && now.bulk[y] === null;
    const data = data_of(key, now, x, y);
    views.forEach((view) => view.finalize());
    views = [];
    for (const name of Object.keys(charts)) {
      const section = element(`section-${name}`);
      section.hidden = !shown(name, data, timed, contents.series[key]);
      if (section.hidden) continue;
      const place = clear(element(`chart-${name}`));
      const text = (contents.alternatives[key][{moved: "drift", excess: "drift", coverage: "shards"}[name] || name] || "") + (name === "points" ? data.far : "");
      element(`text-${name}`).textContent = text;
      const spec = prepared(name, data, now, x, y, place.clientWidth);
      const compiled = vegaLite.compile(spec, {config: config()}).spec;
      if (timed) {  // all charts show the same time
        const period = [Math.min(...contents.windows.start), Math.max(...contents.windows.end)];
        (compiled.scales || []).filter((scale) => scale.type === "utc").forEach((scale) => { scale.domain = period; });
      }
      const view = new vega.View(vega.parse(compiled, null, {ast: true}), {
        expr: vegaInterpreter.expressionInterpreter, renderer: name === "points" || contents.windows.end.length > MOST_IN_SVG ? "canvas" : "svg", container: place,
        hover: false,
      });
      view.tooltip((_, event, item, value) => tip(event, value));
      views.push(view);
      await view.runAsync();
      place.firstElementChild.setAttribute("aria-hidden", "true");  // the place itself says what it shows
      place.setAttribute("role", "img");
      place.setAttribute("aria-label", text);
      await new Promise((go) => { requestAnimationFrame(() => setTimeout(go)); setTimeout(go, 100); });  // it is shown
    }
    document.body.dataset.drawn = String(Number(document.body.dataset.drawn || 0) + 1);
  };

  // What the pointer is on.
  const tip = (event, value) => {
    const box = element("tip");
    if (!value || !event) { box.hidden = true; return; }
    clear(box);
    const pairs = typeof value === "object" ? Object.entries(value) : [["", value]];
    pairs.forEach(([name, text]) => {
      const line = add(box, "div");
      add(line, "b", name ? `${name}: ` : "");
      add(line, "span", String(text));
    });
    box.hidden = false;
    const left = Math.min(event.clientX + 12, window.innerWidth - box.offsetWidth - 8);
    box.style.left = `${Math.max(4, left)}px`;
    box.style.top = `${Math.min(event.clientY + 12, window.innerHeight - box.offsetHeight - 8)}px`;
  };

  const lines = (id, texts) => { const list = clear(element(id)); texts.forEach((text) => add(list, "li", text)); };

  const table = (id, heads, body) => {
    const made = clear(element(id));
    const top = add(add(made, "thead"), "tr");
    heads.forEach(([name, kind]) => add(top, "th", name, {scope: "col", class: kind}));
    const rest = add(made, "tbody");
    body.forEach((cells) => {
      const line = add(rest, "tr");
      cells.forEach((text, i) => add(line, i ? "td" : "th", text, i ? {class: heads[i][1]} : {scope: "row", class: heads[i][1]}));
    });
  };

  const with_ends = (value, low, high, places) => (value === null || value === undefined ? "–"
    : low === high || low === null ? placed(value, places)
    : `${placed(value, places)} (${placed(low, places)} to ${placed(high, places)})`);

  const words = () => {
    const key = Number(element("key").value || 0);
    const now = contents.latest[key];
    element("title").textContent = contents.folder;
    element("when").textContent = span(now.start, now.end);
    const badge = element("badge");
    const state = now.degraded ? "degraded" : now.coverage === 1 ? "whole" : "incomplete";
    badge.textContent = `${state}: coverage ${share(now.coverage)}`;
    badge.className = `badge ${state}`;
    const answers = clear(element("answer"));
    now.answer.forEach(([name, text]) => { add(answers, "dt", name); add(answers, "dd", text); });
    lines("certificate", now.certificate);
    lines("limits", now.limits);
    lines("notes", contents.notes);
    element("section-notes").hidden = !contents.notes.length;
    const {centers} = now;
    const several = now.names.slice(0, 6);
    table("centers", [["center", "name"], ["share", "number"], ["change", "number"], ["shift", "number"],
      ["weight", "number"], ["nearest row", "name"], ...several.map((name) => [name, "number"])],
    centers.name.map((name, i) => [name, share(centers.share[i]), share(centers.change[i], true),
      figure(centers.shift[i], 3), figure(centers.weight[i]), centers.row[i] || "–",
      ...several.map((_, j) => placed(centers.place[i][j], now.places[j]))]));
    element("section-centers").hidden = !centers.name.length;
    const {bounds} = now;
    element("section-bounds").hidden = !bounds.said;
    element("text-bounds").textContent = (bounds.said || []).join(" ");
    const of = (i) => (value, sign) => (bounds.share[i] ? share(value, sign) : `${sign && value > 0 ? "+" : ""}${figure(value)}`);
    table("bounds", [["center", "name"], ["state", "name"], ["constraint", "name"], ["bound", "number"], ["has", "number"],
      ["room", "number"]],
    (bounds.cluster || []).map((name, i) => [name, bounds.state[i], bounds.name[i], `${bounds.side[i]} ${of(i)(bounds.bound[i])}`,
      of(i)(bounds.held[i]), of(i)(bounds.room[i], true)]));
    element("bounds").hidden = !(bounds.cluster || []).length;
    element("bounds").querySelectorAll("tbody tr").forEach((line, i) => { line.dataset.state = bounds.state[i]; });
    const {marginals} = now;
    element("section-columns").hidden = !(marginals.name || []).length;
    if (marginals.name) {
      const figures = ["mean", "deviation", "p05", "p25", "p50", "p75", "p95"];
      table("columns", [["column", "name"], ["mean", "number"], ["deviation", "number"], ["5 %", "number"],
        ["25 %", "number"], ["median", "number"], ["75 %", "number"], ["95 %", "number"]],
      marginals.name.map((name, i) => [name, ...figures.map((f) => with_ends(marginals[f][i], marginals[`${f}_low`][i], marginals[`${f}_high`][i], marginals.places[i]))]));
    }
    element("written").textContent = `beam-coresets ${contents.version}, ${iso(contents.written)} UTC`;
  };

  const options = (id, names, chosen) => {
    const node = clear(element(id));
    names.forEach((name, i) => { const option = add(node, "option", name === "" ? "(no key)" : name, {value: i}); option.selected = i === chosen; });
  };

  const axes = () => {
    const now = contents.latest[Number(element("key").value || 0)];
    options("x-axis", now.axes, now.x);
    options("y-axis", now.axes, now.y);
    element("axes").hidden = now.axes.length < 2;
  };

  // New contents: what was chosen stays chosen.
  const show = async (found) => {
    const before = contents === null ? null
      : {key: contents.keys[Number(element("key").value)], x: element("x-axis").value, y: element("y-axis").value,
         axes: contents.latest[Number(element("key").value)].axes.join("\n")};
    contents = found;
    const key = before === null ? contents.first : Math.max(0, contents.keys.indexOf(before.key));
    options("key", contents.keys, key);
    element("keys").hidden = contents.keys.length < 2;
    axes();
    if (before !== null && before.axes === contents.latest[key].axes.join("\n")) {
      element("x-axis").value = before.x;
      element("y-axis").value = before.y;
    }
    words();
    await draw();
  };

  const inflated = async (text) => {
    const raw = atob(text), bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i += 1) bytes[i] = raw.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  };

  const problem = (text) => { const box = element("problem"); box.hidden = !text; box.textContent = text; };

  const token = new URLSearchParams(window.location.search).get("token");
  const address = (path) => (token === null ? path : `${path}?token=${encodeURIComponent(token)}`);
  const refresh = async () => {
    try {
      const answer = await fetch(address("contents.json"));
      if (!answer.ok) { problem(await answer.text()); return; }
      problem("");
      document.body.classList.remove("empty");
      await show(await answer.json());
    } catch (error) {
      problem(`The page can't be brought up to date: ${error.message}`);
    }
  };

  const start = async () => {
    element("key").addEventListener("change", () => { axes(); words(); draw(); });
    ["x-axis", "y-axis", "far"].forEach((id) => element(id).addEventListener("change", draw));
    let width = window.innerWidth, waiting = null;
    window.addEventListener("resize", () => {
      if (width === window.innerWidth) return;
      width = window.innerWidth;
      clearTimeout(waiting);
      waiting = setTimeout(() => { if (contents) draw(); }, 150);
    });
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (contents) draw(); });
    const held = element("contents").textContent;
    if (held) { document.body.classList.remove("empty"); await show(await inflated(held)); }
    if (live) {
      let busy = false, again = false;
      const update = async () => {
        if (busy) { again = true; return; }
        busy = true;
        do { again = false; await refresh(); } while (again);
        busy = false;
      };
      const stream = new EventSource(address("changes"));
      stream.addEventListener("open", update);
      stream.addEventListener("change", update);
      stream.addEventListener("error", () => problem("The server is away; the page goes on when it is back."));
    }
  };
  start().catch((error) => { problem(`The page can't be shown: ${error.message}`); throw error; });
})();
