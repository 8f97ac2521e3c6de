// Helpers for the document.
export const find = (id) => document.getElementById(id);

// Make an element with attributes and children, which are elements or strings.
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function table(rows, caption, kind = "") {
  const body = rows.map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, value)));
  return make("table", { class: kind }, make("caption", {}, caption), make("tbody", {}, ...body));
}
