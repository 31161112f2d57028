/* Pictures of the explorer: canvases computed from the images of the page. */
"use strict";

const pictures = (() => {
  function blank(width, height) {
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width, height });
    return canvas;
  }

  async function canvasOf(uri) {
    const image = new Image();
    image.src = uri;
    await image.decode();
    const canvas = blank(image.naturalWidth, image.naturalHeight);
    canvas.getContext("2d", { willReadFrequently: true }).drawImage(image, 0, 0);
    return canvas;
  }

  /** The clean image plus the changes, which are given in levels around middle grey. */
  function changed(clean, change, largest, { grey, step, count }) {
    const canvas = blank(clean.width, clean.height);
    const context = canvas.getContext("2d");
    const pixels = clean.getContext("2d").getImageData(0, 0, clean.width, clean.height);
    const added = change.getContext("2d").getImageData(0, 0, clean.width, clean.height).data;
    const unit = (255 * largest) / (step * count);
    pixels.data.forEach((value, place, data) => {
      if (place % 4 < 3) data[place] = value + (added[place] - grey) * unit;
    });
    context.putImageData(pixels, 0, 0);
    return canvas;
  }

  function copied(canvas, over, opacity) {
    const copy = blank(canvas.width, canvas.height);
    const context = copy.getContext("2d");
    context.drawImage(canvas, 0, 0);
    if (over && opacity > 0) {
      context.globalAlpha = opacity;
      context.drawImage(over, 0, 0);
    }
    return copy;
  }

  /** The left part of one picture and the right part of another, enlarged so that the line between them is thin. */
  function wiped(left, right, share) {
    const scale = Math.max(1, Math.round(480 / left.width));
    const canvas = blank(scale * left.width, scale * left.height);
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    const x = Math.round(share * left.width);
    const rest = left.width - x;
    context.drawImage(left, 0, 0, canvas.width, canvas.height);
    if (rest > 0) {
      context.drawImage(right, x, 0, rest, left.height, scale * x, 0, scale * rest, canvas.height);
    }
    context.fillStyle = "#ff5c4d";
    context.fillRect(Math.min(scale * x, canvas.width - 2), 0, 2, canvas.height);
    return canvas;
  }

  /** A label map, whose background is transparent, on black. */
  function onBlack(labels) {
    const canvas = blank(labels.width, labels.height);
    const context = canvas.getContext("2d");
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(labels, 0, 0);
    return canvas;
  }

  function figure(canvas, caption) {
    const element = document.createElement("figure");
    const words = document.createElement("figcaption");
    words.textContent = caption;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", caption);
    element.append(canvas, words);
    return element;
  }

  return { canvasOf, changed, copied, wiped, onBlack, figure };
})();
