"""Classify one image; needs nothing but Python 3."""

import base64
import json
import urllib.request

URL = "http://127.0.0.1:8000/imagenet/ImageClassification"
IMAGE = "photo.jpg"
TOP_NUM = 5
TOKEN = ""

with open(IMAGE, "rb") as file:
    body = {"image": base64.b64encode(file.read()).decode(), "top_num": TOP_NUM}
headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
request = urllib.request.Request(URL, json.dumps(body).encode(), headers)
with urllib.request.urlopen(request) as response:
    answer = json.load(response)

if "error_code" in answer:
    raise SystemExit(f"{answer['error_code']} {answer['error_msg']}, log_id {answer['log_id']}")
for result in answer["results"]:
    print(f"{result['score']:.4f}  {result['name']}")
