// Sample pictures of the chosen model: one click classifies one of them.
import { fetchSample } from "./api.js";
import { find, make } from "./dom.js";
import { token } from "./form.js";
import { text } from "./texts.js";

let shown = { digest: "", urls: [] };

// Show the samples of a model; `classify` gets the file of the one that is clicked.
export async function showSamples(model, classify) {
  const digest = model?.digest || "";
  if (shown.digest === digest) return;
  const loading = { digest, urls: [] };
  for (const url of shown.urls) URL.revokeObjectURL(url);
  shown = loading;
  find("samples").replaceChildren();
  find("samples-part").hidden = !model;
  if (!model) return;
  const blobs = await Promise.all(Array.from({ length: model.samples }, (_, index) => fetchSample(model.name, index, token())));
  if (shown !== loading) return; // another model was chosen meanwhile
  const buttons = blobs.filter(Boolean).map((blob, index) => makeButton(blob, index, loading.urls, classify));
  find("samples").replaceChildren(...buttons);
  find("samples-part").hidden = !buttons.length;
}

function makeButton(blob, index, urls, classify) {
  const url = URL.createObjectURL(blob);
  urls.push(url);
  const file = new File([blob], `sample-${index + 1}.${blob.type.split("/")[1] || "jpg"}`, { type: blob.type });
  const attributes = { type: "button", class: "sample", "data-number": index + 1, onclick: () => classify([file]) };
  return make("button", attributes, make("img", { src: url, alt: text("sample", { number: index + 1 }) }));
}

export function translateSamples() {
  for (const sample of find("samples").children) sample.firstElementChild.alt = text("sample", { number: sample.dataset.number });
}
