// A drawing as a link: the 64x64 image as read, deflated, and the numbers that it was drawn with, all behind the '#'.

const FORMS = ['as-read', 'modern', 'old'];

/** settings: {seed, samples, temperature, drawing, forms}, drawing the one that is chosen; image: 4,096 bytes. */
export async function pack(image, settings) {
  const packed = new Uint8Array(await piped(image, new CompressionStream('deflate-raw')));
  const text = btoa(String.fromCharCode(...packed)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
  const {seed, samples, temperature, drawing, forms = FORMS[0]} = settings;
  const form = forms === FORMS[0] ? '' : `&forms=${forms}`;
  return `#v=1&seed=${seed}&samples=${samples}&temperature=${temperature}&drawing=${drawing}${form}&image=${text}`;
}

/** {image, settings} of a link's fragment, null where it is none. Throws where it is damaged. */
export async function unpack(fragment) {
  const fields = new URLSearchParams(fragment.replace(/^#/, ''));
  if (!fields.has('image')) return null;
  const text = atob(fields.get('image').replaceAll('-', '+').replaceAll('_', '/'));
  const image = new Uint8Array(await piped(Uint8Array.from(text, (c) => c.charCodeAt(0)), new DecompressionStream('deflate-raw')));
  const settings = Object.fromEntries(['seed', 'samples', 'temperature', 'drawing'].map((name) => [name, Number(fields.get(name))]));
  const forms = fields.get('forms') ?? FORMS[0];
  if (!FORMS.includes(forms) || image.length !== 4096 || fields.get('v') !== '1' || !Object.values(settings).every(Number.isFinite)) throw new Error('damaged');
  return {image, settings: {...settings, forms}};
}

async function piped(data, through) {
  // No more than an image and a byte: a link that unpacks to gigabytes is damaged too.
  const reader = new Blob([data]).stream().pipeThrough(through).getReader();
  const parts = [];
  let size = 0;
  for (let part; !(part = await reader.read()).done;) {
    parts.push(part.value);
    size += part.value.length;
    if (size > 65536) throw new Error('damaged');
  }
  return new Blob(parts).arrayBuffer();
}
