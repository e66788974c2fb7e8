// What the old VAE sees in a picture, and what the two VAEs paint.

const KEPT = 8; // pictures: both the reading and the old hands ask for one

/** Of a 64x64 image: {images, picture, views, log_variance, features, z_old} as tensors, named as the graphs name them. */
export async function see(models, image) {
  const {seen} = models, name = String.fromCharCode(...image);
  if (!seen.has(name)) {
    const images = {type: 'uint8', dims: [1, 64, 64], data: image}, found = await models.run('encoder', {images});
    const mean = found.views.data.slice(0, found.z_old.data.length); // of the image as it is
    const [data] = await paint(models, 'old_painter', 'z_old', [mean]);
    seen.set(name, {images, picture: {type: 'float32', dims: [1, 64, 64], data}, ...found});
    if (seen.size > KEPT) seen.delete(seen.keys().next().value);
  }
  return seen.get(name);
}

/** The pictures of latents, 4,096 numbers each, ink 1. graph: "painter" or "old_painter"; input: its latents' name. */
export async function paint(models, graph, input, latents) {
  const width = latents[0].length, data = new Float32Array(latents.length * width);
  latents.forEach((row, n) => data.set(row, n * width));
  const {pictures} = await models.run(graph, {[input]: {type: 'float32', dims: [latents.length, width], data}});
  const cells = pictures.data.length / latents.length;
  return latents.map((_, n) => pictures.data.slice(n * cells, (n + 1) * cells));
}
