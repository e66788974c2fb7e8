// The server's routes: the engine that reads where there is a server (see engine.js).

export const place = 'server';

/** What went wrong: `key` names the text for readers, `values` what is put into it, `detail` is the server's own line. */
export class Refused extends Error {
  constructor(key, detail = '', values = {}) {
    super(detail || key);
    Object.assign(this, {key, detail, values});
  }
}

const KEYS = {400: 'error-picture', 413: 'error-large', 415: 'error-kind', 503: 'error-busy'};
const PATIENCE = 8; // times that a busy server is asked again

/** The answer for `body` (Blob, or 4,096 bytes with settings.pixels). `waits(key, values)` is told why it takes longer. */
export async function transfer(body, settings, signal, waits) {
  const query = new URLSearchParams(Object.entries(settings));
  for (let tries = 0; ; tries++) {
    const response = await ask(`api/transfer?${query}`, {method: 'POST', body, signal});
    if (response.ok) return response.json();
    if (response.status === 503 && tries < PATIENCE) {
      const seconds = Math.min(Number(response.headers.get('Retry-After')) || 1, 30);
      waits('waiting', {seconds});
      await pause(1000 * seconds * (1 + Math.random() / 4), signal);
      continue;
    }
    const {error} = await response.json().catch(() => ({}));
    throw new Refused(KEYS[response.status] ?? 'error-other', error);
  }
}

/** How old hands wrote the characters of the text `of`, nearest to the picture `body` first: {source, attribution, hands}; source is null
    where there are none. */
export async function oldHands(body, of, settings = {}) {
  const response = await ask(`api/old-hands?${new URLSearchParams({of, ...settings})}`, {method: 'POST', body});
  if (response.status === 404) return {source: null, attribution: '', hands: {}};
  if (!response.ok) throw new Refused('error-other');
  return response.json();
}

/** A picture that the browser cannot show, as PNG. */
export async function picture(blob) {
  return (await pageOfFile(blob, 1)).blob;
}

/** Page `number` of a PDF or TIFF, from 1 on, as PNG, and how many there are: {blob, pages}. */
export async function pageOfFile(blob, number) {
  const response = await ask(`api/picture?page=${number}`, {method: 'POST', body: blob});
  if (response.ok) return {blob: await response.blob(), pages: Number(response.headers.get('Pages')) || 1};
  const {error} = await response.json().catch(() => ({}));
  throw new Refused(KEYS[response.status] ?? 'error-other', error);
}

/** {limits, temperature, examples}: what the page shows before the first picture. */
export async function begin() {
  const [{limits, temperature}, examples] = await Promise.all([get('api/health'), get('api/examples')]);
  return {limits, temperature, examples};
}

async function get(path) {
  const response = await ask(path);
  if (!response.ok) throw new Refused('error-other');
  return response.json();
}

export async function bytes(url) {
  return (await ask(url)).blob();
}

async function ask(url, options) {
  try {
    return await fetch(url, options);
  } catch (error) {
    throw error.name === 'AbortError' ? error : new Refused('error-offline');
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, {once: true});
  });
}
