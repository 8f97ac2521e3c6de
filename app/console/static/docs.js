// Optional: makes the page follow the language chosen in the console.
import { keepLanguage, keptLanguage, LANGUAGES } from "./language.js";

const asked = new URLSearchParams(location.search).get("lang");
const kept = keptLanguage();
if (LANGUAGES.includes(asked)) keepLanguage(asked);
else if (kept && !document.documentElement.lang.startsWith(kept)) location.replace(`?lang=${kept}${location.hash}`);
