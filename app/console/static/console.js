// The console: joins the page's parts.
import { classify, fetchModels, preview, toBase64 } from "./api.js";
import { languages, program } from "./clients.js";
import { find, make } from "./dom.js";
import { showModel } from "./models.js";
import { showResult } from "./results.js";
import { language, switchLanguage, text } from "./texts.js";

const MIB = 1024 * 1024;
const MAX_SENT_BYTES = 20 * MIB; // far above what can be valid: the server explains the rest

let models = [];
let results = []; // newest first
let lastFile = "photo.jpg";
let queue = Promise.resolve();

function translate() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = text(element.dataset.text);
  for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", text(element.dataset.label));
  find("language").textContent = text("otherLanguage");
  find("language").lang = language === "zh" ? "en" : "zh-CN";
  find("results").replaceChildren(...results.map(showResult));
  route();
}

function route() {
  const model = models.find(({ name }) => location.hash === `#/model/${name}`);
  find("try").hidden = Boolean(model);
  find("model").hidden = !model;
  if (model) find("model").replaceChildren(...showModel(model));
}

async function loadModels() {
  const found = await fetchModels(token()).catch(() => ({ error_code: 0 }));
  models = found.models || [];
  find("models").replaceChildren(...models.map(({ name }) => make("a", { href: `#/model/${name}` }, name)));
  find("name").replaceChildren(...models.map(({ name }) => make("option", {}, name)));
  if ("error_code" in found) say(found.error_code ? text("token") : text("unreachable"));
  else if (!models.length) say(text("none"));
  else say(found.broken.length ? text("broken", { names: found.broken.join(", ") }) : "");
  route();
  showProgram();
}

const token = () => find("token").value.trim();
const topNum = () => Number.parseInt(find("top-num").value, 10) || 0;

function say(message) {
  find("status").textContent = message;
}

function ask(files) {
  const chosen = [...files];
  queue = queue.then(async () => {
    let failed = 0;
    for (const [position, file] of chosen.entries()) {
      say(text("busy", { file: file.name, index: position + 1, count: chosen.length }));
      const result = await askAbout(file);
      failed += "error_code" in result.answer ? 1 : 0;
      results.unshift(result);
      find("results").prepend(showResult(result));
      lastFile = file.name;
    }
    say(text("done", { count: chosen.length, failed }));
    showProgram();
  });
}

async function askAbout(file) {
  const result = { file: file.name, original: URL.createObjectURL(file), seen: null, stages: [], total: 0, detail: "" };
  const name = find("name").value;
  if (file.size > MAX_SENT_BYTES) {
    const size = (file.size / MIB).toFixed(1);
    return { ...result, detail: text("tooBig", { size }), answer: { error_code: 336004, error_msg: "" } };
  }
  try {
    const image = await toBase64(file);
    const said = await classify(name, image, topNum(), token());
    const seen = "error_code" in said.answer ? null : await preview(name, image, token());
    return { ...result, ...said, seen };
  } catch {
    return { ...result, detail: text("unreachableTodo"), answer: { error_code: "", error_msg: text("unreachable") } };
  }
}

async function showProgram() {
  const url = `${location.origin}/${find("name").value || "NAME"}/ImageClassification`;
  find("code").textContent = await program(find("client").value, { url, file: lastFile, topNum: topNum() || 6, token: token() });
}

// navigator.clipboard exists on https and localhost only, and servers are reached by address.
async function copy() {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(find("code").textContent);
  } else {
    getSelection().selectAllChildren(find("code"));
    document.execCommand("copy");
  }
  say(text("copied"));
}

function listen() {
  find("client").replaceChildren(...languages.map((name) => make("option", {}, name)));
  find("files").addEventListener("change", (event) => {
    ask(event.target.files);
    event.target.value = ""; // so that the same picture can be chosen again
  });
  find("form").addEventListener("submit", (event) => event.preventDefault());
  find("token").addEventListener("change", loadModels);
  for (const id of ["name", "top-num", "client"]) find(id).addEventListener("change", showProgram);
  find("copy").addEventListener("click", copy);
  find("language").addEventListener("click", () => {
    switchLanguage();
    translate();
  });
  addEventListener("hashchange", route);
  addEventListener("paste", (event) => ask(event.clipboardData.files));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    find("drop").classList.add("over");
  });
  addEventListener("dragleave", () => find("drop").classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    find("drop").classList.remove("over");
    ask(event.dataTransfer.files);
  });
}

listen();
translate();
loadModels();
