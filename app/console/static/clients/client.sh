#!/bin/sh
# Needs curl and base64.
url='http://127.0.0.1:8000/imagenet/ImageClassification'
image='photo.jpg'
top_num=5
token=''
ca=''  # PEM file of your own certificate authority

head=$(mktemp) || exit 1
trap 'rm -f "$head"' EXIT
base64=$(base64 < "$image") || exit 1

classify() {
  printf '{"image":"%s","top_num":%d}' "$(printf %s "$base64" | tr -d '\n')" "$top_num" |
    curl -sS --max-time 60 --dump-header "$head" --data-binary @- ${ca:+--cacert "$ca"} \
      -H 'Content-Type: application/json' -H "Authorization: Bearer $token" "$url"
}
header() { grep -i "^$1:" "$head" | cut -d' ' -f2- | tr -d '\r'; }

answer=$(classify) || exit 1
if [ "$(header X-Error-Code)" = 336100 ]; then
  sleep "$(header Retry-After)"
  answer=$(classify) || exit 1
fi
case $answer in
  *'"results":'*) printf '%s\n' "$answer" ;;
  *) printf '%s %s\n' "$answer" "$(header X-Error-Detail)" >&2; exit 1 ;;
esac
