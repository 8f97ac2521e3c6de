// Requests to the server. All addresses are relative to the page: a proxy may serve it under a prefix.
export const classifyUrl = (name) => new URL(`./${encodeURIComponent(name)}/ImageClassification`, document.baseURI).href;

const headersWith = (token) => ({
  "Content-Type": "application/json",
  ...(token ? { Authorization: `Bearer ${token}` } : {}),
});

export function toBase64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

export async function fetchModels(token) {
  const response = await fetch("console/models", { headers: headersWith(token) });
  return response.json();
}

// The answer, details from its headers, and the milliseconds measured in the browser.
export async function classify(name, image, topNum, token) {
  const started = performance.now();
  const body = JSON.stringify(topNum ? { image, top_num: topNum } : { image });
  const response = await fetch(classifyUrl(name), {
    method: "POST",
    headers: headersWith(token),
    body,
  });
  const answer = await response.json();
  return {
    answer,
    detail: response.headers.get("X-Error-Detail") || "",
    version: response.headers.get("X-Model-Version") || "",
    stages: parseTiming(response.headers.get("Server-Timing") || ""),
    total: performance.now() - started,
  };
}

function parseTiming(header) {
  return [...header.matchAll(/([\w-]+);dur=([\d.]+)/g)].map((match) => [match[1], match[2]]);
}

// The URL of the image as the model sees it, or null if the server cannot decode it.
export async function fetchPreview(name, image, token) {
  const response = await fetch(`console/preview/${encodeURIComponent(name)}`, {
    method: "POST",
    headers: headersWith(token),
    body: JSON.stringify({ image }),
  });
  return response.ok ? URL.createObjectURL(await response.blob()) : null;
}
