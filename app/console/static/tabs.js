// The tabs beside the form: results and code sample.
import { find } from "./dom.js";

const NAMES = ["results", "code"];

export function showTab(shown) {
  for (const name of NAMES) {
    const tab = find(`tab-${name}`);
    tab.setAttribute("aria-selected", String(name === shown));
    tab.tabIndex = name === shown ? 0 : -1;
    find(`panel-${name}`).hidden = name !== shown;
  }
}

export function listenToTabs() {
  for (const [index, name] of NAMES.entries()) {
    const other = NAMES[1 - index];
    find(`tab-${name}`).addEventListener("click", () => showTab(name));
    find(`tab-${name}`).addEventListener("keydown", ({ key }) => {
      if (key !== "ArrowLeft" && key !== "ArrowRight") return;
      showTab(other);
      find(`tab-${other}`).focus();
    });
  }
}
