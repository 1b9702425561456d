() => {
  // Brings the result of a click into view.
  const [result, problems] = ['$result', 'train-problems'].map(id => document.getElementById(id));
  (problems?.innerText.trim() ? problems : result)?.scrollIntoView({block: 'center', behavior: 'smooth'});
}
