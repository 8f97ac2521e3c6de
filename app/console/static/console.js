// The console: connects the parts of the page.
import { fetchModels, Problem } from "./api.js";
import { listenToCode, showCodeSample, usePicture } from "./code.js";
import { find, make } from "./dom.js";
import { chosenModels, modelName, token } from "./form.js";
import { showList, showModel } from "./models.js";
import { listenToDialog } from "./results.js";
import { addRun, askAgain, clearRuns, isEmpty, newestRun, showRunsAgain } from "./runs.js";
import { showSamples, translateSamples } from "./samples.js";
import { showStatusLine, startStatus, updateStatus } from "./status.js";
import { listenToTabs, showTab } from "./tabs.js";
import { language, switchLanguage, text } from "./texts.js";

const ONE_COLUMN = matchMedia("(max-width: 56rem)"); // as in style.css

let models = [];
let message = () => ""; // above the results, in the language that is chosen

function translate() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = text(element.dataset.text);
  for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", text(element.dataset.label));
  find("language").textContent = text("otherLanguage");
  find("language").lang = language === "zh" ? "en" : "zh-CN";
  find("to-docs").href = `docs?lang=${language}`;
  if (find("to-manual")) find("to-manual").href = `manual/?lang=${language}`;
  find("status").textContent = message();
  showRunsAgain();
  translateSamples();
  showStatusLine();
  route();
  showCodeSample();
}

// #/models is the list, #/model/NAME the page of a model, #/try/NAME the form with that model selected.
function route() {
  const [, page, wanted] = location.hash.split("/");
  const model = models.find(({ name }) => name === wanted);
  const shown = page === "models" ? "list" : page === "model" && model ? "model" : "try";
  for (const id of ["try", "list", "model"]) find(id).hidden = id !== shown;
  find("list").replaceChildren(...(shown === "list" ? showList(models) : []));
  find("model").replaceChildren(...(shown === "model" ? showModel(model) : []));
  if (page === "try" && model && modelName() !== model.name) {
    find("name").value = model.name;
    modelChanged();
  }
  document.title = { try: "classifyd", list: `${text("models")} · classifyd`, model: `${model?.name} · classifyd` }[shown];
  for (const [id, current] of [["to-try", shown === "try"], ["to-models", shown !== "try"]]) {
    if (current) find(id).setAttribute("aria-current", "page");
    else find(id).removeAttribute("aria-current");
  }
}

async function loadModels() {
  if (find("token") && !token()) return useModels([], "tokenNeeded");
  const found = await fetchModels(token()).catch((error) => error);
  if (found instanceof Problem) return useModels([], found.key, found.values);
  if ("error_code" in found) return useModels([], "tokenWrong", { detail: found.detail });
  if (!found.models.length) return useModels([], "none");
  return useModels(found.models, found.broken.length ? "broken" : "", { names: found.broken.join(", ") });
}

// Load the models again when the server has others than the page.
function follow(serving) {
  const shown = Object.fromEntries(models.map(({ name, version }) => [name, version]));
  const names = new Set([...Object.keys(serving), ...Object.keys(shown)]);
  if ([...names].some((name) => serving[name]?.version !== shown[name])) loadModels();
}

function useModels(found, key, values) {
  models = found;
  const names = models.map(({ name }) => name);
  const options = () => names.map((name) => make("option", {}, name));
  const [chosen, beside] = [modelName(), find("beside").value];
  find("name").replaceChildren(...options());
  find("beside").replaceChildren(make("option", { value: "", "data-text": "noModel" }, text("noModel")), ...options());
  if (names.includes(chosen)) find("name").value = chosen;
  if (names.includes(beside)) find("beside").value = beside;
  find("beside-field").hidden = names.length < 2;
  find("token")?.setAttribute("aria-invalid", String(key === "tokenWrong"));
  showMessage(() => (key ? text(key, values) : ""), Boolean(key));
  route();
  modelChanged();
  updateStatus();
}

function modelChanged() {
  const model = models.find(({ name }) => name === modelName());
  showSamples(model, classify);
  showCodeSample();
}

function showMessage(said, isProblem = false) {
  message = said;
  find("status").textContent = message();
  find("status").classList.toggle("problem", isProblem);
}

function classifyFiles(files) {
  if (!files.length) return;
  usePicture(files[0].name);
  classify([...files]);
}

async function classify(files) {
  if (!modelName()) return loadModels(); // shows why there is no model
  if (find("try").hidden) {
    location.hash = `#/try/${location.hash.split("/")[2] || modelName()}`;
    route();
  }
  showTab("results");
  const run = addRun(files, chosenModels());
  runsChanged();
  if (ONE_COLUMN.matches) find("panel-results").scrollIntoView();
  await run;
  showMessage(() => text("done", { count: files.length }));
  updateStatus();
  return undefined;
}

// The newest results show what the form says; earlier ones stay as they are.
async function askNewest(change) {
  const run = newestRun();
  if (!run) return;
  const [first, ...others] = run.models;
  const second = change === "beside" ? [find("beside").value].filter((name) => name && name !== first) : others;
  await askAgain(run, [first, ...second]);
  showMessage(() => text("askedAgain"));
}

function runsChanged() {
  find("empty").hidden = !isEmpty();
  find("history").hidden = isEmpty();
  if (isEmpty()) showMessage(() => "");
}

function listen() {
  listenToCode();
  listenToDialog();
  listenToTabs();
  find("files").addEventListener("change", (event) => {
    classifyFiles(event.target.files);
    event.target.value = ""; // so that the same file can be chosen again
  });
  find("form").addEventListener("submit", (event) => event.preventDefault());
  find("token")?.addEventListener("change", loadModels);
  find("name").addEventListener("change", modelChanged);
  find("top-num").addEventListener("change", () => {
    showCodeSample();
    askNewest("top_num");
  });
  find("beside").addEventListener("change", () => askNewest("beside"));
  find("clear").addEventListener("click", clearRuns);
  find("language").addEventListener("click", () => {
    switchLanguage();
    translate();
  });
  document.addEventListener("runs", runsChanged);
  addEventListener("hashchange", route);
  addEventListener("paste", (event) => classifyFiles(event.clipboardData.files));
  listenToDrops();
}

function listenToDrops() {
  const mark = (over) => document.body.classList.toggle("over", over);
  addEventListener("dragover", (event) => {
    event.preventDefault();
    mark(true);
  });
  addEventListener("dragleave", (event) => event.relatedTarget || mark(false));
  addEventListener("drop", (event) => {
    event.preventDefault();
    mark(false);
    classifyFiles(event.dataTransfer.files);
  });
}

listen();
translate();
loadModels();
startStatus(follow);
