// The service worker of an exported folder: keeps its files, so that the page opens without a network. A new export is another version.
const LIST = 'site.json';

self.addEventListener('install', (event) => event.waitUntil(keep()));
self.addEventListener('activate', (event) => event.waitUntil(drop()));
self.addEventListener('fetch', (event) => {
  const {request} = event;
  if (request.method === 'GET' && request.url.startsWith(self.registration.scope)) event.respondWith(found(request));
});

/** All files or none. */
async function keep() {
  const response = await fetch(LIST, {cache: 'no-store'}), {version, files} = await response.clone().json();
  const cache = await caches.open(name(version));
  for (const {path, size} of files) {
    const answer = await fetch(path, {cache: 'no-cache'});
    if (!answer.ok || (await answer.clone().blob()).size !== size) {
      await caches.delete(name(version));
      throw new Error(`${path}: missing or cut`);
    }
    await cache.put(path, answer);
  }
  await cache.put(LIST, response);
}

/** What earlier exports kept. */
async function drop() {
  const {version} = await (await newest()).json();
  for (const other of await caches.keys()) if (other.startsWith(name('')) && other !== name(version)) await caches.delete(other);
}

/** The list that was kept last. */
async function newest() {
  const names = (await caches.keys()).filter((other) => other.startsWith(name('')));
  return (await caches.open(names.at(-1))).match(LIST);
}

async function found(request) {
  const asked = new URL(request.url);
  if (asked.pathname.endsWith('/')) asked.pathname += 'index.html';
  asked.search = asked.hash = '';
  asked.pathname = decodeURIComponent(asked.pathname); // U%2B82B1 is U+82B1
  return (await caches.match(asked)) ?? fetch(request);
}

/** Each folder of one server has its own. */
function name(version) {
  return `kuzushiji ${self.registration.scope} ${version}`;
}
