() => {
  // Brings the record that was opened, or the top of a page that was turned, into view.
  const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
  setTimeout(() => {
    const list = document.getElementById('examples');
    const record = list.querySelector('details[open]');
    (record ?? list).scrollIntoView({block: 'start', behavior: still ? 'auto' : 'smooth'});
    record?.querySelector('summary').focus({preventScroll: true});
  }, 100);
}
