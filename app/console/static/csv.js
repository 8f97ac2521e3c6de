// The results of a run as CSV, a row for each image and model.
import { make } from "./dom.js";

export function toCsv(items) {
  const answers = items.flatMap((item) => item.answers.filter(({ response }) => response).map((answer) => ({ item, ...answer })));
  const count = Math.max(0, ...answers.map(({ response }) => response.answer.results?.length || 0));
  const classes = Array.from({ length: count }, (_, index) => [`class_${index + 1}`, `score_${index + 1}`]).flat();
  const rows = answers.map(({ item, name, response: { answer, version, detail } }) => [
    item.fileName,
    name,
    version,
    answer.log_id,
    answer.error_code ?? "",
    "error_code" in answer ? detail || answer.error_msg : "",
    ...(answer.results || []).flatMap((result) => [result.name, result.score]),
  ]);
  const lines = [["file", "model", "version", "log_id", "error_code", "error", ...classes], ...rows];
  return lines.map((line) => line.map(cell).join(",") + "\r\n").join("");
}

// A text that a spreadsheet would take for a formula gets an apostrophe in front.
function cell(value) {
  if (typeof value === "number") return String(value);
  const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value ?? "");
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

export function download(name, content) {
  // With a byte-order mark, without which Excel does not read UTF-8.
  const url = URL.createObjectURL(new Blob(["\ufeff", content], { type: "text/csv" }));
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000); // the download has started by then
}
