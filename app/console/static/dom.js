// Helpers for the document.
export const find = (id) => document.getElementById(id);

// Make an element with attributes, listeners (onclick: function) and children, which are elements or strings.
// An attribute that is false, null or undefined is left out; a child that is empty too.
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child || child === 0));
  return element;
}

// The icons are templates of the page: as elements of a script they would need a namespace.
export const icon = (name) => find(`icon-${name}`).content.firstElementChild.cloneNode(true);

export const button = (name, label, attributes = {}) =>
  make("button", { type: "button", class: "button", ...attributes }, name && icon(name), make("span", {}, label));

export function table(rows, caption, kind = "") {
  const body = rows.map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, value)));
  return make("table", { class: kind }, caption && make("caption", {}, caption), make("tbody", {}, ...body));
}
