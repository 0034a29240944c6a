const {curves, maps, parallel, sentences, csvs} = page;
const palette = ["#d24a43", "#3576d9", "#239b63", "#a98a1f", "#8b6bb1", "#1593b0"];
const hidden = new Set();
const plain = text => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll("%{", "%&#123;");  // Plotly reads some tags, and templates
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function traces(metric) {
  return curves.runs.filter(run => metric in run.points).map(run => ({
    x: run.points[metric].x, y: run.points[metric].y, visible: !hidden.has(run.arm),
    mode: run.points[metric].x.length > 30 ? "lines" : "lines+markers",
    line: {color: curves.arms[run.arm].colour, width: 1.5}, marker: {size: 6}, opacity: 0.8,
    hovertemplate: "%{y:.4~g} at step %{x}<br>" + plain(run.label) + "<extra></extra>",
  }));
}

function axis(title) {
  return {title: {text: plain(title)}, gridcolor: colour("--line"), zeroline: false, automargin: true};
}

function drawMaps() {
  maps.forEach((map, number) => {
    for (const [when, first] of [["before", 2], ["after", 4]]) {
      const traces = map.classes.map((name, index) => {
        const points = map.points.filter(point => point[1] === index);
        return {x: points.map(point => point[first]), y: points.map(point => point[first + 1]), mode: "markers", name: plain(name),
                text: points.map(point => plain(point[0]).replace(/(.{60}\S*)\s/g, "$1<br>")), type: "scatter",
                hovertemplate: "%{text}<extra>" + plain(name) + "</extra>",
                marker: {size: 5, opacity: 0.7, color: palette[index % palette.length]}};
      });
      const range = at => { const all = map.points.flatMap(point => [point[at], point[at + 2]]);
        const low = Math.min(...all), high = Math.max(...all), room = (high - low) / 20 || 1; return [low - room, high + room]; };
      const bare = at => ({range: range(at), showticklabels: false, zeroline: false, gridcolor: colour("--line")});
      const layout = {margin: {l: 10, r: 10, t: 10, b: 10}, hovermode: "closest", legend: {orientation: "h"}, paper_bgcolor: "rgba(0,0,0,0)",
                      plot_bgcolor: "rgba(0,0,0,0)", font: {color: colour("--ink"), size: 13}, xaxis: bare(2), yaxis: bare(3)};
      Plotly.react("map-" + number + "-" + when, traces, layout, {responsive: true, displayModeBar: false});
    }
  });
}

function drawParallel() {
  if (!parallel) return;
  const traces = parallel.lines.map(line => ({
    x: line.y.map((_, at) => at), y: line.y, mode: "lines+markers", visible: !hidden.has(line.arm), connectgaps: true,
    text: line.words.map(plain), hovertemplate: "%{text}<br>" + plain(curves.arms[line.arm].name) + "<extra></extra>",
    line: {color: line.colour, width: 1.2}, marker: {size: 5}, opacity: 0.7,
  }));
  const ticks = parallel.axes.flatMap((axis, at) => axis.ticks.map(([place, words]) => ({
    x: at, y: place, text: plain(words), showarrow: false, xanchor: "left", xshift: 6, font: {size: 11, color: colour("--soft")},
  })));
  const layout = {
    margin: {l: 20, r: 60, t: 10, b: 40}, showlegend: false, hovermode: "closest", annotations: ticks,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: {color: colour("--ink"), size: 12},
    xaxis: {tickvals: parallel.axes.map((_, at) => at), ticktext: parallel.axes.map(axis => plain(axis.title)),
            gridcolor: colour("--line"), zeroline: false, fixedrange: true},
    yaxis: {visible: false, range: [-0.06, 1.06], fixedrange: true},
  };
  Plotly.react("parallel", traces, layout, {responsive: true, displayModeBar: false});
}

function draw() {
  drawMaps();
  drawParallel();
  for (const select of document.querySelectorAll("select[data-panel]")) {
    const layout = {
      margin: {l: 55, r: 10, t: 10, b: 45}, showlegend: false, hovermode: "closest",
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: {color: colour("--ink"), size: 13},
      xaxis: axis("step"), yaxis: axis(select.value), uirevision: select.value,  // a zoom outlives a toggled arm
    };
    Plotly.react("plot-" + select.dataset.panel, traces(select.value), layout, {responsive: true, displayModeBar: false});
  }
}

for (const button of document.querySelectorAll("button[data-arm]")) {
  button.addEventListener("click", () => {
    const arm = Number(button.dataset.arm);
    if (!hidden.delete(arm)) hidden.add(arm);
    button.setAttribute("aria-pressed", String(!hidden.has(arm)));
    draw();
  });
}
for (const select of document.querySelectorAll("select[data-panel]")) select.addEventListener("change", draw);
if (window.Plotly) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
}

// --- downloads: every table as CSV, every figure as SVG and PNG ---

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function buttons(element, choices) {
  const bar = document.createElement("div");
  bar.className = "get";
  for (const [words, name, get] of choices) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = words;
    button.setAttribute("aria-label", "Download " + name);
    button.addEventListener("click", () => get(name));
    bar.append(button);
  }
  element.before(bar);
}

function svgText(drawing) {  // with ink that shows on white
  const svg = drawing.cloneNode(true);
  svg.style.color = "#24292f";
  svg.style.minWidth = "";
  return new XMLSerializer().serializeToString(svg);
}

function savePng(drawing, name) {
  const {width, height} = drawing.viewBox.baseVal, scale = 3, image = new Image();
  image.onload = () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [scale * width, scale * height];
    const ink = canvas.getContext("2d");
    ink.fillStyle = "#ffffff";
    ink.fillRect(0, 0, canvas.width, canvas.height);
    ink.drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob(blob => save(blob, name));
  };
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(svgText(drawing));
}

for (const table of document.querySelectorAll("table[data-table]")) {
  const name = table.dataset.table;
  const get = file => save(new Blob([csvs[name]], {type: "text/csv;charset=utf-8"}), file);
  buttons(table.parentElement, [["CSV", name + ".csv", get]]);
}
for (const figure of document.querySelectorAll("figure[data-figure]")) {
  const drawing = figure.querySelector("svg"), name = figure.dataset.figure;
  const asSvg = file => save(new Blob([svgText(drawing)], {type: "image/svg+xml"}), file);
  buttons(figure.firstElementChild, [["SVG", name + ".svg", asSvg], ["PNG", name + ".png", file => savePng(drawing, file)]]);
}
for (const plot of document.querySelectorAll("div.plot")) {
  const get = format => file => Plotly.downloadImage(plot, {format, filename: file.replace(/\.\w+$/, ""), height: 500, width: 900});
  buttons(plot, [["SVG", plot.id + ".svg", get("svg")], ["PNG", plot.id + ".png", get("png")]]);
}

// --- tables that sort: press a header ---

for (const table of document.querySelectorAll("table[data-table]:not(#sentences)")) {
  table.querySelectorAll("thead th").forEach((header, at) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const upwards = header.getAttribute("aria-sort") !== "ascending";
      table.querySelectorAll("th[aria-sort]").forEach(other => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", upwards ? "ascending" : "descending");
      const key = row => row.cells[at].dataset.sort;
      const order = (a, b) => (key(a) === "") - (key(b) === "") ||  // what is missing stays last
        (upwards ? 1 : -1) * (key(a) - key(b) || (isNaN(key(a)) || isNaN(key(b)) ? key(a).localeCompare(key(b)) : 0));
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort(order));
    });
  });
}

// --- sentences: which arms are right, how sure, filtered and sorted ---

if (sentences) {
  const form = document.getElementById("filter"), table = document.getElementById("sentences");
  const more = document.getElementById("more"), step = 20;
  let limit = step, sortedBy = null, upwards = true;

  const element = (tag, words, parent) => { const made = document.createElement(tag); made.textContent = words; parent.append(made); return made; };
  const isRight = (row, arm) => row.r[arm] > 50;
  const columns = [["text", row => row.t], ["true class", row => sentences.classes[row.c]],
                   ...sentences.arms.map((name, arm) => [name, row => row.p[arm]])];

  function chosen() {
    const field = name => Number(form.elements[name].value), words = form.elements["text"].value.toLowerCase();
    const [wrong, right, label, slice] = ["wrong", "right", "class", "slice"].map(field);
    const rows = sentences.rows.filter(row => (wrong < 0 || !isRight(row, wrong)) && (right < 0 || isRight(row, right)) &&
      (label < 0 || row.c === label) && (slice < 0 || row.s.includes(slice)) && row.t.toLowerCase().includes(words));
    const get = sortedBy === null ? (row => wrong < 0 ? Math.min(...row.p) : row.p[wrong]) : columns[sortedBy][1];
    const order = (a, b) => typeof get(a) === "string" ? get(a).localeCompare(get(b)) : get(a) - get(b);
    return rows.sort((a, b) => (upwards ? 1 : -1) * order(a, b));
  }

  function list() {
    const rows = chosen(), body = table.tBodies[0];
    document.getElementById("found").textContent = rows.length.toLocaleString("en") + " of " + sentences.rows.length.toLocaleString("en") + " sentences";
    body.replaceChildren();
    for (const row of rows.slice(0, limit)) {
      const line = document.createElement("tr");
      element("td", row.t, line).className = "text long";
      element("td", sentences.classes[row.c], line).className = "text";
      row.p.forEach((sure, arm) => {
        const cell = element("td", sure + " % ", line);
        if (row.g[arm] !== row.c) element("mark", sentences.classes[row.g[arm]], cell);
      });
      body.append(line);
    }
    more.hidden = rows.length <= limit;
  }

  const head = document.createElement("tr");
  columns.forEach(([title], at) => {
    const header = element("th", "", head);
    header.scope = "col";
    if (at < 2) header.className = "text";
    const button = element("button", title, header);
    button.type = "button";
    button.addEventListener("click", () => {
      upwards = sortedBy !== at || !upwards;
      sortedBy = at;
      head.querySelectorAll("th[aria-sort]").forEach(other => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", upwards ? "ascending" : "descending");
      list();
    });
  });
  table.tHead.append(head);
  form.addEventListener("input", () => { limit = step; list(); });
  form.addEventListener("submit", event => event.preventDefault());
  more.addEventListener("click", () => { limit += 5 * step; list(); });
  list();
}
