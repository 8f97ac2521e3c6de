// The list of models, and the page of one of them.
import { classifyUrl, fetchModel, Problem } from "./api.js";
import { icon, make, table } from "./dom.js";
import { token } from "./form.js";
import { text } from "./texts.js";

export function showList(models) {
  const cards = models.map((model) =>
    make(
      "a",
      { class: "panel model-card", href: `#/model/${model.name}` },
      make("strong", {}, model.name),
      make("span", { class: "soft" }, `${text("version")} ${model.version} · ${text("labels", { count: model.labels.length })}`),
      make("span", { class: "soft" }, `${model.engine}, ${model.device}`),
      make("span", { class: model.golden ? "good" : "soft" }, model.golden ? text("goldenOk") : text("noGolden")),
    ),
  );
  return [make("h1", {}, text("models")), cards.length ? make("div", { class: "model-cards" }, cards) : make("p", { class: "soft" }, text("none"))];
}

export function showModel(model) {
  const facts = [
    [text("address"), make("code", {}, classifyUrl(model.name))],
    [text("version"), model.version],
    [text("golden"), describeGolden(model)],
    [text("engine"), `${model.engine}, ${model.device}`],
    [text("input"), `${model.input.dtype} ${model.input.layout} ${model.input.channels} × ${model.input.height} × ${model.input.width}`],
    [text("output"), `${model.output.kind}, ${model.output.task}, ${text("labels", { count: model.output.classes })}`],
    [text("digest"), make("code", {}, model.digest)],
  ];
  const labels = model.labels.map((label, index) => make("li", { value: String(index) }, label));
  const more = make("div", { class: "more", "aria-busy": "true" });
  showMore(model, more);
  return [
    make(
      "div",
      { class: "title" },
      make("h1", {}, model.name),
      make("span", { class: "chip" }, `${text("version")} ${model.version}`),
      model.sealed && make("span", { class: "chip" }, text("sealed")),
      make("a", { href: `#/try/${model.name}`, class: "button main" }, text("tryIt")),
    ),
    part(text("package"), table(facts, "", "facts")),
    part(text("preprocess"), make("ol", { class: "steps" }, model.preprocess.map(showStep))),
    more,
    part(text("labels", { count: model.labels.length }), makeFilter(labels), make("ol", { start: "0", class: "labels", tabindex: "0", "aria-label": text("labels", { count: labels.length }) }, labels)),
  ];
}

const part = (title, ...content) => make("section", { class: "panel part" }, make("h2", {}, title), content);

// What only this page asks for: evaluation, engines, versions.
async function showMore(model, place) {
  const found = await fetchModel(model.name, token()).catch((error) => error);
  place.setAttribute("aria-busy", "false");
  if (found instanceof Problem || "error_code" in found) {
    place.replaceChildren(part(text("engines"), make("p", { class: "bad" }, found instanceof Problem ? text(found.key, found.values) : found.detail)));
    return;
  }
  place.replaceChildren(part(text("evaluation"), showEvaluation(model, found.training)), part(text("engines"), showEngines(found.engines)), part(text("versions"), showVersions(found.versions)));
}

// A search field that hides the labels without the typed text.
function makeFilter(labels) {
  const field = make("input", { id: "filter", type: "search", autocomplete: "off" });
  field.addEventListener("input", () => {
    const query = field.value.trim().toLowerCase();
    for (const item of labels) item.hidden = !item.textContent.toLowerCase().includes(query);
  });
  return make("div", { class: "field filter" }, make("label", { for: "filter" }, text("filter")), field);
}

const rounded = (value, digits = 2) => String(Number(value.toPrecision(digits)));

function describeGolden({ golden, worst_difference: difference }) {
  if (!golden) return text("noGolden");
  return make("span", { class: "good" }, text("goldenPassed", { samples: golden.samples, difference: rounded(difference), tolerance: golden.tolerance }));
}

// A step as the manifest names it, with its parameters.
function showStep({ step, ...rest }) {
  const values = Object.entries(rest).map(([key, value]) => make("span", { class: "parameter" }, `${key} `, make("b", {}, JSON.stringify(value).replaceAll('"', ""))));
  return make("li", {}, make("code", {}, step), make("span", { class: "parameters" }, values));
}

// The record of classifyd train: how the model did on photos that it had not seen.
function showEvaluation(model, training) {
  const held = training?.held_out;
  if (typeof held?.top1 !== "number") return make("p", { class: "soft" }, text("noEvaluation"), " ", make("code", {}, `classifyd evaluate ${model.name} FOLDER`));
  const share = (value) => `${(value * 100).toFixed(1)}%`;
  const tiles = [
    [share(held.top1), text("top1")],
    [held.top1_interval_95?.map(share).join(" – "), text("interval")],
    [held.photos, text("heldOut")],
    [held.calibration_error !== undefined && share(held.calibration_error), text("calibration")],
  ];
  const shown = tiles.filter(([value]) => value || value === 0).map(([value, label]) => make("div", { class: "figure" }, make("b", {}, String(value)), make("span", {}, label)));
  const { method, backbone } = training;
  return make("div", {}, make("div", { class: "figures" }, shown), make("p", { class: "soft" }, [method, backbone?.architecture].filter(Boolean).join(" · ")));
}

function showEngines(selection) {
  if (!selection) return make("p", { class: "soft" }, text("notMeasured"));
  const fastest = Math.max(...selection.measurements.map(({ ms }) => ms));
  const rows = selection.measurements.map((row) => showMeasurement(row, selection, fastest));
  const head = ["engine", "batch", "msPerImage", "difference"].map((key) => make("th", { scope: "col" }, text(key)));
  const scroll = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": text("engines") }, make("table", { class: "engines" }, make("thead", {}, make("tr", {}, head)), make("tbody", {}, rows)));
  const { latency } = selection;
  const said = latency && text(latency.chosen ? "latencyChosen" : "latencyNot", { cores: latency.cores, ms: rounded(latency.ms, 3), one: rounded(latency.one_core_ms, 3) });
  return make("div", {}, scroll, said && make("p", { class: "soft" }, said));
}

function showMeasurement({ engine, batch, ms, difference, problem }, selection, slowest) {
  const selected = engine === selection.engine && batch === selection.max_batch;
  const bar = make("span", { class: "bar" });
  bar.style.width = `${(ms / slowest) * 100}%`;
  const time = problem ? make("span", { class: "soft" }, problem) : [make("span", { class: "number" }, rounded(ms, 3)), make("span", { class: "track", "aria-hidden": "true" }, bar)];
  return make(
    "tr",
    { class: selected ? "selected" : "" },
    make("th", { scope: "row" }, engine, selected && make("span", { class: "chip good" }, icon("check"), text("selected"))),
    make("td", {}, batch || "–"),
    make("td", { class: "time" }, time),
    make("td", { class: "number" }, difference ? rounded(difference) : "0"),
  );
}

function showVersions(versions) {
  const items = versions.map(({ version, served, previous }) =>
    make("li", {}, make("strong", {}, version), served && make("span", { class: "chip good" }, icon("check"), text("served")), previous && make("span", { class: "chip" }, text("previousVersion"))),
  );
  return make("ul", { class: "versions" }, items);
}

