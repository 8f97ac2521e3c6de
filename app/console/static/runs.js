// The history: runs of images that were chosen together, each with one model or with two side by side.
import { classify, Problem, toBase64 } from "./api.js";
import { find } from "./dom.js";
import { token, topNum } from "./form.js";
import { prepare } from "./pictures.js";
import { forEach, patiently } from "./pool.js";
import { refresh, refreshHead, showRun } from "./results.js";

const COMPACT_FROM = 5; // images: fewer are shown as cards
let runs = []; // newest first
let queue = Promise.resolve();
let count = 0;

export const newestRun = () => runs[0];
export const isEmpty = () => !runs.length;

export function addRun(files, models) {
  count += 1;
  const run = { id: count, started: new Date(), models, waits: 0, state: "waiting", actions: { removeRun, stopRun } };
  const compact = files.length >= COMPACT_FROM;
  run.items = files.map((file, index) => makeItem(`${run.id}-${index}`, file, compact));
  runs.unshift(run);
  run.element = showRun(run);
  find("runs").prepend(run.element);
  return enqueue(run);
}

const makeItem = (id, file, compact) => ({
  id,
  file,
  compact,
  fileName: file.name,
  image: null, // what is sent, and what the page shows of it: see prepare
  shown: null,
  size: null,
  change: null,
  problem: null,
  answers: [],
  view: null, // what is shown in place of the photo
  opacity: 0.8,
  state: "waiting",
});

// The same images again, for another top_num or another model beside the first.
export function askAgain(run, models) {
  Object.assign(run, { models, state: "waiting" });
  return enqueue(run);
}

function enqueue(run) {
  run.abort = new AbortController();
  const settings = { topNum: topNum(), token: token() };
  queue = queue.then(() => execute(run, settings));
  return queue;
}

async function execute(run, settings) {
  if (run.removed) return;
  change(run, { state: "working" });
  await forEach(run.items, (item) => classifyItem(run, item, settings));
  change(run, { state: "done" });
}

function change(run, values) {
  Object.assign(run, values);
  refreshHead(run);
}

async function classifyItem(run, item, settings) {
  item.state = "working";
  refresh(item);
  item.problem = null;
  try {
    if (run.abort.signal.aborted) throw new Problem("stopped");
    if (!item.image) await makeSendable(run, item);
    const image = await toBase64(item.image);
    const answers = [];
    for (const name of run.models) answers.push(await askModel(run, name, image, settings));
    item.answers = answers;
    revokePreviews(item);
    item.view = null;
  } catch (error) {
    item.problem = error instanceof Problem ? error : new Problem("unreadable");
  }
  item.state = "done";
  refresh(item);
  refreshHead(run);
}

async function makeSendable(run, item) {
  const { shown, ...prepared } = await prepare(item.file);
  Object.assign(item, prepared);
  if (shown && !run.removed) item.shown = URL.createObjectURL(shown);
}

async function askModel(run, name, image, settings) {
  const { signal } = run.abort;
  try {
    const call = () => classify(name, image, settings.topNum, settings.token, signal);
    const response = await patiently(call, signal, (seconds) => change(run, { waits: seconds }));
    run.waits = 0;
    return { name, response, heats: new Map() };
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    return { name, problem: error, heats: new Map() };
  }
}

function stopRun(run) {
  run.abort.abort();
}

function removeRun(run) {
  run.removed = true;
  run.abort.abort();
  runs = runs.filter((other) => other !== run);
  for (const item of run.items) {
    if (item.shown) URL.revokeObjectURL(item.shown);
    revokePreviews(item);
  }
  run.element.remove();
  document.dispatchEvent(new Event("runs"));
}

function revokePreviews(item) {
  for (const url of item.previews?.values() || []) URL.revokeObjectURL(url);
  item.previews = new Map();
}

export function clearRuns() {
  for (const run of [...runs]) removeRun(run);
}

// In the other language.
export function showRunsAgain() {
  for (const run of runs) {
    const before = run.element;
    run.element = showRun(run);
    before.replaceWith(run.element);
  }
}
