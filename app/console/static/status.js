// The status line at the foot of the page, for operators.
import { fetchStatus, Problem } from "./api.js";
import { find, make } from "./dom.js";
import { token } from "./form.js";
import { text } from "./texts.js";

const EVERY_MS = 5000;
const MOST_MODELS = 3;

let before = null; // the last count of requests, and when it was taken
let known = null; // what is shown

export async function updateStatus() {
  const found = await fetchStatus(token()).catch((error) => error);
  const now = { requests: found.requests, time: performance.now() };
  const seconds = before ? (now.time - before.time) / 1000 : 0;
  // A smaller count: the server has been restarted.
  const rate = seconds && now.requests >= before.requests ? (now.requests - before.requests) / seconds : null;
  before = "requests" in found ? now : null;
  known = { found, rate };
  showStatusLine();
  return found.serving;
}

export function showStatusLine() {
  if (!known) return;
  const { found, rate } = known;
  const [kind, said] = found instanceof Problem ? ["bad", "offline"] : found.ready ? ["good", "ready"] : ["warn", "notReady"];
  const serving = Object.entries(found.serving || {});
  const models = serving.slice(0, MOST_MODELS).map(([name, { version, engine, device }]) => make("span", { class: "chip" }, make("strong", {}, name), ` ${version} · ${engine} · ${device}`));
  const more = serving.length > MOST_MODELS && make("span", {}, text("moreModels", { count: serving.length - MOST_MODELS }));
  const load = rate !== null && make("span", { class: "number" }, text("rate", { rate: rate < 10 ? rate.toFixed(1) : Math.round(rate) }));
  const total = found.requests !== undefined && make("span", { class: "number" }, text("requests", { count: found.requests }));
  find("server").replaceChildren(...[make("span", { class: `state ${kind}` }, text(said)), ...models, more, load, total].filter(Boolean));
}

// Update while the page is seen, and tell `use` what is served where the server says it.
export function startStatus(use) {
  const update = async () => {
    const serving = document.hidden ? null : await updateStatus();
    if (serving) use(serving);
  };
  update();
  setInterval(update, EVERY_MS);
  document.addEventListener("visibilitychange", update);
}
