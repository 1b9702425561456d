() => {
  // Ends the wait of Start, and brings the result of the click into view.
  delete document.getElementById('start').dataset.busy;
  const [live, problems] = ['live', 'train-problems'].map(id => document.getElementById(id));
  (problems?.innerText.trim() ? problems : live)?.scrollIntoView({block: 'center', behavior: 'smooth'});
}
