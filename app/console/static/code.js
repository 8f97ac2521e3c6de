// The code sample: the request that the form describes, as a program.
import { classifyUrl } from "./api.js";
import { codeSample, howToRun, languages, pictureName } from "./clients.js";
import { copyButton } from "./clipboard.js";
import { find, make } from "./dom.js";
import { modelName, token, topNum } from "./form.js";
import { text } from "./texts.js";

let picture = "photo.jpg";
let code = Promise.resolve(""); // of the language chosen last

export function usePicture(name) {
  picture = name;
  showCodeSample();
}

export async function showCodeSample() {
  const url = classifyUrl(modelName() || "NAME");
  const client = find("client").value;
  find("how-to-run").textContent = text("howToRun", { ...howToRun(client), picture: pictureName(picture) });
  find("copy-code").replaceChildren(copyButton(() => code, () => find("code"), { id: "copy" })); // the page may still show the previous language
  const chosen = codeSample(client, { url, file: picture, topNum: topNum() || 6, token: token() });
  code = chosen;
  const written = await chosen;
  if (code === chosen) find("code").textContent = written; // else another language was chosen meanwhile
}

export function listenToCode() {
  find("client").replaceChildren(...languages.map((name) => make("option", {}, name)));
  find("client").addEventListener("change", showCodeSample);
}
