"""Classify one image; needs nothing but Python 3."""

import base64
import json
import ssl
import sys
import time
import urllib.error
import urllib.request

URL = "http://127.0.0.1:8000/imagenet/ImageClassification"
IMAGE = "photo.jpg"
TOP_NUM = 5
TOKEN = ""
CA = ""  # PEM file of your own certificate authority

TRUST = ssl.create_default_context(cafile=CA or None)


def classify(image):
    """Return the answer, and the headers of its HTTP response."""
    body = {"image": base64.b64encode(image).decode(), "top_num": TOP_NUM}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
    request = urllib.request.Request(URL, json.dumps(body).encode(), headers)
    try:
        response = urllib.request.urlopen(request, timeout=60, context=TRUST)
    except urllib.error.HTTPError as error:
        response = error  # with http_status = rest; the answer is in its body
    with response:
        return json.load(response), response.headers


with open(IMAGE, "rb") as file:
    image = file.read()
answer, headers = classify(image)
if answer.get("error_code") == 336100:
    time.sleep(int(headers["Retry-After"]))
    answer, headers = classify(image)

if "error_code" in answer:
    detail = headers["X-Error-Detail"]
    sys.exit(f"{answer['error_code']} {answer['error_msg']}: {detail}, log_id {answer['log_id']}")
for result in answer["results"]:
    print(f"{result['score']:.4f}  {result['name']}")
