// Beside the page: the models read and draw, one picture after another, so that the page stays quick.
import {ImageError, readFile} from './door.js';
import {oldHands} from './hands.js';
import {Lacking, load} from './models.js';
import {answer} from './reading.js';

const KEYS = {picture: 'error-picture', large: 'error-large', kind: 'error-kind'};
const gone = new Set();
let models = null, turn = Promise.resolve(), asked = 0, warm = false;

onmessage = ({data: {id, ask, ...values}}) => {
  if (ask === 'cancel') gone.add(id);
  else {
    asked++;
    turn = turn.then(() => work(id, ask, values));
  }
};

async function work(id, ask, values) {
  try {
    if (!gone.has(id)) postMessage({id, answer: await ANSWERS[ask](values, () => rest(id))});
  } catch (error) {
    if (error !== gone) postMessage({id, error: told(error)});
  }
  gone.delete(id);
  asked--;
}

function told(error) {
  if (error instanceof ImageError) return {key: KEYS[error.kind], detail: error.message};
  if (error instanceof Lacking) return {key: error.key, values: error.values, detail: error.detail};
  console.error(error);
  return {key: 'error-other', detail: String(error)};
}

/** Lets messages in; ends what nobody waits for any more. */
async function rest(id) {
  await new Promise((resolve) => {
    const {port1, port2} = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(0);
  });
  if (gone.has(id)) throw gone;
}

/** body: a picture's file, or 4,096 bytes as they were read. */
async function opened(body) {
  return body instanceof Blob ? readFile(body) : {image: body, note: '', box: [0, 0, 64, 64]};
}

const ANSWERS = {
  async load({site}) {
    models = await load(site);
  },
  async transfer({body, settings}, breathe) {
    warm = true;
    return answer(models, await opened(body), settings, breathe);
  },
  /** Reads a picture for practice: a model's first run takes longest. Ends as soon as something is asked. */
  async warm({body, settings}, breathe) {
    if (warm) return;
    const free = async () => {
      await breathe();
      if (asked > 1) throw gone;
    };
    await answer(models, await opened(body), settings, free).catch((error) => {
      if (error !== gone) throw error;
    });
    warm = asked === 1;
  },
  async oldHands({body, of}, breathe) {
    return oldHands(models, (await opened(body)).image, of, breathe);
  },
  read: ({blob}) => readFile(blob),
};
