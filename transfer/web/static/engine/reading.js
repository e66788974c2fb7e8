// One 64x64 image -> the answer that the server would give (transfer/web/__init__.py): candidates, verdict, pictures and drawings. The way
// is that of transfer/inference/pipeline.py.
import {inkNumbers} from './inknumbers.js';
import {categorical, foldIn, key} from './random.js';
import {paint, see} from './seeing.js';
import {draw} from './strokes.js';
import {svgOf} from './svg.js';

const CELLS = 4096;
const FAR = 1e6; // log odds that decide whatever an image says

/**
 * models: {run(name, feeds), kanji, strokes, zNew}. read: {image, note, box}. settings: {samples, seed, temperature, top, forms}; without
 * samples nothing is drawn.
 * rest() is awaited now and then; what it throws ends the reading.
 */
export async function answer(models, read, settings, rest) {
  const {kanji} = models, {samples, seed, top, forms} = settings, temperature = settings.temperature ?? models.strokes.temperature;
  const {z_old, features, ...seen} = await see(models, read.image), found = await models.run('reader', seen);
  const likelihood = found.log_probabilities.data, scores = leading(likelihood, kanji, forms);
  const ranked = order(scores).filter((place) => scores[place] > -Infinity);
  const targets = drawn(scores, ranked[0], seed, samples, kanji.temperature);
  const likely = ranked.slice(0, kanji.likely), share = softmax(likely.map((place) => scores[place]));
  await rest();
  const pictures = await shownOf(models, [...new Set([...targets, ...likely])]), shown = pictures.get(ranked[0]);
  const kana = likeliestKana(found.kana?.data, kanji), probability = Math.exp(scores[ranked[0]]);
  const familiarity = await familiar(models, {...seen, features});
  await rest();
  const jobs = targets.map((place, n) => ({z: models.zNew(place), picture: pictures.get(place), key: foldIn(foldIn(key(seed), n), 1)}));
  const written = await draw(models, models.strokes, jobs, temperature, rest);
  const ranks = written.map(({alike}, n) => scores[targets[n]] + 10 * alike);
  const drawings = order(ranks).map((n) => {
    const points = written[n].strokes.map((stroke) => Array.from({length: stroke.length / 2}, (_, i) => [stroke[2 * i], stroke[2 * i + 1]]));
    const character = kanji.characters[targets[n]];
    return {character, score: round(ranks[n], 4), sample: n,
      strokes: points.map((stroke) => stroke.map((point) => point.map((v) => round(v, 2)))), svg: svgOf(points, character)};
  });
  return {
    verdict: verdictOf(read.image, familiarity, probability, kana, kanji),
    familiarity: familiarity === null ? null : round(familiarity, 4),
    note: read.note, used: read.box,
    candidates: ranked.slice(0, top).map((place) => ({...likelyOf(kanji.characters[place], Math.exp(scores[place])),
      forms: others(place, kanji).sort((a, b) => likelihood[b] - likelihood[a])
        .map((other) => likelyOf(kanji.characters[other], Math.exp(likelihood[other])))})),
    kana: kana && likelyOf(kana.character, kana.probability),
    drawings, image: square(read.image, (v) => v), pixels: square(shown, (v) => round(v, 4)),
    uncertainty: square(deviation(likely.map((place) => pictures.get(place)), share), (v) => round(v, 4)),
    samples: targets.length, seed, temperature, forms, box: models.strokes.box,
  };
}

const round = (v, digits) => Math.round(v * 10 ** digits) / 10 ** digits;
const square = (values, shown) => Array.from({length: 64}, (_, y) => Array.from(values.subarray(64 * y, 64 * y + 64), shown));
const likelyOf = (character, probability) => ({character, code_point: `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}`,
  probability: round(probability, 6)});
const others = (place, {groups}) => (groups.find((group) => group.includes(place)) ?? []).filter((other) => other !== place);

/** Log probabilities of characters: each stands at its leading form, -Infinity at the others. */
export function leading(scores, {groups, modern}, forms = 'as-read') {
  const out = Float64Array.from(scores), sign = {'as-read': 0, 'modern': FAR, 'old': -FAR}[forms];
  const standard = new Set(modern);
  for (const group of groups) {
    const value = (place) => scores[place] + (standard.has(place) ? sign : 0);
    const leader = [...group].sort((a, b) => a - b).reduce((a, b) => (value(b) > value(a) ? b : a));
    const most = Math.max(...group.map((place) => scores[place]));
    const total = most + Math.log(group.reduce((sum, place) => sum + Math.exp(scores[place] - most), 0));
    for (const place of group) out[place] = place === leader ? total : -Infinity;
  }
  return out;
}

/** Places by value, the largest first; of equal ones the first. */
function order(values) {
  return Array.from(values.keys()).sort((a, b) => values[b] - values[a] || a - b);
}

function softmax(values) {
  const most = Math.max(...values), parts = values.map((v) => Math.exp(v - most)), sum = parts.reduce((a, b) => a + b, 0);
  return parts.map((v) => v / sum);
}

/** Which kanji each drawing sets out to be: the likeliest first, then draws. */
function drawn(scores, best, seed, samples, temperature) {
  const logits = Float32Array.from(scores, (v) => v / temperature);
  return Array.from({length: samples}, (_, n) => (n ? categorical(foldIn(key(seed), n), logits) : best));
}

/** The pictures of kanji, by their places. */
async function shownOf(models, places) {
  const pictures = await paint(models, 'painter', 'z_new', places.map(models.zNew));
  return new Map(places.map((place, n) => [place, pictures[n]]));
}

async function familiar(models, seen) {
  if (!models.has('acceptance')) return null;
  const ink = inkNumbers(seen.images.data);
  const out = await models.run('acceptance', {ink: {type: 'float32', dims: [1, ink.length], data: ink}, ...seen});
  return out.familiarity.data[0];
}

function likeliestKana(probabilities, {kana}) {
  if (!probabilities?.length) return null;
  const best = probabilities.indexOf(Math.max(...probabilities));
  return {character: kana[best], probability: probabilities.reduce((a, b) => a + b, 0)};
}

function verdictOf(image, familiarity, probability, kana, {verdict}) {
  const dark = image.reduce((n, v) => n + (v >= verdict.ink), 0);
  if (dark < verdict.fewest || dark > verdict.most * image.length) return 'not a kanji';
  if (kana && kana.probability >= verdict.kana) return 'kana';
  if (familiarity !== null && familiarity < verdict.familiar) return 'not a kanji';
  return probability >= verdict.sure ? 'sure' : 'not sure';
}

/** Standard deviation over pictures, weighted by their shares. */
function deviation(pictures, share) {
  return Float64Array.from({length: CELLS}, (_, at) => {
    const mean = pictures.reduce((sum, picture, k) => sum + share[k] * picture[at], 0);
    return Math.sqrt(pictures.reduce((sum, picture, k) => sum + share[k] * (picture[at] - mean) ** 2, 0));
  });
}
