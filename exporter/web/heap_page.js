// SPDX-License-Identifier: MIT
//
// heap_page: the flame graph of `slabscope heap --format html`.
//
//   <script id="data"> {"unit", "estimated", "root": {n, p, k, v, o, c}} ─► d3-flame-graph
//
//   n name   p place (file:line or module)   k kind of code   v bytes   o objects   c children
//
// The page's text (title, totals, what an estimate is) is in the HTML already; here is what moves.
import flamegraph from "d3-flame-graph/src/flamegraph.js";
import { select } from "d3-selection";

const data = JSON.parse(document.getElementById("data").textContent);
const chartBox = document.getElementById("chart");
const details = document.getElementById("details");
const found = document.getElementById("found");
const search = document.getElementById("search");
const about = data.estimated ? "about " : "";
let metric = "v";
let chart = null;

// Hues by kind of code: the program's own, the C++ library, system libraries, unknown.
const kinds = [
  { hue: 24, saturation: 85 },
  { hue: 52, saturation: 75 },
  { hue: 205, saturation: 60 },
  { hue: 0, saturation: 0 },
];

function shade(name) {
  let hash = 0;
  for (let i = 0; i < name.length; ++i) hash = (hash * 31 + name.charCodeAt(i)) >>> 0;
  return hash % 14;
}

function color(node) {
  if (node.highlight) return "#e25bd8";
  const { hue, saturation } = kinds[node.data.k] || kinds[3];
  return `hsl(${hue}, ${saturation}%, ${66 + shade(node.data.n)}%)`;
}

function bytesText(bytes) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  let value = bytes;
  for (; value >= 1024 && unit + 1 < units.length; ++unit) value /= 1024;
  return unit === 0 ? `${bytes} ${bytes === 1 ? "byte" : "bytes"}` : `${value.toFixed(1)} ${units[unit]}`;
}

const objectsText = (count) => `${count.toLocaleString("en")} ${count === 1 ? "object" : "objects"}`;
const share = (part) => `${((100 * part) / Math.max(data.root[metric], 1)).toFixed(1)}%`;

function describe(node) {
  const { n, p, v, o } = node.data;
  const place = p ? ` (${p})` : "";
  return `${n}${place}: ${about}${bytesText(v)} in ${objectsText(o)}, ${share(node.data[metric])}`;
}

// d3-flame-graph takes a node's value from "v"; the tree is its own, since it marks nodes.
function treeOf(node) {
  return {
    ...node,
    v: node.v,
    weight: node[metric],
    c: node.c ? node.c.map(treeOf) : undefined,
  };
}

function matches(node, term) {
  return Boolean(term) && `${node.data.n} ${node.data.p || ""}`.toLowerCase().includes(term.toLowerCase());
}

function runSearch() {
  const term = search.value.trim();
  if (term) {
    chart.search(term);
  } else {
    chart.clear();
    found.textContent = "";
  }
}

function draw() {
  select(chartBox).selectAll("*").remove();
  chart = flamegraph()
    .width(Math.max(320, chartBox.clientWidth))
    .cellHeight(20)
    .minFrameSize(1)
    .transitionDuration(matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 200)
    .sort((a, b) => b.data.weight - a.data.weight)
    .inverted(true)
    .getName((node) => node.data.n)
    .label(describe)
    .setColorMapper(color)
    .setSearchMatch(matches)
    .setSearchHandler((results, sum, total) => {
      const frames = results.length === 1 ? "1 frame" : `${results.length} frames`;
      const amount = metric === "v" ? bytesText(sum) : objectsText(sum);
      found.textContent = results.length === 0 ? "nothing fits" : `${frames}, ${about}${amount}, ${((100 * sum) / Math.max(total, 1)).toFixed(1)}%`;
    })
    .setDetailsElement(details)
    .setDetailsHandler((text) => {
      details.textContent = text || details.dataset.hint;
    });
  chart.getValue((item) => ("weight" in item ? item.weight : item.value));
  select(chartBox).datum(treeOf(data.root)).call(chart);
  details.textContent = details.dataset.hint;
  runSearch();
}

function setMetric(event) {
  metric = event.target.value;
  draw();
}

function start() {
  for (const choice of document.querySelectorAll("input[name=metric]")) choice.addEventListener("change", setMetric);
  search.addEventListener("input", runSearch);
  document.getElementById("reset").addEventListener("click", () => {
    search.value = "";
    draw();
  });
  addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== search) {
      event.preventDefault();
      search.focus();
    } else if (event.key === "Escape") {
      search.value = "";
      draw();
    }
  });
  let width = chartBox.clientWidth;
  addEventListener("resize", () => {
    if (chartBox.clientWidth !== width) {
      width = chartBox.clientWidth;
      draw();
    }
  });
  draw();
}

if (data.root.c && data.root.c.length !== 0) start();
