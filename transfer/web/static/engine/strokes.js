// The stroke decoder writes: the loop of transfer/models/stroke_sampling.py around its two graphs.
import {addInk, coarse, decode, fit, likeness} from './fitting.js';
import {categorical, foldIn, normal, split} from './random.js';

/**
 * Draws one drawing for each job. models: {run(name, feeds)}; model: stroke_settings.json. jobs: {z, picture, key} each, of which
 * several may share z and picture (the same arrays). rest() is awaited between steps. Resolves to {strokes, alike} each.
 */
export async function draw(models, model, jobs, temperature, rest) {
  if (!jobs.length) return [];
  const {attempts, points, grid} = model, codes = 2 * points, cells = grid * grid;
  const plans = await planned(models, jobs);
  const states = jobs.map((job, n) => {
    const {count, h, c, ...seen} = plans[n], again = (row) => Float32Array.from({length: attempts * row.length}, (_, i) => row[i % row.length]);
    return {...seen, count, h: again(h), c: again(c), code: new Float32Array(attempts * codes), end: new Float32Array(attempts * 2),
      left: again(seen.coarse), keys: Array.from({length: attempts}, (_, a) => foldIn(job.key, a)),
      strokes: Array.from({length: attempts}, () => [])};
  });
  for (let number = 0; ; number++) {
    const writing = states.filter(({count}) => number < count);
    if (!writing.length) break;
    await rest();
    const out = await models.run('stroke_step', {
      code: rows(writing, 'code', attempts, codes), end: rows(writing, 'end', attempts, 2),
      first: {type: 'float32', dims: [writing.length, attempts], data: new Float32Array(writing.length * attempts).fill(number === 0)},
      count_left: {type: 'int32', dims: [writing.length, attempts],
        data: Int32Array.from({length: writing.length * attempts}, (_, i) => writing[Math.floor(i / attempts)].count - number)},
      ink_left: rows(writing, 'left', attempts, cells), h: rows(writing, 'h', attempts, -1), c: rows(writing, 'c', attempts, -1),
      context: rows(writing, 'context', -1), features: rows(writing, 'features', cells, -1),
    });
    writing.forEach((state, n) => step(state, n, number, out, model, temperature));
  }
  return states.map((state, n) => finish(state.strokes, coarse(jobs[n].picture, model.canvas), model));
}

/** Rows of the states, one below the other; a side of -1 is what is left. */
function rows(states, name, ...sides) {
  const [{[name]: {length}}] = states, data = new Float32Array(states.length * length);
  states.forEach((state, n) => data.set(state[name], n * length));
  const known = sides.reduce((product, side) => product * Math.abs(side), 1);
  return {type: 'float32', dims: [states.length, ...sides.map((side) => (side === -1 ? length / known : side))], data};
}

/** What is known before the first stroke, worked out once for each picture. */
async function planned(models, jobs) {
  const unique = [...new Set(jobs.map(({z}) => z))].map((z) => jobs.find((job) => job.z === z));
  const out = await models.run('stroke_plan', {z_new: rows(unique, 'z', -1), pictures: rows(unique, 'picture', 64, 64)});
  const part = (name, n) => {
    const {data} = out[name], size = data.length / unique.length;
    return data.slice(n * size, (n + 1) * size);
  };
  const plans = new Map(unique.map(({z}, n) => [z, {count: out.count.data[n], coarse: part('coarse', n), context: part('context', n),
    features: part('features', n), h: part('h', n), c: part('c', n)}]));
  return jobs.map(({z}) => plans.get(z));
}

/** The next stroke of each attempt at one drawing: row n of what the step gave. */
function step(state, n, number, out, model, temperature) {
  const {attempts, points, grid} = model, codes = 2 * points, mixtures = out.log_weights.dims[2], units = out.h_next.dims[2];
  state.h = out.h_next.data.slice(n * attempts * units, (n + 1) * attempts * units);
  state.c = out.c_next.data.slice(n * attempts * units, (n + 1) * attempts * units);
  for (let a = 0; a < attempts; a++) {
    const row = n * attempts + a, [mixture, noise] = split(foldIn(state.keys[a], number));
    const chosen = categorical(mixture, out.log_weights.data.slice(row * mixtures, (row + 1) * mixtures).map((v) => v / temperature));
    const at = (row * mixtures + chosen) * codes, random = normal(noise, codes), code = state.code.subarray(a * codes, (a + 1) * codes);
    for (let i = 0; i < codes; i++) {
      code[i] = out.means.data[at + i] + Math.sqrt(temperature) * Math.exp(out.log_scales.data[at + i]) * random[i];
    }
    const stroke = decode(model, code);
    state.strokes[a].push(stroke);
    state.end.set(stroke.subarray(codes - 2), 2 * a);
    const ink = new Float64Array(grid * grid);
    addInk(ink, stroke, 4, grid, model);
    ink.forEach((v, i) => (state.left[a * ink.length + i] -= v));
  }
}

/** The first attempt if it is like enough to the picture, else the one that is most like it, fitted to it. */
function finish(drawings, page, model) {
  const alike = drawings.map((strokes) => likeness(strokes, page, model));
  const chosen = alike[0] >= model.enough ? 0 : alike.indexOf(Math.max(...alike));
  let strokes = drawings[chosen];
  if (!model.fit_steps) return {strokes, alike: alike[chosen]};
  strokes = fit(strokes, page, model);
  return {strokes, alike: likeness(strokes, page, model)};
}
