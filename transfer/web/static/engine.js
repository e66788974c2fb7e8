// Who reads pictures: the server. `kuzushiji-transfer export` writes this file anew, with the browser's own engine (engine/browser.js),
// which has the same functions.
export * from './api.js';
