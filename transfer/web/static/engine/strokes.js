// The stroke decoder writes: the loop of transfer/models/stroke_sampling.py around its two graphs.
import {addInk, coarse, decode, fit, likeness} from './fitting.js';
import {categorical, foldIn, normal, split} from './random.js';

/**
 * Draws one drawing for each job: the first attempt if it is `enough` like the picture, else the one of `attempts` that is most like it,
 * fitted to it. models: {run(name, feeds)}; model: stroke_settings.json. jobs: {z, picture, key} each, of which several may share z and
 * picture (the same arrays). rest() is awaited between steps. Resolves to {strokes, alike} each.
 */
export async function draw(models, model, jobs, temperature, rest) {
  if (!jobs.length) return [];
  const plans = await planned(models, jobs), pages = plans.map(({picture}) => coarse(picture, model.canvas));
  const write = async (wanted) => {
    const drawings = await written(models, model, wanted.map(({job, number}) => ({...plans[job], key: foldIn(jobs[job].key, number)})), temperature, rest);
    return drawings.map((strokes, n) => ({strokes, alike: likeness(strokes, pages[wanted[n].job], model), job: wanted[n].job}));
  };
  const kept = await write(jobs.map((_, job) => ({job, number: 0})));
  const unlike = kept.filter(({alike}) => alike < model.enough), more = Array.from({length: model.attempts - 1}, (_, n) => n + 1);
  for (const other of await write(unlike.flatMap(({job}) => more.map((number) => ({job, number}))))) {
    if (other.alike > kept[other.job].alike) kept[other.job] = other;
  }
  const drawings = [];
  for (const {strokes, alike, job} of kept) {
    await rest();
    const fitted = model.fit_steps ? fit(strokes, pages[job], model) : null;
    drawings.push(fitted ? {strokes: fitted, alike: likeness(fitted, pages[job], model)} : {strokes, alike});
  }
  return drawings;
}

/** The strokes of attempts, all written side by side. attempts: what `planned` knows of the picture, and a key, each. */
async function written(models, model, attempts, temperature, rest) {
  const codes = 2 * model.points;
  const states = attempts.map(({coarse: left, ...plan}) => (
    {...plan, left: left.slice(), code: new Float32Array(codes), end: new Float32Array(2), strokes: []}));
  for (let number = 0; ; number++) {
    const writing = states.filter(({count}) => number < count);
    if (!writing.length) break;
    await rest();
    const out = await models.run('stroke_step', {
      code: rows(writing, 'code'), end: rows(writing, 'end'),
      first: {type: 'float32', dims: [writing.length], data: new Float32Array(writing.length).fill(number === 0)},
      count_left: {type: 'int32', dims: [writing.length], data: Int32Array.from(writing, ({count}) => count - number)},
      ink_left: rows(writing, 'left'), h: rows(writing, 'h'), c: rows(writing, 'c'),
      context: rows(writing, 'context'), features: rows(writing, 'features', model.grid ** 2, -1),
    });
    writing.forEach((state, n) => step(state, n, number, out, model, temperature));
  }
  return states.map(({strokes}) => strokes);
}

/** Rows of the states, one below the other; a side of -1 is what is left. */
function rows(states, name, ...sides) {
  const [{[name]: {length}}] = states, data = new Float32Array(states.length * length);
  states.forEach((state, n) => data.set(state[name], n * length));
  const known = sides.reduce((product, side) => product * Math.abs(side), 1);
  const shape = sides.length ? sides.map((side) => (side === -1 ? length / known : side)) : [length];
  return {type: 'float32', dims: [states.length, ...shape], data};
}

/** What is known before the first stroke, worked out once for each picture. */
async function planned(models, jobs) {
  const unique = [...new Set(jobs.map(({z}) => z))].map((z) => jobs.find((job) => job.z === z));
  const out = await models.run('stroke_plan', {z_new: rows(unique, 'z'), pictures: rows(unique, 'picture', 64, 64)});
  const plans = new Map(unique.map(({z, picture}, n) => {
    const {count, ...seen} = out, part = ([name, {data}]) => [name, row(data, n, data.length / unique.length)];
    return [z, {picture, count: count.data[n], ...Object.fromEntries(Object.entries(seen).map(part))}];
  }));
  return jobs.map(({z}) => plans.get(z));
}

const row = (data, n, size) => data.slice(n * size, (n + 1) * size);

/** The next stroke of an attempt: row n of what the step gave. */
function step(state, n, number, out, model, temperature) {
  const {points, grid} = model, codes = 2 * points, mixtures = out.log_weights.dims[1], units = out.h_next.dims[1];
  state.h = row(out.h_next.data, n, units);
  state.c = row(out.c_next.data, n, units);
  const [mixture, noise] = split(foldIn(state.key, number)), random = normal(noise, codes);
  const chosen = categorical(mixture, row(out.log_weights.data, n, mixtures).map((v) => v / temperature)), at = (n * mixtures + chosen) * codes;
  state.code = random.map((v, i) => out.means.data[at + i] + Math.sqrt(temperature) * Math.exp(out.log_scales.data[at + i]) * v);
  const stroke = decode(model, state.code), ink = new Float64Array(grid * grid);
  state.strokes.push(stroke);
  state.end = Float32Array.from(stroke.subarray(codes - 2));
  addInk(ink, stroke, 4, grid, model);
  ink.forEach((v, i) => (state.left[i] -= v));
}
