async () => {
  // Says on the button itself that it has copied.
  const button = document.getElementById('$button'), label = button.innerText;
  await navigator.clipboard.writeText(document.querySelector('#$text pre').innerText);
  if (label === 'Copied') return;
  button.innerText = 'Copied';
  setTimeout(() => { button.innerText = label; }, 2000);
}
