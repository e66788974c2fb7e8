// IIIF: what stands behind an address that a reader enters. Manifests of Presentation 2 and 3, images of Image API 2 and 3. No DOM and no
// requests: runs under node as well. A manifest may come from anywhere: what is taken from it are texts, and web addresses that are checked.

const PAGES = 20_000; // of a manifest
const LONGEST = 200; // letters of a title or label

/** Why an address leads to no page: `key` names the text for readers, `values` what is put into it. */
export class NoPage extends Error {
  constructor(key, values = {}) {
    super(key);
    Object.assign(this, {key, values});
  }
}

/** The address in a text, as it is or behind `manifest=` or `iiif-content=` of a viewer's address. Throws NoPage. */
export function addressOf(text) {
  const url = web(text.trim());
  if (!url) throw new NoPage('address-wrong');
  for (const name of ['manifest', 'iiif-content']) {
    const inside = web(url.searchParams.get(name) ?? '') ?? web(new URLSearchParams(url.hash.replace(/^#\??/, '')).get(name) ?? '');
    if (inside) return inside.href;
  }
  return url.href;
}

/** Where else the same may be found: an image's description beside its bare address. null where there is no such place. */
export function describedAt(address) {
  const url = new URL(address);
  const last = url.pathname.split('/').at(-1);
  if (url.search || /\.[a-z0-9]{1,5}$/i.test(last) || last === 'manifest') return null;
  return `${url.origin}${url.pathname.replace(/\/$/, '')}/info.json`;
}

/** What a JSON document is: 'manifest', 'image', 'collection', or '' for anything else. */
export function kindOf(found) {
  if (!plain(found)) return '';
  const type = String(found.type ?? found['@type'] ?? '');
  if (/Manifest$/.test(type)) return 'manifest';
  if (/Collection$/.test(type)) return 'collection';
  return versionOf(found) || found.protocol !== undefined && /iiif\.io\/api\/image/.test(String(found.protocol)) ? 'image' : '';
}

/** {title, rights, pages: [{label, picture, service}]} of a manifest: picture and service are addresses or null. Throws NoPage. */
export function readManifest(manifest, language = 'en') {
  const three = Array.isArray(manifest.items);
  const canvases = three ? manifest.items : list(list(manifest.sequences)[0]?.canvases);
  const pages = canvases.slice(0, PAGES).map((canvas, i) => {
    if (!plain(canvas)) return null;
    const body = three ? first(list(first(list(canvas.items))?.items)[0]?.body) : first(list(canvas.images)[0]?.resource);
    // Of several (Choice) the first is the one that is shown at the beginning.
    const picture = plain(body) ? plain(body.default) ? body.default : /Choice$/.test(body.type) ? first(body.items) : body : null;
    if (!plain(picture)) return null;
    const service = list(picture.service).find(isService);
    const found = {label: textIn(canvas.label, language) || String(i + 1),
      picture: web(picture.id ?? picture['@id'])?.href ?? null, service: web(service?.id ?? service?.['@id'])?.href.replace(/\/$/, '') ?? null};
    return found.picture || found.service ? found : null;
  }).filter(Boolean);
  if (!pages.length) throw new NoPage('iiif-empty');
  const {requiredStatement, attribution, rights, license} = manifest;
  const terms = [plain(requiredStatement) ? requiredStatement.value : attribution, rights ?? license].map((value) => textIn(value, language));
  return {title: textIn(manifest.label, language), rights: terms.filter(Boolean).join(' · '), pages};
}

/** The address of an image as a whole, at most `most` pixels a side, from its description (info.json). Throws NoPage. */
export function imageAddress(info, most) {
  const version = versionOf(info), id = web(info.id ?? info['@id'])?.href.replace(/\/$/, '');
  const {width, height} = info;
  if (!id || ![width, height].every((v) => Number.isInteger(v) && v > 0)) throw new NoPage('iiif-damaged');
  if (version !== 2 && version !== 3) throw new NoPage('iiif-version');
  const all = version === 3 ? 'max' : 'full';
  const profiles = list(info.profile), limits = plain(profiles[1]) ? {...profiles[1], ...info} : info;
  const number = (value) => (Number.isFinite(value) && value > 0 ? value : Infinity);
  const scale = Math.min(1, most / Math.max(width, height), number(limits.maxWidth) / width,
    number(limits.maxHeight ?? limits.maxWidth) / height, Math.sqrt(number(limits.maxArea) / width / height));
  let size = scale === 1 ? all : `${Math.max(1, Math.floor(width * scale))},`;
  if (/level0/.test(String(profiles[0])) && scale < 1) {
    // It gives the sizes that it lists, and no others.
    const sizes = list(info.sizes).filter((one) => plain(one) && Number.isInteger(one.width) && one.width > 0 && one.width <= width * scale);
    const {width: largest, height: its} = sizes.sort((a, b) => b.width - a.width)[0] ?? {};
    size = !largest ? all : version === 3 && Number.isInteger(its) ? `${largest},${its}` : `${largest},`;
  }
  return `${id}/full/${size}/0/default.jpg`;
}

function versionOf({'@context': context, type, profile}) {
  const text = [...list(context), type, ...list(profile)].filter((v) => typeof v === 'string').join(' ');
  return Number(/iiif\.io\/api\/image\/(\d)/.exec(text)?.[1] ?? /\bImageService(\d)/.exec(text)?.[1] ?? 0);
}

function isService(service) {
  return plain(service) && (/^ImageService\d/.test(service.type ?? service['@type'] ?? '')
    || /iiif\.io\/api\/image/.test(JSON.stringify([service['@context'] ?? '', service.profile ?? '', service.protocol ?? ''])));
}

/** A text in one of the ways in which manifests have it, in the language where it is there; without marks of HTML. */
function textIn(value, language) {
  const inside = (v) => (Array.isArray(v) ? inside(v.find((one) => one?.['@language'] === language) ?? v[0])
    : plain(v) ? inside(v['@value'] ?? v[language] ?? v.none ?? Object.values(v)[0]) : ['string', 'number'].includes(typeof v) ? String(v) : '');
  return inside(value).replace(/<[^>]*>/g, '').replace(/\s+/g, ' ').trim().slice(0, LONGEST);
}

/** A web address, null for anything else. */
function web(value) {
  try {
    const url = new URL(value);
    return /^https?:$/.test(url.protocol) ? url : null;
  } catch {
    return null;
  }
}

const plain = (v) => typeof v === 'object' && v !== null && !Array.isArray(v);
const list = (v) => (Array.isArray(v) ? v : v === undefined || v === null ? [] : [v]);
const first = (v) => (Array.isArray(v) ? v[0] : v);
