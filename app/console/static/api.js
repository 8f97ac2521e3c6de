// Requests to the server. All addresses are relative to the page: a proxy may serve it under a prefix.
const API_END = "ImageClassification";

export const classifyUrl = (name) => new URL(`./${encodeURIComponent(name)}/${API_END}`, document.baseURI).href;

const headersWith = (token) => ({
  "Content-Type": "application/json",
  ...(token ? { Authorization: `Bearer ${token}` } : {}),
});

export function toBase64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

// A failure in front of the server: `key` names its text, `values` fill it in.
export class Problem extends Error {
  constructor(key, values = {}) {
    super(key);
    this.key = key;
    this.values = values;
  }
}

// Send a request and read its JSON.
async function request(path, { token, body, signal } = {}) {
  let response;
  let raw;
  try {
    const method = body ? { method: "POST", body: JSON.stringify(body) } : {};
    response = await fetch(path, { headers: headersWith(token), signal, ...method });
    raw = await response.text();
  } catch (error) {
    throw new Problem(error.name === "AbortError" ? "stopped" : "unreachable");
  }
  try {
    return { response, raw, answer: JSON.parse(raw) };
  } catch {
    throw new Problem("notJson", { status: response.status }); // a proxy's own page
  }
}

// The answer, with its error_code and detail where it is an error.
async function read(path, token) {
  const { response, answer } = await request(path, { token });
  return { detail: response.headers.get("X-Error-Detail") || "", ...answer };
}

export const fetchModels = (token) => read("console/models", token);
export const fetchModel = (name, token) => read(`console/models/${encodeURIComponent(name)}`, token);
export const fetchStatus = (token) => read("console/status", token);

// The answer as sent and parsed, what its headers say, and the milliseconds measured in the browser.
async function call(path, options) {
  const started = performance.now();
  const { response, raw, answer } = await request(path, options);
  const header = (name) => response.headers.get(name) || "";
  return {
    answer,
    raw,
    status: response.status,
    headers: [...response.headers].map(([name, value]) => `${name}: ${value}`).join("\n"),
    detail: header("X-Error-Detail"),
    version: header("X-Model-Version"),
    retryAfter: Number.parseInt(header("Retry-After"), 10) || 0,
    stages: parseTiming(header("Server-Timing")),
    total: performance.now() - started,
  };
}

const parseTiming = (header) => [...header.matchAll(/([\w-]+);dur=([\d.]+)/g)].map((match) => [match[1], Number(match[2])]);

export function classify(name, image, topNum, token, signal) {
  const body = topNum ? { image, top_num: topNum } : { image };
  return call(`${encodeURIComponent(name)}/${API_END}`, { token, body, signal });
}

// Which parts of the image the score of a label depends on.
export const fetchHeatmap = (name, image, label, token) =>
  call(`${encodeURIComponent(name)}/${API_END}/heatmap`, { token, body: { image, label } });

async function fetchBlob(path, options) {
  const response = await fetch(path, options).catch(() => null);
  return response?.ok ? response.blob() : null;
}

// The image as the model sees it; null if the server cannot decode it.
export const fetchPreview = (name, image, token) =>
  fetchBlob(`console/preview/${encodeURIComponent(name)}`, { method: "POST", headers: headersWith(token), body: JSON.stringify({ image }) });

export const fetchSample = (name, index, token) => fetchBlob(`console/samples/${encodeURIComponent(name)}/${index}`, { headers: headersWith(token) });
