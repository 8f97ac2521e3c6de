// Several calls at once, but few, so that other callers are served too.
import { Problem } from "./api.js";

const IN_FLIGHT = 3;
const RETRIES = 20;
const MAX_WAIT_S = 30; // a longer Retry-After is shown as the error that it is

// Call `work(item)` for each item, in order, at most IN_FLIGHT at once.
export async function forEach(items, work) {
  const waiting = [...items];
  const take = async () => {
    for (let item = waiting.shift(); item; item = waiting.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, take));
}

// Call again what was answered 336100, after the seconds in Retry-After. The calls in flight were
// refused together: with the same pause they would meet again.
export async function patiently(call, signal, onWait) {
  for (let left = RETRIES; ; left -= 1) {
    const response = await call();
    const { retryAfter, answer } = response;
    if (answer.error_code !== 336100 || !left || !retryAfter || retryAfter > MAX_WAIT_S) return response;
    onWait(retryAfter);
    await sleep(retryAfter * 1000 * (1 + Math.random()), signal);
  }
}

function sleep(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => reject(new Problem("stopped"));
    if (signal.aborted) return stop();
    setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", stop, { once: true });
  });
}
