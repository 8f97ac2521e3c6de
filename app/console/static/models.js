// The page of one deploy name.
import { make, table } from "./dom.js";
import { text } from "./texts.js";

export function showModel(model) {
  const facts = [
    [text("version"), model.version],
    [text("engine"), model.engine],
    [text("device"), model.device],
    [text("digest"), make("code", {}, model.digest)],
    [text("input"), `${model.input.dtype} ${model.input.layout} ${model.input.channels} × ${model.input.height} × ${model.input.width}`],
    [text("golden"), describeGolden(model)],
    [text("output"), `${model.output.kind}, ${model.output.task}, ${model.output.classes}`],
  ];
  return [
    make("h2", {}, model.name),
    make("p", {}, make("a", { href: "#/", class: "button" }, text("tryIt"))),
    table(facts, model.name),
    make("h3", {}, text("preprocess")),
    make("ol", {}, ...model.preprocess.map((step) => make("li", {}, make("code", {}, describe(step))))),
    make("h3", { id: "labels-title" }, text("labels", { count: model.labels.length })),
    make("ol", { start: "0", class: "labels", tabindex: "0", "aria-labelledby": "labels-title" }, ...model.labels.map((label) => make("li", {}, label))),
  ];
}

function describeGolden({ golden, worst_difference: difference }) {
  if (!golden) return text("noGolden");
  return text("goldenKept", { samples: golden.samples, difference, tolerance: golden.tolerance });
}

function describe({ step, ...rest }) {
  const flat = Object.entries(rest).flatMap(([key, value]) =>
    value !== null && typeof value === "object" && !Array.isArray(value) ? Object.entries(value) : [[key, value]],
  );
  return [step, ...flat.map(([key, value]) => `${key}=${JSON.stringify(value)}`)].join(" ");
}
