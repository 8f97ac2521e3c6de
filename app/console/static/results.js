// Runs on the page: cards with an image and what the server says about it, or tiles where there are many.
import { percent, showCard } from "./card.js";
import { download, toCsv } from "./csv.js";
import { button, find, icon, make } from "./dom.js";
import { language, text } from "./texts.js";

export function showRun(run) {
  const shown = run.items.map((item) => (item.element = showItem(run, item)));
  const body = run.items[0].compact ? make("ul", { class: "tiles" }, shown) : make("div", { class: "cards" }, shown);
  run.head = showHead(run);
  return make("div", { class: "run", role: "group", "aria-label": titleOf(run) }, run.head, body);
}

const showItem = (run, item) => {
  Object.assign(item, { run, refresh: () => refresh(item) });
  return item.compact ? showTile(item) : showCard(item);
};

const titleOf = (run) => {
  const time = run.started.toLocaleTimeString(language === "zh" ? "zh-CN" : "en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  return `${time} · ${run.models.join(" + ")} · ${text("images", { count: run.items.length })}`;
};

function showHead(run) {
  const done = run.items.filter(({ state }) => state === "done").length;
  const failed = run.items.filter(isFailed).length;
  const busy = run.state !== "done";
  const waits = run.waits ? text("waits", { seconds: run.waits }) : "";
  const state = busy ? waits || text("progress", { done, count: run.items.length }) : failed ? text("someFailed", { failed }) : "";
  return make(
    "div",
    { class: "run-head" },
    make("h2", {}, titleOf(run)),
    state && make("span", { class: failed && !busy ? "bad" : "soft" }, state),
    busy && run.items.length > 1 && make("progress", { max: run.items.length, value: done, "aria-label": text("progressLabel") }),
    make(
      "span",
      { class: "run-actions" },
      busy && run.items.length > 1 && button("", text("stop"), { class: "button small", "data-key": "stop", onclick: () => run.actions.stopRun(run) }),
      button("download", "CSV", { class: "button small", "aria-label": text("csv"), "data-key": "csv", onclick: () => download("results.csv", toCsv(run.items)) }),
      button("close", text("remove"), { class: "button small", "data-key": "remove", onclick: () => run.actions.removeRun(run) }),
    ),
  );
}

export function refreshHead(run) {
  const before = run.head;
  run.head = showHead(run);
  replace(before, run.head);
  run.element.setAttribute("aria-label", titleOf(run));
}

export function refresh(item) {
  const before = item.element;
  item.element = showItem(item.run, item);
  replace(before, item.element);
  if (opened === item) showOpened();
}

// The button that was pressed keeps the focus.
function replace(before, after) {
  const key = before.contains(document.activeElement) && document.activeElement.dataset.key;
  before.replaceWith(after);
  if (key) after.querySelector(`[data-key="${key}"]`)?.focus();
}

const isFailed = (item) => item.state === "done" && Boolean(item.problem || item.answers.some(isError));
const isError = ({ problem, response }) => Boolean(problem || "error_code" in response.answer);

let opened = null;

function showTile(item) {
  const failed = isFailed(item);
  const classes = item.answers.map((answer) => (isError(answer) ? { name: text("failed") } : answer.response.answer.results[0]));
  if (!classes.length) classes.push({ name: failed ? text("failed") : "…" });
  const lines = classes.map(({ name, score }) => [make("span", { class: "tile-class" }, name), score !== undefined && make("span", { class: "tile-score" }, percent(score))]);
  return make(
    "li",
    { class: `tile ${failed ? "failed" : ""}`, "data-state": item.state },
    make(
      "button",
      { type: "button", "data-key": `tile-${item.id}`, "aria-haspopup": "dialog", onclick: () => open(item) },
      item.shown ? make("img", { src: item.shown, alt: "" }) : make("span", { class: "no-picture" }, icon("image")),
      make("span", { class: "tile-text" }, lines.flat(), make("span", { class: "tile-file" }, item.fileName)),
    ),
  );
}

function open(item) {
  opened = item;
  showOpened();
  find("opened").showModal();
}

function showOpened() {
  const items = opened.run.items;
  const index = items.indexOf(opened);
  const go = (step) => ({
    disabled: !items[index + step],
    "data-key": `go${step}`,
    class: "button small",
    onclick: () => {
      opened = items[index + step];
      showOpened();
    },
  });
  const inside = make(
    "div",
    { class: "opened" },
    make(
      "div",
      { class: "opened-head" },
      make("span", { class: "soft" }, `${index + 1} / ${items.length}`),
      button("back", text("previous"), go(-1)),
      button("forward", text("next"), go(1)),
      button("close", text("close"), { class: "button small", "data-key": "close", onclick: () => find("opened").close() }),
    ),
    showCard(opened),
  );
  const before = find("opened").firstElementChild;
  if (before) replace(before, inside);
  else find("opened").append(inside);
  find("opened").setAttribute("aria-label", opened.fileName);
}

export function listenToDialog() {
  const dialog = find("opened");
  dialog.addEventListener("close", () => {
    const item = opened;
    opened = null;
    dialog.replaceChildren();
    item?.element.querySelector("button").focus();
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // beside the card
  dialog.addEventListener("keydown", ({ key, target }) => {
    const way = { ArrowLeft: "go-1", ArrowRight: "go1" }[key];
    if (way && !target.matches("input, select")) dialog.querySelector(`[data-key="${way}"]`).click();
  });
}
