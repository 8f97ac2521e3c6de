// Code samples of the request: complete programs in which only the constants are replaced.
const FILES = {
  curl: { file: "client.sh", run: "sh client.sh" },
  Python: { file: "client.py", run: "python3 client.py" },
  Java: { file: "Client.java", run: "java Client.java" },
  "C#": { file: "Client.cs", run: "mcs -r:System.Net.Http.dll Client.cs && mono Client.exe" },
  JavaScript: { file: "client.mjs", run: "node client.mjs" },
  Go: { file: "client.go", run: "go run client.go" },
  PHP: { file: "client.php", run: "php client.php" },
};
const loaded = new Map();

export const languages = Object.keys(FILES);

// The file name of a code sample, and the command that runs it.
export const howToRun = (language) => FILES[language];

export async function codeSample(language, { url, file, topNum, token }) {
  const name = FILES[language].file;
  if (!loaded.has(name)) loaded.set(name, (await fetch(`static/clients/${name}`)).text());
  const code = await loaded.get(name);
  return code
    .replace(/http:\/\/127\.0\.0\.1:8000\/imagenet\/ImageClassification/g, () => url)
    .replace("photo.jpg", () => pictureName(file))
    .replace(/(top_?num\s*=\s*)5/i, (_, before) => before + topNum)
    .replace(/(token\s*=\s*)(['"])\2/i, (_, before, quote) => before + quote + plain(token, "") + quote);
}

export const pictureName = (file) => plain(file, "photo.jpg");

// A text that needs no escaping in any of the languages, or else the fallback.
function plain(value, fallback) {
  return value && !/["'`\\$\p{Cc}]/u.test(value) ? value : fallback;
}
