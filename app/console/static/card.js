// A card: an image and what one model, or two side by side, say about it.
import { fetchHeatmap, fetchPreview, Problem, toBase64 } from "./api.js";
import { showDetails, showOrigin } from "./details.js";
import { button, icon, make } from "./dom.js";
import { showError, showProblem } from "./failures.js";
import { token } from "./form.js";
import { drawHeat } from "./heatmap.js";
import { patiently } from "./pool.js";
import { text } from "./texts.js";

const LEAST_PERCENT = 0.01;

export function showCard(item) {
  const busy = item.state !== "done";
  const answers = item.answers.map((answer, index) => showAnswer(item, answer, index));
  const outcome = item.problem ? [showProblem(item.problem)] : answers.length ? answers : [skeleton()];
  return make(
    "article",
    { class: `card ${busy ? "busy" : ""} ${answers.length > 1 ? "two" : ""}`, "data-state": item.state, "aria-label": item.fileName, "aria-busy": String(busy) },
    make("div", { class: "seen" }, showPicture(item), showFile(item)),
    make("div", { class: "answers" }, outcome),
  );
}

const skeleton = () => make("div", { class: "skeleton", "aria-hidden": "true" }, ...Array.from({ length: 4 }, () => make("span")));

function showFile({ fileName, size, change, image }) {
  return make(
    "div",
    { class: "file" },
    make("h3", {}, fileName),
    size && image && make("p", { class: "soft" }, `${size.width} × ${size.height} px, ${megabytes(image.size)}`),
    change && make("p", { class: "note" }, icon("shrink"), make("span", {}, text("changed", { from: describe(change.from), to: describe(change.to) }))),
  );
}

const megabytes = (bytes) => (bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
const describe = ({ kind, width, height, bytes }) => `${width}\u00a0×\u00a0${height}\u00a0px, ${megabytes(bytes)} ${kind}`;

function showPicture(item) {
  const { view } = item;
  const answer = view && item.answers[view.answer];
  const frame = make("div", { class: "frame" });
  const figure = make("figure", { class: "picture" }, frame);
  const source = view?.kind === "input" ? item.previews?.get(answer.name) : item.shown;
  if (!source) {
    const waiting = view || item.state !== "done";
    frame.append(make("p", { class: "soft" }, waiting ? text("loading") : text("notShown")));
    return figure;
  }
  const caption = text(view?.kind === "input" ? "preview" : "original");
  frame.append(make("img", { src: source, alt: `${caption}: ${item.fileName}`, class: view?.kind === "input" ? "small" : "" }));
  if (view?.kind === "input") figure.append(make("figcaption", {}, caption));
  if (view?.kind === "heat") addHeat(item, answer, figure, frame);
  return figure;
}

function addHeat(item, { response, heats }, figure, frame) {
  const { label } = item.view;
  const heat = heats.get(label);
  if (!heat) return frame.append(make("p", { class: "loading" }, text("explaining")));
  const labels = response.answer.results.map(({ name }) => make("option", { selected: name === label }, name));
  const select = make("select", { id: `label-${item.id}`, "data-key": "label", onchange: (event) => explain(item, item.view.answer, event.target.value) }, labels);
  const chooser = make("div", { class: "heat-field" }, make("label", { for: select.id }, text("explained")), select);
  if (isFailure(heat)) {
    figure.append(chooser, heat instanceof Problem ? showProblem(heat) : showError(heat.answer, heat.detail));
    return undefined;
  }
  const canvas = make("canvas", { class: "heat", role: "img", "aria-label": text("heatLabel", { label }) });
  drawHeat(canvas, heat.answer, item.size.width / item.size.height);
  canvas.style.opacity = item.opacity;
  frame.append(canvas);
  const move = (event) => {
    item.opacity = event.target.value;
    canvas.style.opacity = item.opacity;
  };
  const slider = make("input", { type: "range", id: `opacity-${item.id}`, min: 0, max: 1, step: 0.05, value: item.opacity, oninput: move });
  figure.append(
    make("div", { class: "legend" }, make("span", {}, text("cold")), make("span", { class: "ramp" }), make("span", {}, text("hot"))),
    chooser,
    make("div", { class: "heat-field" }, make("label", { for: slider.id }, text("opacity")), slider),
  );
  return undefined;
}

function showAnswer(item, answer, index) {
  const { name, response, problem } = answer;
  if (problem) return make("div", { class: "answer" }, make("p", { class: "by" }, make("strong", {}, name)), showProblem(problem));
  const failed = "error_code" in response.answer;
  const by = make("p", { class: "by" }, make("strong", {}, name), response.version && make("span", { class: "soft" }, `${text("version")} ${response.version}`));
  return make(
    "div",
    { class: "answer" },
    by,
    failed ? showError(response.answer, response.detail) : showClasses(response.answer.results),
    showActions(item, answer, index, failed),
    showOrigin(response, failed),
    answer.detailed && showDetails(answer, `details-${item.id}-${index}`),
  );
}

export const percent = (score) => {
  const value = score * 100;
  return value > 0 && value < LEAST_PERCENT ? `<${LEAST_PERCENT}%` : `${value.toFixed(2)}%`;
};

function showClasses(results) {
  const rows = results.map(({ name, score }) => {
    const bar = make("span", { class: "bar" });
    bar.style.width = `${Math.max(0, Math.min(1, score)) * 100}%`;
    return make(
      "li",
      {},
      make("span", { class: "label" }, name),
      make("span", { class: "percent" }, percent(score)),
      make("span", { class: "score", title: String(score) }, score.toFixed(4)),
      make("span", { class: "track", "aria-hidden": "true" }, bar),
    );
  });
  return make("ol", { class: "classes", "aria-label": text("classes") }, rows);
}

function showActions(item, answer, index, failed) {
  const isSeen = (kind) => item.view?.kind === kind && item.view.answer === index;
  const toggle = (kind, name, label, show) =>
    button(name, label, {
      class: "button small",
      "aria-pressed": String(isSeen(kind)),
      "data-key": `${kind}-${index}`,
      onclick: () => {
        if (!isSeen(kind)) return show();
        item.view = null;
        return item.refresh();
      },
    });
  return make(
    "div",
    { class: "actions" },
    !failed && item.shown && toggle("heat", "flame", text("why"), () => explain(item, index, answer.response.answer.results[0].name)),
    !failed && toggle("input", "eye", text("preview"), () => showInput(item, index)),
    button("braces", text("details"), {
      class: "button small",
      "aria-expanded": String(Boolean(answer.detailed)),
      "data-key": `details-${index}`,
      onclick: () => {
        answer.detailed = !answer.detailed;
        item.refresh();
      },
    }),
  );
}

// Show the heat map of a label, which the server computes on the first demand.
async function explain(item, index, label) {
  const answer = item.answers[index];
  item.view = { kind: "heat", answer: index, label };
  if (isFailure(answer.heats.get(label))) answer.heats.delete(label); // asked again
  item.refresh();
  if (answer.heats.has(label)) return;
  const image = await toBase64(item.image);
  const call = () => fetchHeatmap(answer.name, image, label, token());
  answer.heats.set(label, await patiently(call, item.run.abort.signal, () => {}).catch((error) => error));
  item.refresh();
}

const isFailure = (heat) => heat instanceof Problem || Boolean(heat && "error_code" in heat.answer);

async function showInput(item, index) {
  const { name } = item.answers[index];
  item.view = { kind: "input", answer: index };
  item.refresh();
  if (item.previews.has(name)) return;
  const seen = await fetchPreview(name, await toBase64(item.image), token());
  if (item.run.removed || item.previews.has(name)) return;
  if (seen) item.previews.set(name, URL.createObjectURL(seen));
  else item.view = null;
  item.refresh();
}
