(run) => {
  // Remembers, for this tab of the browser alone, that it began the demo, and brings the run into view.
  delete document.getElementById('demo')?.dataset.busy;
  if (run) sessionStorage.setItem('medcot-demo', run);
  document.getElementById('live')?.scrollIntoView({block: 'center', behavior: 'smooth'});
}
