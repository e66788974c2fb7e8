// Beside the page: finds ink and frames, so that zooming and typing go on meanwhile.
import {frame, characterSize} from '../framing.js';
import {readInk} from '../ink.js';

let page = null, size = 0;

onmessage = ({data: {id, ask, ...values}}) => {
  try {
    postMessage({id, answer: ANSWERS[ask](values)});
  } catch (error) {
    postMessage({id, error: String(error)});
  }
};

const ANSWERS = {
  /** A page, reduced: its ink is kept here. */
  page({raster, colour}) {
    page = readInk(raster, {colour: colour ? 'out' : 'kept'});
    size = characterSize(page);
    return {size, shown: shown(page)};
  },
  frame: ({x, y}) => page && frame(page, x, y, size),
  /** A part of the page in its full size, around a click: finer than what is kept. */
  near: ({raster, colour, x, y, size: known}) => frame(readInk(raster, {colour: colour ? 'out' : 'kept'}), x, y, known),
};

/** Ink in grey on white. */
function shown({width, height, ink}) {
  const data = new Uint8ClampedArray(4 * width * height);
  for (let at = 0; at < ink.length; at++) {
    data[4 * at] = data[4 * at + 1] = data[4 * at + 2] = 255 - ink[at];
    data[4 * at + 3] = 255;
  }
  return {width, height, data};
}
