#!/bin/sh
# Needs curl and base64.
url='http://127.0.0.1:8000/imagenet/ImageClassification'
image='photo.jpg'
top_num=5
token=''

printf '{"image":"%s","top_num":%d}' "$(base64 < "$image" | tr -d '\n')" "$top_num" |
  curl -sS --data-binary @- \
    -H 'Content-Type: application/json' -H "Authorization: Bearer $token" "$url"
