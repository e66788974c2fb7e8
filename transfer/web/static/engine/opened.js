// A page that is opened as a file may load nothing: that is said here, as no module is there to say it.
if (location.protocol === 'file:') {
  addEventListener('DOMContentLoaded', () => {
    const line = (lang, text) => Object.assign(document.createElement('p'), {lang, textContent: text, className: 'problem'});
    document.querySelector('header').after(
      line('en', 'Browsers run this page from a web server only. In the folder that holds it: python -m http.server'),
      line('ja', 'このページはウェブサーバーから開いてください。フォルダーの中で：python -m http.server'));
  });
}
