// What the form says.
import { find } from "./dom.js";

export const token = () => find("token")?.value.trim() || ""; // the field exists if access_tokens is on
export const topNum = () => Number.parseInt(find("top-num").value, 10) || 0;
export const modelName = () => find("name").value;

// The deploy names to ask: the chosen one, and the one beside it.
export const chosenModels = () => [...new Set([find("name").value, find("beside").value].filter(Boolean))];
