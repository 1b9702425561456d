(run, end) => {
  // At the demo's end, lets Chat ask in the tab that began it, and forgets it; a demo that broke off asks nothing.
  if (!end || sessionStorage.getItem('medcot-demo') !== run) return '';
  sessionStorage.removeItem('medcot-demo');
  return end === run ? run : '';
}
