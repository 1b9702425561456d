// A click chooses a run, ticks choose those to compare, arrow keys go from row to row. What is marked is drawn here, so
// that the list is the same for all who look; one that comes anew keeps the focus where it was.
const all = kind => [...element.querySelectorAll(kind)], named = one => one.dataset.run ?? one.value;
const set = (one, name, value) => one.getAttribute(name) === value || one.setAttribute(name, value);
let held = '', kind = ''; // the run whose link or box has the focus
medcot.ticked = '';
medcot.draw = () => {
  const rows = all('.mc-run'), ticked = medcot.ticked.split('/').filter(Boolean);
  const stop = named(rows.find(row => named(row) === medcot.run()) ?? rows[0] ?? element);
  for (const row of rows) {
    set(row, 'aria-current', String(named(row) === medcot.run()));
    set(row, 'tabindex', named(row) === stop ? '0' : '-1'); // one of all is in the way of the Tab key
  }
  for (const box of all('.mc-tick')) {
    box.checked = ticked.includes(box.value);
    box.disabled = !box.checked && ticked.length >= $most;
    set(box, 'tabindex', box.value === stop ? '0' : '-1');
  }
  const at = document.activeElement;
  if (!held || (element.contains(at) ? named(at) === held : at !== document.body)) return;
  all(kind).find(one => named(one) === held)?.focus({preventScroll: true});
};
// Gradio writes a new list into the old one's elements: the same element may be another run's then.
new MutationObserver(medcot.draw).observe(element, {childList: true, subtree: true, attributeFilter: ['data-run', 'aria-current', 'tabindex']});
element.addEventListener('focusin', event => {
  [held, kind] = [named(event.target), event.target.matches('.mc-tick') ? '.mc-tick' : '.mc-run'];
});
element.addEventListener('focusout', event => { if (event.relatedTarget) held = ''; });
element.addEventListener('click', event => {
  const run = event.target.closest('.mc-run');
  // A plain click chooses the run on this page; any other goes by the link's address.
  if (!run || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  medcot.pick(named(run));
});
element.addEventListener('change', event => {
  const others = medcot.ticked.split('/').filter(one => one && one !== event.target.value);
  medcot.ticked = [...others, ...(event.target.checked ? [event.target.value] : [])].join('/');
  trigger('select');
});
element.addEventListener('keydown', event => {
  const row = event.target.closest('li'), rows = row ? [...row.parentElement.children] : [], here = rows.indexOf(row);
  const to = rows[{ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: rows.length - 1}[event.key]];
  if (!to) return;
  event.preventDefault();
  to.querySelector(event.target.matches('.mc-tick') ? '.mc-tick' : '.mc-run').focus();
});
medcot.pick = run => {
  if (!run) return;
  medcot.picked = run;
  document.querySelector('.mc-parts [role=tab]')?.click(); // not the data and plan of the next one
  trigger('click');
  medcot.chosenAtSide();
};
