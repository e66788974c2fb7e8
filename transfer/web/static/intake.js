// Files as they come to either page: chosen, photographed or dropped.

const $ = (id) => document.getElementById(id);

/** take(file, name) gets each file; refuse(key) is told what was wrong with a drop; `over` marks the stage below a file. */
export function receive(stage, take, refuse) {
  for (const id of ['file', 'camera']) {
    $(id).addEventListener('change', ({target}) => {
      take(target.files[0], target.files[0]?.name);
      target.value = ''; // so that the same file can be chosen again
    });
  }
  $('camera').parentElement.hidden = !navigator.maxTouchPoints;
  document.addEventListener('dragover', (event) => {
    event.preventDefault();
    stage.classList.add('over');
  });
  document.addEventListener('dragleave', (event) => {
    if (!event.relatedTarget) stage.classList.remove('over');
  });
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    stage.classList.remove('over');
    const [file] = event.dataTransfer.files;
    if (file) take(file, file.name);
    else refuse('drop-nothing');
  });
}
