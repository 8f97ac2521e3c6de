// Errors of the server, and problems in front of it: what happened, and what to do.
import { make } from "./dom.js";
import { errorText, text } from "./texts.js";

export function showError(answer, detail) {
  const [meaning, todo] = errorText(answer.error_code);
  return errorBox([answer.error_code, answer.error_msg].filter(Boolean).join(" "), [
    [text("meaning"), meaning],
    [text("detail"), detail],
    [text("todo"), todo],
  ]);
}

export const showProblem = ({ key, values }) => errorBox(text(key, values), [[text("todo"), text(`${key}Todo`)]]);

function errorBox(title, parts) {
  const shown = parts.filter(([, value]) => value).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]);
  return make("div", { class: "error" }, make("p", {}, make("strong", {}, title)), make("dl", {}, shown));
}
