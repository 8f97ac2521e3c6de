// Makes a file that the server accepts of any picture that the browser can read.
import { Problem } from "./api.js";

export const MAX_SIDE = 4096; // px
export const MAX_BYTES = 3 * 1024 * 1024; // 4 MiB of base64
const QUALITIES = [0.92, 0.85, 0.75];
const SMALLER = 0.8; // the factor of the sides where no quality is enough
const SHOWN_SIDE = 1024; // px; the page keeps small copies of pictures that may have 12 megapixels
const ACCEPTED = ["JPEG", "PNG", "BMP"];

// The image to send, a small copy to show (null if the browser cannot read the file), and what was changed.
export async function prepare(file) {
  const kind = await kindOf(file);
  // The option is the default, but some browsers turn the image only with it, and older ones refuse it.
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" })
    .catch(() => createImageBitmap(file))
    .catch(() => null);
  if (!bitmap) return { image: unreadable(file, kind), shown: null, size: null, change: null };
  try {
    const { width, height } = bitmap;
    const fits = ACCEPTED.includes(kind) && file.size <= MAX_BYTES && Math.max(width, height) <= MAX_SIDE;
    const shown = await draw(bitmap, SHOWN_SIDE, 0.85);
    if (fits) return { image: file, shown: shown.blob, size: { width, height }, change: null };
    const made = await shrink(bitmap);
    const from = { kind: kind || file.type, width, height, bytes: file.size };
    const to = { kind: "JPEG", width: made.width, height: made.height, bytes: made.blob.size };
    return { image: made.blob, shown: shown.blob, size: { width: made.width, height: made.height }, change: { from, to } };
  } finally {
    bitmap.close();
  }
}

// What the browser cannot read goes to the server, which explains what is wrong with it.
function unreadable(file, kind) {
  if (kind === "HEIC") throw new Problem("heic");
  if (file.size > MAX_BYTES) throw new Problem("tooBig", { size: (file.size / 1e6).toFixed(1) });
  return file;
}

async function shrink(bitmap) {
  for (let side = MAX_SIDE; ; side = Math.floor(side * SMALLER)) {
    for (const quality of QUALITIES) {
      const made = await draw(bitmap, side, quality);
      if (made.blob.size <= MAX_BYTES) return made;
    }
  }
}

async function draw(bitmap, maxSide, quality) {
  const scale = Math.min(1, maxSide / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.fillStyle = "white"; // behind transparent parts, which a jpg cannot have
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0, width, height);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", quality));
  canvas.width = canvas.height = 0; // Safari frees the memory only then
  if (!blob) throw new Problem("tooLarge");
  return { blob, width, height };
}

// The format by the first bytes, as the server does; a file's name says little.
async function kindOf(file) {
  const bytes = new Uint8Array(await file.slice(0, 12).arrayBuffer().catch(() => { throw new Problem("unreadable"); }));
  const head = String.fromCharCode(...bytes);
  if (head.startsWith("\xff\xd8\xff")) return "JPEG";
  if (head.startsWith("\x89PNG")) return "PNG";
  if (head.startsWith("BM")) return "BMP";
  if (head.startsWith("RIFF") && head.endsWith("WEBP")) return "WebP";
  if (/^GIF8/.test(head)) return "GIF";
  if (/^.{4}ftypavi[fs]/s.test(head)) return "AVIF";
  if (/^.{4}ftyp(hei|hev|mif1|msf1)/s.test(head)) return "HEIC";
  return "";
}
