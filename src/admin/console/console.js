// The console. Everything it shows comes from one stream, /v1/events: the status, and the metrics as
// Prometheus gets them. Rates are differences between two looks. What an operator types goes out in
// bodies of requests and is kept nowhere.
"use strict";
(() => {
  const PREFIX = "flameup_gateway_";
  const KEPT = 300; // Looks, one a second: five minutes.
  const RECENT = 10; // Looks that a tile sums up.
  const TOKEN = "flameup-gateway.token"; // In storage that ends with the tab.
  const RETRY_MS = 1000;
  const $ = (id) => document.getElementById(id);
  const text = (id, value) => { const at = $(id); if (at.textContent !== value) at.textContent = value; };

  const looks = []; // { at, samples, status }
  const plots = {};
  let stream = null;

  // ---- metrics -------------------------------------------------------------------------------

  const LINE = /^([a-zA-Z_:][\w:]*)(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})? (\S+)/; // What follows is an example.
  const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

  function parse(metrics) {
    const samples = new Map();
    for (const line of metrics.split("\n")) {
      const found = line.startsWith("#") ? null : LINE.exec(line);
      if (!found || !found[1].startsWith(PREFIX)) continue;
      const labels = {};
      for (const [, name, value] of (found[2] || "").matchAll(LABEL)) labels[name] = value;
      const name = found[1].slice(PREFIX.length);
      if (!samples.has(name)) samples.set(name, []);
      samples.get(name).push({ labels, value: Number(found[3]) });
    }
    return samples;
  }

  const chosen = (look, name, choose) => (look.samples.get(name) || []).filter((one) => choose(one.labels));
  const sum = (look, name, choose = () => true) =>
    chosen(look, name, choose).reduce((all, one) => all + one.value, 0);
  // What was counted between two looks.
  const grown = (from, to, name, choose) => Math.max(0, sum(to, name, choose) - sum(from, name, choose));

  // The value that so large a share of what was observed between two looks lies below.
  function quantile(from, to, name, share, choose = () => true) {
    const buckets = new Map();
    const add = (look, sign) => {
      for (const { labels, value } of chosen(look, `${name}_bucket`, choose)) {
        const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
        buckets.set(bound, (buckets.get(bound) || 0) + sign * value);
      }
    };
    add(to, 1);
    add(from, -1);
    const bounds = [...buckets.keys()].sort((one, other) => one - other);
    const all = bounds.length ? buckets.get(bounds[bounds.length - 1]) : 0;
    if (!(all > 0)) return null;
    let [below, count] = [0, 0];
    for (const bound of bounds) {
      const here = buckets.get(bound);
      if (here >= share * all) {
        if (bound === Infinity) return below;
        return below + (bound - below) * ((share * all - count) / Math.max(1, here - count));
      }
      [below, count] = [bound, here];
    }
    return below;
  }

  const ROUTES = new Set(["person", "person_by_uuid"]);
  const LOOKUP = (labels) => ROUTES.has(labels.route);
  const outcome = (...words) => (labels) => LOOKUP(labels) && words.includes(labels.cache);
  const OUTCOMES = [
    ["hit", ["hit", "negative"], "#1a9e63"],
    ["stale", ["stale"], "#e0a100"],
    ["asked", ["miss", "revalidated", "none"], "#3b82f6"],
    ["joined", ["collapsed"], "#8b5cf6"],
    ["failed", ["failed"], "#e5484d"],
  ];

  // ---- words -----------------------------------------------------------------------------------

  const number = (value, digits = 0) => value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: digits });
  const share = (part, all) => (all > 0 ? `${number((100 * part) / all, 1)} %` : "–");
  const seconds = (value) => {
    if (value === null || value === undefined) return "–";
    if (value < 0.001) return `${number(value * 1e6)} µs`;
    if (value < 1) return `${number(value * 1e3)} ms`;
    if (value < 120) return `${number(value, value < 10 ? 1 : 0)} s`;
    return value < 7200 ? `${number(value / 60)} min` : `${number(value / 3600, 1)} h`;
  };
  const bytes = (value) => (value < 1 << 20 ? `${number(value / 1024)} KiB` : `${number(value / (1 << 20), 1)} MiB`);

  function rows(id, lines) {
    const body = $(id);
    body.replaceChildren(...lines.map((cells) => {
      const row = document.createElement("tr");
      row.append(...cells.map((cell) => {
        const at = document.createElement("td");
        if (cell instanceof Node) at.append(cell);
        else if (typeof cell === "object") { at.textContent = cell.text; at.className = cell.kind; }
        else at.textContent = cell;
        return at;
      }));
      return row;
    }));
    const empty = $(`${id}-empty`);
    if (empty) empty.hidden = lines.length > 0;
  }
  const n = (value) => ({ text: value, kind: "n" });

  // ---- what is shown -----------------------------------------------------------------------------

  function show() {
    const now = looks[looks.length - 1];
    const before = looks[Math.max(0, looks.length - 1 - RECENT)];
    const { status } = now;
    text("version", status.version);
    text("uptime", `up ${seconds(status.uptime_s)}, serving ${status.listeners.join(", ")}`);
    state(status.draining ? "draining" : "live", status.draining ? "draining" : "live");
    tiles(before, now);
    workspaces(status);
    shared(before, now);
    spending(looks[Math.max(0, looks.length - 61)], now);
    memory(status);
    draw();
  }

  function tiles(before, now) {
    const elapsed = (now.at - before.at) / 1000;
    const lookups = grown(before, now, "requests_total", LOOKUP);
    const hits = grown(before, now, "requests_total", outcome("hit", "negative", "stale"));
    const stale = grown(before, now, "requests_total", outcome("stale"));
    const ever = sum(now, "requests_total", LOOKUP);
    text("lookups", elapsed > 0 ? number(lookups / elapsed, lookups / elapsed < 100 ? 1 : 0) : "–");
    text("lookups-note", ever ? `${number(ever)} since the start` : "none yet");
    text("ratio", share(hits, lookups));
    text("ratio-note", lookups ? `${share(stale, lookups)} of lookups stale` : "no lookups just now");
    text("age", seconds(quantile(before, now, "served_age_seconds", 0.99)));
    const half = quantile(before, now, "served_age_seconds", 0.5);
    text("age-note", half === null ? "nothing served from memory just now" : `99 of 100 younger; half below ${seconds(half)}`);
    text("upstream", seconds(quantile(before, now, "upstream_duration_seconds", 0.95)));
    const asked = grown(before, now, "upstream_requests_total");
    text("upstream-note", asked ? `95 of 100; ${number(asked)} requests just now` : "nothing asked just now");
    const requests = grown(before, now, "requests_total");
    const away = grown(before, now, "requests_total", ({ status }) => status === "429" || status === "503");
    text("shed", share(away, requests));
    text("shed-note", requests ? `${number(away)} of ${number(requests)} just now` : "no requests just now");
    text("people", number(now.status.cache.people.entries));
    text("people-note", `and ${number(now.status.cache.absences.entries)} remembered absences`);
  }

  function workspaces(status) {
    rows("workspaces", status.workspaces.map(({ name, budget, waiting, breaker, breaker_probes_in_s, key }) => {
      const gauge = document.createElement("meter");
      Object.assign(gauge, { min: 0, max: budget.limit, low: budget.limit * 0.1, optimum: budget.limit, value: budget.remaining });
      gauge.setAttribute("aria-label", `Budget left of ${name}`);
      const probes = breaker_probes_in_s === undefined ? "" : `, tried in ${seconds(breaker_probes_in_s)}`;
      return [
        name, gauge, n(`${number(budget.remaining)} of ${number(budget.limit)}`),
        n(budget.reset_in_s === null ? "unknown" : `in ${seconds(budget.reset_in_s)}`),
        n(number(budget.foreign)), n(number(waiting)),
        { text: { closed: "well", open: "left alone", half_open: "being tried" }[breaker] + probes, kind: breaker === "closed" ? "good" : "bad" },
        { text: key, kind: key === "accepted" ? "good" : "bad" },
      ];
    }));
    const select = $("workspace");
    const names = status.workspaces.map(({ name }) => name);
    if (names.join() !== [...select.options].map((option) => option.value).join()) {
      select.replaceChildren(...names.map((name) => new Option(name, name)));
    }
  }

  function shared(before, now) {
    const { redis } = now.status;
    $("redis").hidden = !redis;
    if (!redis) return;
    const found = grown(before, now, "redis_tier_total", ({ result }) => result === "hit" || result === "negative");
    const asked = grown(before, now, "redis_tier_total");
    const slow = quantile(before, now, "redis_call_duration_seconds", 0.99);
    const reached = redis.reached ? "Redis is reached" : `Redis is not reached, and ${redis.breaker === "closed" ? "asked all the same" : "left alone for a moment"}`;
    text("redis-note", `${reached}. ${asked ? `It had ${number(found)} of ${number(asked)} people asked for just now` : "Nobody was asked for just now"}${slow === null ? "" : `; 99 of 100 calls took less than ${seconds(slow)}`}.`);
    rows("shared", redis.workspaces.map(({ name, budget, leased, gateways, suspect, behind_ms, replicas }) => [
      name,
      { text: budget === "leased" ? "common" : "a share of its own", kind: budget === "leased" ? "good" : "bad" },
      n(number(leased)), n(number(gateways)),
      { text: suspect ? "may have been missed" : replicas.length === 1 ? "told to 1 other" : `told to ${number(replicas.length)} others`, kind: suspect ? "bad" : "good" },
      n(seconds(behind_ms / 1000)),
    ]));
  }

  function spending(before, now) {
    const lines = chosen(now, "budget_spent_total", () => true).map(({ labels, value }) => {
      const same = (other) => ["workspace", "client", "purpose"].every((label) => other[label] === labels[label]);
      return [labels, grown(before, now, "budget_spent_total", same), value];
    });
    lines.sort((one, other) => other[1] - one[1] || other[2] - one[2]);
    rows("spending", lines.slice(0, 12).map(([labels, recent, all]) => [labels.client, labels.purpose, n(number(recent)), n(number(all))]));
    const classes = [...new Set(chosen(now, "budget_wait_seconds_count", () => true).map(({ labels }) => labels.class))];
    rows("waits", classes.map((word) => {
      const same = (labels) => labels.class === word;
      return [word, n(number(grown(before, now, "budget_wait_seconds_count", same))), n(seconds(quantile(before, now, "budget_wait_seconds", 0.95, same)))];
    }));
  }

  function memory({ cache }) {
    const used = cache.people.bytes + cache.absences.bytes;
    text("age-bound", `; fresh up to ${seconds(cache.ttl_s)}, never older than ${seconds(cache.max_age_s)}`);
    $("memory").value = cache.max_bytes ? used / cache.max_bytes : 0;
    text("memory-note", `${bytes(used)} of ${bytes(cache.max_bytes)}`);
  }

  // ---- plots -------------------------------------------------------------------------------------

  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function plot(id, series, unit) {
    const axis = { stroke: () => color("--soft"), grid: { stroke: () => color("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    const at = $(id);
    const options = {
      width: at.clientWidth || 400, height: Math.max(120, at.clientHeight - 32),
      cursor: { drag: { x: false, y: false } },
      scales: { y: { range: (_, low, high) => [0, Math.max(1, high || 0) * 1.08] } },
      axes: [axis, { ...axis, size: 52 }],
      series: [{}, ...series.map(([label, stroke]) => ({
        label, stroke, width: 1.6, points: { show: false }, spanGaps: false,
        value: (_, value) => (value === null || value === undefined ? "–" : `${number(value, value < 10 ? 1 : 0)}${unit}`),
      }))],
    };
    plots[id] = new uPlot(options, [[], ...series.map(() => [])], at);
  }

  function draw() {
    const names = looks[looks.length - 1].status.workspaces.map(({ name }) => name);
    if (!plots["plot-lookups"] || plots.names !== names.join()) {
      for (const id of ["plot-lookups", "plot-age", "plot-budget", "plot-upstream"]) { plots[id]?.destroy(); }
      plots.names = names.join();
      const hues = ["#3b82f6", "#1a9e63", "#e0a100", "#8b5cf6", "#e5484d", "#0891b2"];
      plot("plot-lookups", OUTCOMES.map(([word, , hue]) => [word, hue]), "/s");
      plot("plot-age", [["half below", "#3b82f6"], ["99 of 100 below", "#e0a100"], ["lifetime", "#e5484d"]], " s");
      plot("plot-budget", names.map((name, index) => [name, hues[index % hues.length]]), "");
      plot("plot-upstream", [["half within", "#3b82f6"], ["95 of 100 within", "#e0a100"]], " ms");
    }
    const pairs = looks.slice(1).map((look, index) => [looks[index], look]);
    const times = pairs.map(([, look]) => look.at / 1000);
    const each = (value) => pairs.map(([from, to]) => value(from, to));
    const wide = (value) => looks.slice(1).map((look, index) => value(looks[Math.max(0, index + 1 - RECENT)], look));
    plots["plot-lookups"].setData([times, ...OUTCOMES.map(([, words]) => each((from, to) => grown(from, to, "requests_total", outcome(...words)) / Math.max(0.2, (to.at - from.at) / 1000)))]);
    plots["plot-age"].setData([times, ...[0.5, 0.99].map((part) => wide((from, to) => quantile(from, to, "served_age_seconds", part))), each((_, to) => to.status.cache.ttl_s)]);
    plots["plot-budget"].setData([times, ...names.map((name) => each((_, to) => to.status.workspaces.find((one) => one.name === name)?.budget.remaining ?? null))]);
    plots["plot-upstream"].setData([times, ...[0.5, 0.95].map((part) => wide((from, to) => { const value = quantile(from, to, "upstream_duration_seconds", part); return value === null ? null : value * 1000; }))]);
  }

  addEventListener("resize", () => {
    for (const [id, one] of Object.entries(plots)) {
      if (one.setSize) one.setSize({ width: $(id).clientWidth, height: Math.max(120, $(id).clientHeight - 32) });
    }
  });

  // ---- the stream --------------------------------------------------------------------------------

  function state(word, said) { $("state").dataset.state = word; text("state", said); }

  const headers = () => {
    const token = sessionStorage.getItem(TOKEN);
    return token ? { Authorization: `Bearer ${token}` } : {};
  };

  // Ends when the stream does; says whether another try makes sense.
  async function listen(signal) {
    const response = await fetch("/v1/events", { headers: headers(), signal, cache: "no-store" });
    if (response.status === 401) { askForToken(); return false; }
    if (!response.ok) throw new Error(await problem(response));
    $("sign-in").hidden = true;
    $("board").hidden = false;
    $("sign-out").hidden = !sessionStorage.getItem(TOKEN);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return true;
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) {
        if (!event.startsWith("data: ")) continue;
        const { status, metrics } = JSON.parse(event.slice(6));
        // After a restart, what was counted before means nothing.
        if (looks.length && status.uptime_s < looks[looks.length - 1].status.uptime_s) looks.length = 0;
        looks.push({ at: Date.now(), samples: parse(metrics), status });
        if (looks.length > KEPT) looks.shift();
        show();
      }
    }
  }

  async function run() {
    stream?.abort();
    const own = stream = new AbortController();
    while (!own.signal.aborted) {
      try {
        if (!(await listen(own.signal))) return;
        state("lost", "the stream ended; trying again");
      } catch (error) {
        if (own.signal.aborted) return;
        state("lost", `no connection; trying again (${error.message})`);
      }
      await new Promise((done) => setTimeout(done, RETRY_MS));
    }
  }

  function askForToken() {
    const had = sessionStorage.getItem(TOKEN);
    sessionStorage.removeItem(TOKEN);
    text("sign-in-error", had ? "This is not the gateway's admin token." : "");
    $("board").hidden = true;
    $("sign-out").hidden = true;
    $("sign-in").hidden = false;
    state("waiting", "signed out");
    $("token").focus();
  }

  $("sign-in-form").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(TOKEN, $("token").value.trim());
    $("token").value = "";
    run();
  });
  $("sign-out").addEventListener("click", () => {
    stream?.abort();
    sessionStorage.removeItem(TOKEN);
    looks.length = 0;
    $("answer").hidden = true;
    text("said", "");
    askForToken();
  });

  // ---- one person --------------------------------------------------------------------------------

  async function problem(response) {
    const said = await response.json().catch(() => ({}));
    return said.message || `status ${response.status}`;
  }

  const SAID = {
    lookup: (answer) => `Flameup's answer: ${answer.status}`,
    explain: (answer) => answer.next.why,
    purge: (answer) => `Let go of ${answer.removed.entries} and ${answer.removed.absences} remembered absences`,
    erase: (answer) => `Erased; receipt ${answer.receipt}${answer.tiers.every((tier) => tier.confirmed) ? ", confirmed" : ", NOT confirmed"}`,
  };

  const confirmed = () => new Promise((done) => {
    const dialog = $("confirm");
    dialog.returnValue = "no";
    dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true });
    dialog.showModal();
  });

  $("person").addEventListener("submit", async (event) => {
    event.preventDefault();
    const action = event.submitter?.value || "lookup";
    const wanted = { workspace: $("workspace").value, [$("kind").value]: $("name").value };
    if (action === "erase" && !(await confirmed())) return;
    text("said", "…");
    $("answer").hidden = true;
    try {
      const response = await fetch(`/v1/${action}`, {
        method: "POST", cache: "no-store", body: JSON.stringify(wanted),
        headers: { ...headers(), "Content-Type": "application/json" },
      });
      if (response.status === 401) return askForToken();
      if (!response.ok) throw new Error(await problem(response));
      const answer = await response.json();
      text("said", SAID[action](answer));
      $("answer").textContent = JSON.stringify(answer, null, 2);
      $("answer").hidden = false;
    } catch (error) {
      text("said", error.message);
    }
  });

  $("configuration").addEventListener("toggle", async () => {
    if (!$("configuration").open) return;
    try {
      const response = await fetch("/v1/configuration", { headers: headers(), cache: "no-store" });
      text("configured", response.ok ? await response.text() : await problem(response));
    } catch (error) {
      text("configured", error.message);
    }
  });

  // ---- light and dark ----------------------------------------------------------------------------

  function theme(dark) {
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    text("theme", dark ? "Light" : "Dark");
    for (const one of Object.values(plots)) one.redraw?.();
  }
  const preference = matchMedia("(prefers-color-scheme: dark)");
  theme(preference.matches);
  preference.addEventListener("change", ({ matches }) => theme(matches));
  $("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme !== "dark"));

  run();
})();
