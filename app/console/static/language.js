// The language of the pages: the chosen one, or else that of the browser.
const KEY = "language";
export const LANGUAGES = ["en", "zh"];

// A browser may deny access to localStorage: then the choice lasts until the page is closed.
export function keptLanguage() {
  try {
    const kept = localStorage.getItem(KEY);
    return LANGUAGES.includes(kept) ? kept : null;
  } catch {
    return null;
  }
}

export function keepLanguage(language) {
  try {
    localStorage.setItem(KEY, language);
  } catch {
    // See keptLanguage.
  }
}

export function browserLanguage() {
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}
