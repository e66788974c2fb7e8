// What is kept in this browser between visits: the page's file and the work on it, in IndexedDB. Nothing of it is sent anywhere.

const NAME = 'kuzushiji-page', STORE = 'work';

/** Whether this tab may keep the work: false where another tab of this page does. Held until the tab is closed. */
export function claim() {
  // Without https or localhost there are no locks, and two tabs overwrite each other.
  if (!navigator.locks) return Promise.resolve(true);
  return new Promise((resolve) => {
    navigator.locks.request(NAME, {ifAvailable: true}, (lock) => {
      resolve(Boolean(lock));
      return lock && new Promise(() => {});
    }).catch(() => resolve(true));
  });
}

function open() {
  return new Promise((resolve, reject) => {
    const asked = indexedDB.open(NAME, 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore(STORE);
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
    asked.onblocked = () => reject(new Error('blocked'));
  });
}

async function within(mode, act) {
  const base = await open();
  try {
    return await new Promise((resolve, reject) => {
      const turn = base.transaction(STORE, mode);
      const asked = act(turn.objectStore(STORE));
      turn.oncomplete = () => resolve(asked?.result);
      turn.onerror = turn.onabort = () => reject(turn.error ?? new Error('aborted'));
    });
  } finally {
    base.close();
  }
}

/** Keeps values by their names. Rejects where the browser has no room or forbids it. */
export function keep(values) {
  return within('readwrite', (store) => {
    for (const [name, value] of Object.entries(values)) store.put(value, name);
  });
}

export function kept(name) {
  return within('readonly', (store) => store.get(name));
}

export function forget() {
  return within('readwrite', (store) => store.clear());
}
