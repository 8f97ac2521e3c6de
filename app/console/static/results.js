// One picture and what the server said of it.
import { make, table } from "./dom.js";
import { errorText, text } from "./texts.js";

export function showResult({ file, original, seen, answer, detail, stages, total }) {
  const figures = [figure(original, text("original", { file }))];
  if (seen) figures.push(figure(seen, text("seen", { file })));
  const said = "error_code" in answer ? showError(answer, detail) : showClasses(answer.results);
  const times = [...stages, [text("total"), total.toFixed(1)]];
  return make(
    "article",
    { "aria-label": file },
    make("div", { class: "pictures" }, ...figures),
    make("div", { class: "said" }, said, answer.log_id ? make("p", {}, "log_id ", make("code", {}, String(answer.log_id))) : ""),
    make("div", { class: "times" }, table(times, text("stages"))),
  );
}

function figure(source, caption) {
  return make("figure", {}, make("img", { src: source, alt: caption }), make("figcaption", {}, caption));
}

function showClasses(results) {
  const rows = results.map(({ name, score }) => {
    const bar = make("span", { class: "bar", "aria-hidden": "true" });
    bar.style.width = `${Math.max(0, Math.min(1, score)) * 100}%`;
    return make("li", {}, make("span", { class: "label" }, name), make("span", { class: "score" }, score.toFixed(4)), make("span", { class: "track" }, bar));
  });
  return make("ol", { class: "classes", "aria-label": text("classes") }, ...rows);
}

function showError(answer, detail) {
  const [meaning, todo] = errorText(answer.error_code);
  const parts = [
    [text("meaning"), meaning],
    [text("detail"), detail],
    [text("todo"), todo],
  ].filter(([, value]) => value);
  return make(
    "div",
    { class: "error" },
    make("p", {}, make("strong", {}, [answer.error_code, answer.error_msg].filter(Boolean).join(" "))),
    make("dl", {}, ...parts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])),
  );
}
