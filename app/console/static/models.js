// The page of one deploy name.
import { classifyUrl } from "./api.js";
import { make, table } from "./dom.js";
import { text } from "./texts.js";

export function showModel(model) {
  const facts = [
    [text("address"), make("code", {}, classifyUrl(model.name))],
    [text("version"), model.version],
    [text("golden"), describeGolden(model)],
    [text("engine"), `${model.engine}, ${model.device}`],
    [text("input"), `${model.input.dtype} ${model.input.layout} ${model.input.channels} × ${model.input.height} × ${model.input.width}`],
    [text("output"), `${model.output.kind}, ${model.output.task}, ${model.output.classes}`],
    [text("digest"), make("code", {}, model.digest)],
  ];
  const labels = model.labels.map((label, index) => make("li", { value: String(index) }, label));
  return [
    make("h2", {}, model.name),
    make("p", {}, make("a", { href: `#/try/${model.name}`, class: "button main" }, text("tryIt"))),
    table(facts, text("package"), "facts"),
    make("h3", {}, text("preprocess")),
    make("ol", {}, ...model.preprocess.map((step) => make("li", {}, make("code", {}, describe(step))))),
    make("h3", { id: "labels-title" }, text("labels", { count: model.labels.length })),
    makeFilter(labels),
    make("ol", { start: "0", class: "labels", tabindex: "0", "aria-labelledby": "labels-title" }, ...labels),
  ];
}

// A search field that hides the labels without the typed text.
function makeFilter(labels) {
  const field = make("input", { id: "filter", type: "search", autocomplete: "off" });
  field.addEventListener("input", () => {
    const query = field.value.trim().toLowerCase();
    for (const item of labels) item.hidden = !item.textContent.toLowerCase().includes(query);
  });
  return make("div", { class: "fields" }, make("div", {}, make("label", { for: "filter" }, text("filter")), field));
}

function describeGolden({ golden, worst_difference: difference }) {
  if (!golden) return text("noGolden");
  const rounded = Number(difference.toPrecision(2));
  return make("span", { class: "good" }, text("goldenPassed", { samples: golden.samples, difference: rounded, tolerance: golden.tolerance }));
}

function describe({ step, ...rest }) {
  const flat = Object.entries(rest).flatMap(([key, value]) =>
    value !== null && typeof value === "object" && !Array.isArray(value) ? Object.entries(value) : [[key, value]],
  );
  return [step, ...flat.map(([key, value]) => `${key}=${JSON.stringify(value)}`)].join(" ");
}
