// Beside the page: finds ink and frames, so that zooming and typing go on meanwhile.
import {frame, characterSize} from '../framing.js';
import {readInk, shown} from '../ink.js';

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
