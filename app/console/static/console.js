// The console: connects the parts of the page.
import { classify, classifyUrl, fetchModels, fetchPreview, toBase64 } from "./api.js";
import { codeSample, howToRun, languages, pictureName } from "./clients.js";
import { find, make } from "./dom.js";
import { showModel } from "./models.js";
import { showResult } from "./results.js";
import { language, switchLanguage, text } from "./texts.js";

const MIB = 1024 * 1024;
const MAX_SENT_BYTES = 20 * MIB; // far above the limit, so that the server explains smaller excesses

let models = [];
let results = []; // newest first
let lastFile = "photo.jpg";
let queue = Promise.resolve();
let code = Promise.resolve(""); // of the language chosen last

function translate() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = text(element.dataset.text);
  for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", text(element.dataset.label));
  find("language").textContent = text("otherLanguage");
  find("language").lang = language === "zh" ? "en" : "zh-CN";
  find("to-docs").href = `docs?lang=${language}`;
  find("results").replaceChildren(...results.map(showResult));
  route();
  showCodeSample();
}

// #/model/NAME is the page of a model, #/try/NAME the form with that model selected.
function route() {
  const [, page, wanted] = location.hash.split("/");
  const model = models.find(({ name }) => name === wanted);
  const shown = page === "model" ? model : undefined;
  find("try").hidden = Boolean(shown);
  find("model").hidden = !shown;
  if (shown) find("model").replaceChildren(...showModel(shown));
  if (page === "try" && model && find("name").value !== model.name) {
    find("name").value = model.name;
    showCodeSample();
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
  if (find("token") && !token()) return showStatus(text("tokenNeeded"));
  const found = await fetchModels(token()).catch(() => ({ error_code: 0 }));
  models = found.models || [];
  find("models").replaceChildren(...models.map(({ name }) => make("a", { href: `#/model/${name}` }, name)));
  find("name").replaceChildren(...models.map(({ name }) => make("option", {}, name)));
  if ("error_code" in found) showStatus(text(found.error_code ? "tokenNeeded" : "unreachable"));
  else if (!models.length) showStatus(text("none"));
  else showStatus(found.broken.length ? text("broken", { names: found.broken.join(", ") }) : "");
  route();
  showCodeSample();
}

const token = () => find("token")?.value.trim() || ""; // the field exists if access_tokens is on
const topNum = () => Number.parseInt(find("top-num").value, 10) || 0;

function showStatus(message) {
  find("status").textContent = message;
}

function classifyFiles(files) {
  const chosen = [...files];
  if (!find("name").value) return loadModels(); // shows why there is no model
  queue = queue.then(async () => {
    let failed = 0;
    for (const [position, file] of chosen.entries()) {
      showStatus(text("busy", { file: file.name, index: position + 1, count: chosen.length }));
      const result = await classifyFile(file);
      failed += "error_code" in result.answer ? 1 : 0;
      results.unshift(result);
      find("results").prepend(showResult(result));
      lastFile = file.name;
    }
    if (chosen.length) showStatus(text("done", { right: chosen.length - failed, failed }));
    showCodeSample();
  });
}

async function classifyFile(file) {
  const name = find("name").value;
  const result = { file: file.name, name, original: URL.createObjectURL(file), preview: null, stages: [], total: 0, detail: "" };
  if (file.size > MAX_SENT_BYTES) {
    const size = (file.size / MIB).toFixed(1);
    return { ...result, detail: text("tooBig", { size }), answer: { error_code: 336004, error_msg: "" } };
  }
  try {
    const image = await toBase64(file);
    const response = await classify(name, image, topNum(), token());
    const preview = "error_code" in response.answer ? null : await fetchPreview(name, image, token());
    return { ...result, ...response, preview };
  } catch {
    return { ...result, detail: text("unreachableTodo"), answer: { error_code: "", error_msg: text("unreachable") } };
  }
}

async function showCodeSample() {
  const url = classifyUrl(find("name").value || "NAME");
  const run = howToRun(find("client").value);
  find("how-to-run").textContent = text("howToRun", { ...run, picture: pictureName(lastFile) });
  find("copied").textContent = "";
  const chosen = codeSample(find("client").value, { url, file: lastFile, topNum: topNum() || 6, token: token() });
  code = chosen;
  const written = await chosen;
  if (code === chosen) find("code").textContent = written; // else another language was chosen meanwhile
}

// navigator.clipboard exists only on https and localhost, but the server is often called by IP address over http.
async function copy() {
  const written = await code; // the page may still show the previous language
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
    classifyFiles(event.target.files);
    event.target.value = ""; // so that the same file can be chosen again
  });
  find("form").addEventListener("submit", (event) => event.preventDefault());
  find("token")?.addEventListener("change", loadModels);
  for (const id of ["name", "top-num", "client"]) find(id).addEventListener("change", showCodeSample);
  find("copy").addEventListener("click", copy);
  find("language").addEventListener("click", () => {
    switchLanguage();
    translate();
    showStatus(find("token") && !token() ? text("tokenNeeded") : ""); // drops a message in the other language
  });
  addEventListener("hashchange", route);
  addEventListener("paste", (event) => classifyFiles(event.clipboardData.files));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    find("drop").classList.add("over");
  });
  addEventListener("dragleave", () => find("drop").classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    find("drop").classList.remove("over");
    classifyFiles(event.dataTransfer.files);
  });
}

listen();
translate();
loadModels();
