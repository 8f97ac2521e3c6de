// Node 18 or later, without a package: node client.mjs
// With your own certificate authority: NODE_EXTRA_CA_CERTS=ca.pem node client.mjs
import { readFile } from "node:fs/promises";
import { setTimeout } from "node:timers/promises";

const URL = "http://127.0.0.1:8000/imagenet/ImageClassification";
const IMAGE = "photo.jpg";
const TOP_NUM = 5;
const TOKEN = "";

async function classify(image) {
  const response = await fetch(URL, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${TOKEN}` },
    body: JSON.stringify({ image, top_num: TOP_NUM }),
  });
  return [await response.json(), response.headers];
}

const image = (await readFile(IMAGE)).toString("base64");
let [answer, headers] = await classify(image);
if (answer.error_code === 336100) {
  await setTimeout(1000 * headers.get("Retry-After"));
  [answer, headers] = await classify(image);
}

if ("error_code" in answer) {
  const { error_code, error_msg, log_id } = answer;
  console.error(`${error_code} ${error_msg}: ${headers.get("X-Error-Detail")}, log_id ${log_id}`);
  process.exit(1);
}
for (const { name, score } of answer.results) {
  console.log(score.toFixed(4), name);
}
