// Node 18 or later, without a package: node client.mjs
import { readFile } from "node:fs/promises";

const URL = "http://127.0.0.1:8000/imagenet/ImageClassification";
const IMAGE = "photo.jpg";
const TOP_NUM = 5;
const TOKEN = "";

const image = (await readFile(IMAGE)).toString("base64");
const response = await fetch(URL, {
  method: "POST",
  headers: { "Content-Type": "application/json", Authorization: `Bearer ${TOKEN}` },
  body: JSON.stringify({ image, top_num: TOP_NUM }),
});
const answer = await response.json();

if ("error_code" in answer) {
  throw new Error(`${answer.error_code} ${answer.error_msg}, log_id ${answer.log_id}`);
}
for (const { name, score } of answer.results) {
  console.log(score.toFixed(4), name);
}
