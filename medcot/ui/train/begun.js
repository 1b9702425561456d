() => {
  // Ends the wait of Start, and brings the result of a click into view.
  delete document.getElementById('start').dataset.busy;
  const [result, problems] = ['$result', 'train-problems'].map(id => document.getElementById(id));
  (problems?.innerText.trim() ? problems : result)?.scrollIntoView({block: 'center', behavior: 'smooth'});
}
