// JSON with line breaks and every number as the server has written it: 1.0 would become 1 in an object.
export function prettyJson(raw) {
  let depth = 0;
  const newLine = () => `\n${"  ".repeat(depth)}`;
  return raw.replace(/"(?:[^"\\]|\\.)*"|[{}[\],:]/g, (token) => {
    if (token === "{" || token === "[") {
      depth += 1;
      return token + newLine();
    }
    if (token === "}" || token === "]") {
      depth -= 1;
      return newLine() + token;
    }
    if (token === ",") return token + newLine();
    return token === ":" ? ": " : token;
  });
}
