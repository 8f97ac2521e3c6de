// What stands behind a result: the time, the JSON and the headers.
import { copyButton } from "./clipboard.js";
import { make } from "./dom.js";
import { prettyJson } from "./json.js";
import { stageText, text } from "./texts.js";

// How long it took, and how to find the request in the log.
export function showOrigin({ answer, stages, total }, failed) {
  const server = stages.reduce((sum, [, ms]) => sum + ms, 0);
  const parts = [
    server && text("onServer", { ms: server.toFixed(1) }),
    text("inBrowser", { ms: total.toFixed(0) }),
    answer.log_id && `log_id ${answer.log_id}`,
  ];
  const hint = failed && answer.log_id && make("p", { class: "soft" }, text("inTheLog"), " ", make("code", {}, `classifyd logs ${answer.log_id}`));
  return [make("p", { class: "soft origin" }, parts.filter(Boolean).map((said) => make("span", {}, said))), hint];
}

export function showDetails({ response }, id) {
  const most = Math.max(...response.stages.map(([, ms]) => ms));
  const rows = response.stages.map(([stage, ms]) => {
    const bar = make("span", { class: "bar" });
    bar.style.width = `${(ms / most) * 100}%`;
    return make("tr", {}, make("th", { scope: "row" }, stageText(stage)), make("td", { class: "track-cell", "aria-hidden": "true" }, make("span", { class: "track" }, bar)), make("td", { class: "number" }, ms.toFixed(2)));
  });
  return make(
    "div",
    { class: "details", id },
    rows.length > 0 && make("table", { class: "times" }, make("caption", {}, text("stages")), make("tbody", {}, rows)),
    codeBlock("JSON", prettyJson(response.raw), response.raw),
    codeBlock(text("headers"), `HTTP ${response.status}\n${response.headers}`),
  );
}

function codeBlock(title, shown, copied = shown) {
  const pre = make("pre", { tabindex: "0", role: "region", "aria-label": title }, shown);
  return make("div", { class: "block" }, make("div", { class: "block-head" }, make("h4", {}, title), copyButton(() => copied, () => pre, { class: "button small" })), pre);
}
