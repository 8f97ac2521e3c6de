// The request as programs, from files that run as they are; only their constants change.
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

// The file to save the program in, and the command that runs it there.
export const howToRun = (language) => FILES[language];

export async function program(language, { url, file, topNum, token }) {
  const name = FILES[language].file;
  if (!loaded.has(name)) loaded.set(name, (await fetch(`/static/clients/${name}`)).text());
  const code = await loaded.get(name);
  return code
    .replace(/http:\/\/127\.0\.0\.1:8000\/imagenet\/ImageClassification/g, () => url)
    .replace("photo.jpg", () => pictureName(file))
    .replace(/(top_?num\s*=\s*)5/i, (_, before) => before + topNum)
    .replace(/(token\s*=\s*)(['"])\2/i, (_, before, quote) => before + quote + plain(token, "") + quote);
}

export const pictureName = (file) => plain(file, "photo.jpg");

// A text that no language's string needs to escape, or another one in its place.
function plain(value, otherwise) {
  return value && !/["'`\\$\p{Cc}]/u.test(value) ? value : otherwise;
}
