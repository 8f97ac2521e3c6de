// An image and the response of the server.
import { make, table } from "./dom.js";
import { errorText, stageText, text } from "./texts.js";

export function showResult({ file, name, version, original, preview, answer, detail, stages, total }) {
  const figures = [figure(original, text("original"), file)];
  if (preview) figures.push(figure(preview, text("preview"), file));
  const failed = "error_code" in answer;
  const times = [...stages.map(([stage, ms]) => [stageText(stage), ms]), [text("total"), total.toFixed(1)]];
  return make(
    "article",
    { "aria-label": file },
    make("h2", { class: "file" }, file),
    make("div", { class: "pictures" }, ...figures),
    make("div", { class: "outcome" }, failed ? showError(answer, detail) : showClasses(answer.results), showOrigin(name, version, answer.log_id, failed)),
    make("div", { class: "times" }, table(times, text("stages"))),
  );
}

function figure(source, caption, file) {
  const picture = make("img", { src: source, alt: `${caption}: ${file}` });
  picture.addEventListener("error", () => picture.replaceWith(make("p", { class: "soft" }, text("notShown"))));
  return make("figure", {}, picture, make("figcaption", {}, caption));
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

// Which version responded, and how to find the request in the log.
function showOrigin(name, version, logId, failed) {
  if (!logId) return "";
  const by = version ? `${name}, ${text("version").toLowerCase()} ${version}` : name;
  const id = ["log_id ", make("code", {}, String(logId))];
  const hint = failed ? [make("br"), text("inTheLog"), " ", make("code", {}, `classifyd logs ${logId}`)] : [];
  return make("p", { class: "soft" }, by, " · ", ...id, ...hint);
}
