// Copying, and saying so only when it is done.
import { button, make } from "./dom.js";
import { text } from "./texts.js";

const SHOWN_MS = 4000;

// navigator.clipboard exists only on https and localhost, and the browser may refuse it.
async function copyText(value) {
  try {
    await navigator.clipboard.writeText(value);
    return true;
  } catch {
    return copySelected(value);
  }
}

function copySelected(value) {
  const area = make("textarea", { class: "offscreen", readonly: true, "aria-hidden": "true", tabindex: "-1" });
  const focused = document.activeElement;
  (document.querySelector("dialog[open]") || document.body).append(area); // outside of a modal dialog nothing has the focus
  area.value = value;
  area.select();
  let done = false;
  try {
    done = document.execCommand("copy");
  } catch {
    // As if refused.
  }
  area.remove();
  focused?.focus();
  return done;
}

// A button that copies what `value` returns, or selects `shown` where the browser does not let it.
export function copyButton(value, shown, attributes = {}) {
  const said = make("span", { class: "copied", role: "status" });
  const copy = button("copy", text("copy"), {
    ...attributes,
    onclick: async () => {
      const done = await copyText(await value());
      said.textContent = text(done ? "copied" : "notCopied");
      if (!done) getSelection().selectAllChildren(shown());
      setTimeout(() => (said.textContent = ""), done ? SHOWN_MS : 3 * SHOWN_MS);
    },
  });
  return make("span", { class: "copy" }, copy, said);
}
