// The request as programs, from files that run as they are; only their constants change.
const FILES = {
  curl: "client.sh",
  Python: "client.py",
  Java: "Client.java",
  "C#": "Client.cs",
  JavaScript: "client.mjs",
  Go: "client.go",
  PHP: "client.php",
};
const loaded = new Map();

export const languages = Object.keys(FILES);

export async function program(language, { url, file, topNum, token }) {
  const name = FILES[language];
  if (!loaded.has(name)) loaded.set(name, (await fetch(`/static/clients/${name}`)).text());
  const code = await loaded.get(name);
  return code
    .replace(/http:\/\/127\.0\.0\.1:8000\/imagenet\/ImageClassification/g, () => url)
    .replace("photo.jpg", () => plain(file, "photo.jpg"))
    .replace(/(top_?num\s*=\s*)5/i, (_, before) => before + topNum)
    .replace(/(token\s*=\s*)(['"])\2/i, (_, before, quote) => before + quote + plain(token, "") + quote);
}

// A text that no language's string needs to escape, or another one in its place.
function plain(value, otherwise) {
  return value && !/["'`\\$\p{Cc}]/u.test(value) ? value : otherwise;
}
