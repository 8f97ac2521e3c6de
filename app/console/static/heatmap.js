// The heat map over a photo: bright where the score of a class depends on the image.
import { make } from "./dom.js";

// Dark violet to yellow, of the same hues for most colour-blind people; the legend in style.css has the same stops.
const STOPS = [[13, 8, 60], [126, 3, 168], [204, 71, 120], [248, 149, 64], [252, 253, 120]];
const SIDE = 512; // px of the longer side of the drawn map
const ALPHA = [0.45, 0.8]; // of the coldest and the hottest part

function colour(heat) {
  const place = Math.min(1, Math.max(0, heat)) * (STOPS.length - 1);
  const index = Math.min(STOPS.length - 2, Math.floor(place));
  const share = place - index;
  return STOPS[index].map((from, channel) => from + (STOPS[index + 1][channel] - from) * share);
}

// Draw rows x cols numbers from 0 to 1 over the whole image, smoothly.
export function drawHeat(canvas, { rows, cols, heat }, ratio) {
  const grid = make("canvas", { width: cols, height: rows });
  const pixels = new ImageData(cols, rows);
  heat.flat().forEach((value, index) => {
    const alpha = ALPHA[0] + (ALPHA[1] - ALPHA[0]) * value;
    pixels.data.set([...colour(value), alpha * 255], index * 4);
  });
  grid.getContext("2d").putImageData(pixels, 0, 0);
  canvas.width = ratio >= 1 ? SIDE : Math.round(SIDE * ratio);
  canvas.height = ratio >= 1 ? Math.round(SIDE / ratio) : SIDE;
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(grid, 0, 0, canvas.width, canvas.height);
}
