// The language of the pages: the one chosen, else the browser's.
const KEY = "language";
export const LANGUAGES = ["en", "zh"];

// A browser may forbid pages to keep anything: then the choice lasts as long as the page.
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
    // Said above.
  }
}

export function browserLanguage() {
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}
