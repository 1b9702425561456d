() => {
  // Copies what is shown, so that blinded text stays blinded; `older` is for pages without https.
  const panel = document.querySelector('#panel-$side');
  const part = (id) => (panel.querySelector(id + ' .mc-text') || {innerText: ''}).innerText;
  const text = panel.querySelector('h2').innerText + '\n\nReasoning:\n' + part('#$side-reasoning')
    + '\n\nAnswer:\n' + part('#$side-answer') + '\n\n$notice';
  const older = () => {
    const box = document.createElement('textarea');
    box.value = text; document.body.append(box); box.select(); document.execCommand('copy'); box.remove();
  };
  if (navigator.clipboard) navigator.clipboard.writeText(text).catch(older); else older();
  return 'Copied, with the words “$notice”';
}
