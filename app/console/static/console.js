// The console: joins the page's parts.
import { classify, fetchModels, preview, toBase64 } from "./api.js";
import { howToRun, languages, pictureName, program } from "./clients.js";
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
let code = Promise.resolve(""); // of the program that was chosen last

function translate() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = text(element.dataset.text);
  for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", text(element.dataset.label));
  find("language").textContent = text("otherLanguage");
  find("language").lang = language === "zh" ? "en" : "zh-CN";
  find("to-docs").href = `/docs?lang=${language}`;
  find("results").replaceChildren(...results.map(showResult));
  route();
  showProgram();
}

// #/model/NAME is the page of a model, #/try/NAME the form with it chosen.
function route() {
  const [, page, wanted] = location.hash.split("/");
  const model = models.find(({ name }) => name === wanted);
  const shown = page === "model" ? model : undefined;
  find("try").hidden = Boolean(shown);
  find("model").hidden = !shown;
  if (shown) find("model").replaceChildren(...showModel(shown));
  if (page === "try" && model && find("name").value !== model.name) {
    find("name").value = model.name;
    showProgram();
  }
  document.title = shown ? `${shown.name} · classifyd` : "classifyd";
  markCurrent(shown ? `#/model/${shown.name}` : "#/");
}

function markCurrent(address) {
  for (const link of document.querySelectorAll("header nav a")) {
    if (link.getAttribute("href") === address) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

async function loadModels() {
  if (find("token") && !token()) return say(text("tokenNeeded"));
  const found = await fetchModels(token()).catch(() => ({ error_code: 0 }));
  models = found.models || [];
  find("models").replaceChildren(...models.map(({ name }) => make("a", { href: `#/model/${name}` }, name)));
  find("name").replaceChildren(...models.map(({ name }) => make("option", {}, name)));
  if ("error_code" in found) say(text(found.error_code ? "tokenNeeded" : "unreachable"));
  else if (!models.length) say(text("none"));
  else say(found.broken.length ? text("broken", { names: found.broken.join(", ") }) : "");
  route();
  showProgram();
}

const token = () => find("token")?.value.trim() || ""; // the field is there when tokens are on
const topNum = () => Number.parseInt(find("top-num").value, 10) || 0;

function say(message) {
  find("status").textContent = message;
}

function ask(files) {
  const chosen = [...files];
  if (!find("name").value) return loadModels(); // which says why there is nobody to ask
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
    if (chosen.length) say(text("done", { right: chosen.length - failed, failed }));
    showProgram();
  });
}

async function askAbout(file) {
  const name = find("name").value;
  const result = { file: file.name, name, original: URL.createObjectURL(file), seen: null, stages: [], total: 0, detail: "" };
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
  const run = howToRun(find("client").value);
  find("how-to-run").textContent = text("howToRun", { ...run, picture: pictureName(lastFile) });
  find("copied").textContent = "";
  const chosen = program(find("client").value, { url, file: lastFile, topNum: topNum() || 6, token: token() });
  code = chosen;
  const written = await chosen;
  if (code === chosen) find("code").textContent = written; // else another was chosen meanwhile
}

// navigator.clipboard exists on https and localhost only, and servers are reached by address.
async function copy() {
  const written = await code; // what is on the page may be what was chosen before
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(written);
  } else {
    getSelection().selectAllChildren(find("code"));
    document.execCommand("copy");
  }
  find("copied").textContent = text("copied");
}

function listen() {
  find("client").replaceChildren(...languages.map((name) => make("option", {}, name)));
  find("files").addEventListener("change", (event) => {
    ask(event.target.files);
    event.target.value = ""; // so that the same picture can be chosen again
  });
  find("form").addEventListener("submit", (event) => event.preventDefault());
  find("token")?.addEventListener("change", loadModels);
  for (const id of ["name", "top-num", "client"]) find(id).addEventListener("change", showProgram);
  find("copy").addEventListener("click", copy);
  find("language").addEventListener("click", () => {
    switchLanguage();
    translate();
    say(find("token") && !token() ? text("tokenNeeded") : ""); // what stood there was in the other language
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
